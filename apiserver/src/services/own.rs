//! The Services that the server itself keeps: `kubernetes` with its endpoints,
//! `kube-dns`, and the ServiceCIDR they are taken from.

use super::plan::nth;
use crate::handler::Change;
use crate::server::{ApiServer, ServerError};
use serde_json::{Value, json};
use skiff_api::ApiError;

/// Place of the cluster's DNS server in the service network, as everywhere.
const DNS_OFFSET: u64 = 10;

impl ApiServer {
    pub(crate) async fn bootstrap_services(&self) -> Result<(), ServerError> {
        let cidrs: Vec<String> = self.config.service_cidrs.iter().map(ToString::to_string).collect();
        let Some(first) = self.config.service_cidrs.first() else {
            return Err(ApiError::internal("the configuration names no service network").into());
        };
        let address = |n| {
            nth(first, n)
                .map(|ip| ip.to_string())
                .ok_or_else(|| ApiError::internal(format!("the service network {first} is too small")))
        };
        let cidr = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
        self.ensure("networking.k8s.io", "servicecidrs", "", cidr).await?;
        self.ensure(
            "",
            "services",
            "default",
            kubernetes_service(&address(1)?, self.config.advertise_port),
        )
        .await?;
        self.ensure("", "services", "kube-system", dns_service(&address(DNS_OFFSET)?))
            .await?;
        self.keep_endpoints().await
    }

    /// Where the server is reached, as Endpoints and EndpointSlice.
    async fn keep_endpoints(&self) -> Result<(), ServerError> {
        let ip = self.config.advertise_address;
        let (address, port) = (ip.to_string(), self.config.advertise_port);
        let subsets =
            json!([{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]);
        let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
        let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels}, "subsets": subsets});
        self.keep("", "endpoints", endpoints, &["subsets"]).await?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        });
        self.keep("discovery.k8s.io", "endpointslices", slice, &["endpoints", "ports"])
            .await
    }

    /// Creates the object, or sets these of its fields where they differ.
    async fn keep(&self, group: &str, plural: &str, object: Value, fields: &[&str]) -> Result<(), ServerError> {
        self.ensure(group, plural, "default", object.clone()).await?;
        let kind = self
            .catalog
            .resource(group, plural)
            .ok_or_else(|| ApiError::internal(format!("unknown resource {plural}")))?;
        self.modify(kind, "default", "kubernetes", false, |old, _| {
            let mut new = old.clone();
            for field in fields {
                new[*field] = object[*field].clone();
            }
            kind.strategy.default(&mut new);
            Ok(if new == *old { Change::Keep } else { Change::Write(new) })
        })
        .await?;
        Ok(())
    }
}

fn kubernetes_service(ip: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]}})
}

/// Without a selector: every node answers at this address itself.
fn dns_service(ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "sessionAffinity": "None",
            "ports": [{"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53}, {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53}]}})
}
