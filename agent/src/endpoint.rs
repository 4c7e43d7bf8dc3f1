//! The node's HTTPS endpoint: lends `skiff-streaming` this node's containers.

mod access;
mod configuration;

use crate::config::{Config, NodeCredentials};
use crate::error::Error;
use crate::node::status::VERSION;
use crate::pod::node::Shared;
use crate::pod::observed::{LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID};
use crate::pod::spec;
use crate::stats::Stats;
use access::Access;
use k8s_openapi::api::core::v1::Pod;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use skiff_metrics::about;
use skiff_proto::cri::v1 as cri;
use skiff_streaming::{Caller, Container, EndpointError, MetricsPage, Streams};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// A command that is run to its end and not streamed.
const RUN_MAX: Duration = Duration::from_secs(600);

/// Pages that `/statusz` points at.
const PAGES: [&str; 5] = ["/configz", "/flagz", "/healthz", "/metrics", "/statusz"];

struct Endpoint(Arc<Shared>, Stats, Access);

pub async fn serve(
    shared: Arc<Shared>,
    credentials: NodeCredentials,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let tls = tls(&credentials)?;
    let address = (std::net::Ipv6Addr::UNSPECIFIED, shared.config.kubelet_port);
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        // Without IPv6 in the kernel.
        Err(_) => TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, shared.config.kubelet_port))
            .await
            .map_err(Error::io("listen on the kubelet port as", port_path(&shared.config)))?,
    };
    skiff_streaming::serve(
        listener,
        Arc::new(tls),
        Arc::new(Endpoint(shared, Stats::default(), Access::default())),
        shutdown,
    )
    .await;
    Ok(())
}

fn port_path(config: &Config) -> PathBuf {
    PathBuf::from(format!(":{}", config.kubelet_port))
}

