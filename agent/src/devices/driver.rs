//! The calls of a driver of dynamic resource allocation, v1 or v1beta1: these differ in their path alone.

use crate::plugins::{self, Plugin};
use http::uri::PathAndQuery;
use skiff_proto::kubelet::dra;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// By the name that a plugin gives at its registration, the newest first, with that on the wire.
const SERVICES: [(&str, &str); 2] = [
    ("v1.DRAPlugin", "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"),
    ("v1beta1.DRAPlugin", "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin"),
];
/// kubelet's.
const CALL_MAX: Duration = Duration::from_secs(45);

#[derive(Debug, Clone)]
pub struct Driver {
    channel: Channel,
    service: &'static str,
    pub plugin: Plugin,
    /// Gone when it is no longer registered.
    pub registered: Arc<()>,
}

impl Driver {
    pub fn new(plugin: Plugin) -> Result<Self, String> {
        let service = service(&plugin.versions).map_err(|why| {
            let (name, endpoint) = (&plugin.name, plugin.endpoint.display());
            format!("invalid supported gRPC versions of DRA driver plugin {name} at endpoint {endpoint}: {why}")
        })?;
        Ok(Self {
            channel: plugins::channel(Path::new(&plugin.endpoint)),
            service,
            plugin,
            registered: Arc::new(()),
        })
    }

    pub async fn prepare(&self, claims: Vec<dra::Claim>) -> Result<dra::NodePrepareResourcesResponse, tonic::Status> {
        self.call("NodePrepareResources", dra::NodePrepareResourcesRequest { claims })
            .await
    }

    pub async fn unprepare(
        &self,
        claims: Vec<dra::Claim>,
    ) -> Result<dra::NodeUnprepareResourcesResponse, tonic::Status> {
        self.call("NodeUnprepareResources", dra::NodeUnprepareResourcesRequest { claims })
            .await
    }

    async fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let path = PathAndQuery::try_from(format!("/{}/{method}", self.service));
        let path = path.map_err(|error| tonic::Status::internal(error.to_string()))?;
        let mut grpc = Grpc::new(self.channel.clone());
        let work = async {
            grpc.ready()
                .await
                .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
            grpc.unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default())
                .await
        };
        let answer = tokio::time::timeout(CALL_MAX, work).await;
        let answer = answer.map_err(|_| tonic::Status::deadline_exceeded("context deadline exceeded"))??;
        Ok(answer.into_inner())
    }
}

fn service(versions: &[String]) -> Result<&'static str, String> {
    if versions.is_empty() {
        return Err("empty list of supported gRPC services (aka supported versions)".into());
    }
    let found = SERVICES
        .iter()
        .find(|(name, _)| versions.iter().any(|version| version == name));
    found.map(|(_, service)| *service).ok_or_else(|| {
        format!("none of services supported by the plugin ({versions:?}) are supported by the kubelet ([\"v1.DRAPlugin\" \"v1beta1.DRAPlugin\"])")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_service_is_used() {
        let of = |versions: &[&str]| service(&versions.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["v1beta1.DRAPlugin", "v1.DRAPlugin"]), Ok(SERVICES[0].1));
        assert_eq!(of(&["v1beta1.DRAPlugin"]), Ok(SERVICES[1].1));
        assert!(of(&[]).is_err() && of(&["1.0.0"]).is_err());
    }
}