fn tls(credentials: &NodeCredentials) -> Result<rustls::ServerConfig, Error> {
    let bad = |what: &str, error: String| Error::Copy(format!("{what}: {error}"));
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(credentials.serving_certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| bad("the serving certificate", e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(credentials.serving_key_pem.as_bytes())
        .map_err(|e| bad("the serving key", e.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(credentials.cluster_ca_pem.as_bytes()) {
        let ca = ca.map_err(|e| bad("the cluster CA", e.to_string()))?;
        roots.add(ca).map_err(|e| bad("the cluster CA", e.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        // Health is for everybody; the endpoint itself asks who calls for the rest.
        .allow_unauthenticated()
        .build()
        .map_err(|e| bad("the cluster CA", e.to_string()))?;
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("TLS", e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|e| bad("the serving certificate", e.to_string()))
}

fn refused(status: tonic::Status) -> EndpointError {
    EndpointError::Runtime(status.message().to_owned())
}

/// `PodList` of what runs, with as much as the runtime knows, as kubelet's. Pure.
fn running(containers: Vec<cri::Container>) -> Value {
    let mut pods: BTreeMap<[String; 3], Vec<Value>> = BTreeMap::new();
    for container in containers {
        if container.state != cri::ContainerState::ContainerRunning as i32 {
            continue;
        }
        let label = |name: &str| container.labels.get(name).cloned().unwrap_or_default();
        let key = [label(LABEL_POD_NAMESPACE), label(LABEL_POD_NAME), label(LABEL_POD_UID)];
        let image = container.image.as_ref().map_or("", |i| i.image.as_str());
        let shown = json!({"name": label(LABEL_CONTAINER_NAME), "image": image, "resources": {}});
        pods.entry(key).or_default().push(shown);
    }
    let items: Vec<Value> = pods
        .into_iter()
        .map(|([namespace, name, uid], containers)| {
            json!({"metadata": {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": null},
                "spec": {"containers": containers}, "status": {}})
        })
        .collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// Why there is no such run of the container, in kubelet's words. Pure.
fn absent(pod: &Pod, container: &str, previous: bool) -> String {
    let name = spec::key(pod).1;
    if previous {
        return format!("previous terminated container {container:?} in pod {name:?} not found");
    }
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|s| {
        let apps = s.container_statuses.iter().flatten();
        apps.chain(s.init_container_statuses.iter().flatten())
            .chain(s.ephemeral_container_statuses.iter().flatten())
    });
    let mut waiting = all
        .filter(|c| c.name == container)
        .filter_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone());
    match waiting.next().as_deref() {
        None => format!("container {container:?} in pod {name:?} is not available"),
        Some("ErrImagePull") => {
            format!("container {container:?} in pod {name:?} is waiting to start: image can't be pulled")
        }
        Some("ImagePullBackOff") => {
            format!("container {container:?} in pod {name:?} is waiting to start: trying and failing to pull image")
        }
        Some(reason) => format!("container {container:?} in pod {name:?} is waiting to start: {reason}"),
    }
}

#[async_trait::async_trait]
impl skiff_streaming::Runtime for Endpoint {
    async fn container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
    ) -> Result<Container, EndpointError> {
        let found = self.0.cache.pod(&(namespace.into(), pod.into()));
        let known = found.ok_or_else(|| EndpointError::NotFound(format!("pod {pod:?} not found")))?;
        // By UID: an earlier pod of this name may still be on its way out.
        let wanted = [(LABEL_POD_UID, spec::uid(&known)), (LABEL_CONTAINER_NAME, container)];
        let filter = cri::ContainerFilter {
            label_selector: wanted.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Default::default()
        };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let mut found = self
            .0
            .runtime
            .cri()
            .list_containers(request)
            .await
            .map_err(refused)?
            .into_inner()
            .containers;
        found.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        let Some(one) = found.into_iter().nth(usize::from(previous)) else {
            return Err(EndpointError::BadRequest(absent(&known, container, previous)));
        };
        let status = self.0.runtime.container_status(&one.id).await;
        let status = status.map_err(|e| EndpointError::Runtime(e.chain()))?;
        let status = status.ok_or_else(|| EndpointError::NotFound(format!("container {container:?} not found")))?;
        Ok(Container {
            running: status.state == cri::ContainerState::ContainerRunning as i32,
            started_at_ns: status.started_at,
            log_path: PathBuf::from(status.log_path),
            id: one.id,
        })
    }

    async fn ended(&self, id: &str) {
        // From before it is asked on, so that no end in between is missed.
        let mut ends = self.0.ends.subscribe();
        loop {
            match self.0.runtime.container_status(id).await {
                Ok(Some(status)) if status.state == cri::ContainerState::ContainerRunning as i32 => {}
                // What ends while the runtime is away is told when it is back.
                Err(_) => {}
                Ok(_) => return,
            }
            loop {
                match ends.recv().await {
                    Ok(one) if *one == *id => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    async fn exec_url(&self, id: &str, command: &[String], streams: Streams) -> Result<String, EndpointError> {
        let request = cri::ExecRequest {
            container_id: id.to_owned(),
            cmd: command.to_vec(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        Ok(self
            .0
            .runtime
            .cri()
            .exec(request)
            .await
            .map_err(refused)?
            .into_inner()
            .url)
    }

    async fn attach_url(&self, id: &str, streams: Streams) -> Result<String, EndpointError> {
        let request = cri::AttachRequest {
            container_id: id.to_owned(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        Ok(self
            .0
            .runtime
            .cri()
            .attach(request)
            .await
            .map_err(refused)?
            .into_inner()
            .url)
    }

    async fn port_forward_url(&self, namespace: &str, pod: &str, ports: &[i32]) -> Result<String, EndpointError> {
        let wanted = [(LABEL_POD_NAMESPACE, namespace), (LABEL_POD_NAME, pod)];
        let filter = cri::PodSandboxFilter {
            label_selector: wanted.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Default::default()
        };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let found = self
            .0
            .runtime
            .cri()
            .list_pod_sandbox(request)
            .await
            .map_err(refused)?
            .into_inner()
            .items;
        let ready = found
            .into_iter()
            .filter(|s| s.state == cri::PodSandboxState::SandboxReady as i32);
        let newest = ready.max_by_key(|s| s.created_at);
        let sandbox = newest.ok_or_else(|| EndpointError::NotFound(format!("pod {pod:?} is not running")))?;
        let request = cri::PortForwardRequest {
            pod_sandbox_id: sandbox.id,
            port: ports.to_vec(),
        };
        Ok(self
            .0
            .runtime
            .cri()
            .port_forward(request)
            .await
            .map_err(refused)?
            .into_inner()
            .url)
    }

    async fn pods(&self) -> Value {
        let items: Vec<Value> = self
            .0
            .cache
            .pods()
            .values()
            .filter_map(|p| serde_json::to_value(p.as_ref()).ok())
            .collect();
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    }

    async fn running_pods(&self) -> Value {
        let containers = self.0.runtime.containers().await.unwrap_or_default();
        running(containers)
    }

    async fn metrics(&self, page: MetricsPage) -> String {
        match page {
            MetricsPage::Own => self.1.own(&self.0).await,
            MetricsPage::Resource => self.1.resource(&self.0).await,
            MetricsPage::Cadvisor => self.1.cadvisor(&self.0).await,
            MetricsPage::Probes => self.1.probes(&self.0),
        }
    }

    async fn summary(&self, only_cpu_and_memory: bool) -> Value {
        self.1.summary(&self.0, only_cpu_and_memory).await
    }

    async fn run(&self, id: &str, command: &[String]) -> Result<Vec<u8>, EndpointError> {
        match self.0.runtime.exec(id, command, RUN_MAX).await {
            Ok((0, output)) => Ok(output),
            Ok((code, output)) => {
                let output = String::from_utf8_lossy(&output).into_owned();
                Err(EndpointError::Failed(format!(
                    "command terminated with exit code {code}: {output}"
                )))
            }
            Err(error) => Err(EndpointError::Runtime(error.chain())),
        }
    }

    async fn review_token(&self, token: &str) -> Result<Option<Caller>, EndpointError> {
        self.2.review_token(&self.0.client, token).await
    }

    async fn may(&self, caller: &Caller, verb: &str, subresource: &str) -> Result<bool, EndpointError> {
        let node = &self.0.config.node_name;
        self.2.may(&self.0.client, node, caller, (verb, subresource)).await
    }

    fn node_name(&self) -> &str {
        &self.0.config.node_name
    }

    async fn configuration(&self) -> Value {
        configuration::configuration(&self.0.config)
    }

    fn about(&self, path: &str, accept: &str) -> Result<(&'static str, String), &'static str> {
        let component = about::Component {
            name: "kubelet",
            version: VERSION,
            paths: &PAGES,
        };
        component.page(path, accept).ok_or(about::NOT_ACCEPTABLE)
    }

    async fn ailment(&self) -> Option<String> {
        let status = self.0.runtime.status().await;
        status
            .err()
            .map(|error| format!("the container runtime does not answer: {}", error.chain()))
    }

    fn system_logs(&self) -> &Path {
        Path::new("/var/log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_is_no_log() {
        let pod = |reason: &str| -> Pod {
            let state = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason}}});
            let pod = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [state]}});
            serde_json::from_value(pod).expect("valid")
        };
        for (reason, previous, expected) in [
            (
                "ContainerCreating",
                false,
                "container \"c\" in pod \"p\" is waiting to start: ContainerCreating",
            ),
            (
                "ErrImagePull",
                false,
                "container \"c\" in pod \"p\" is waiting to start: image can't be pulled",
            ),
            (
                "ImagePullBackOff",
                false,
                "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image",
            ),
            (
                "ContainerCreating",
                true,
                "previous terminated container \"c\" in pod \"p\" not found",
            ),
        ] {
            assert_eq!(absent(&pod(reason), "c", previous), expected);
        }
        assert_eq!(
            absent(&pod(""), "d", false),
            "container \"d\" in pod \"p\" is not available"
        );
    }
}
