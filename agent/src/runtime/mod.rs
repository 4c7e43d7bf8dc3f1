//! The container runtime: our own containerd, spoken to over CRI, and over its
//! native API for what CRI lacks (exit events).
//!
//! ```text
//! supervise --> containerd <-- Runtime (CRI calls)
//!                    \-------> events (exits) --> pod workers
//! ```

pub mod config;
mod counted;
pub mod events;
pub mod images;
pub mod signal;
pub mod supervise;
mod turns;

use crate::error::Error;
use crate::pod::observed::LABEL_POD_UID;
use counted::Counted;
use hyper_util::rt::TokioIo;
use skiff_proto::cri::v1::image_service_client::ImageServiceClient;
use skiff_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use skiff_proto::cri::v1::{self as cri};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use turns::Turns;

/// containerd sends container and image lists in one message; its own limit is the same.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// kubelet's default for calls that do not stream or wait for a process.
const CALL_TIME_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub struct Runtime {
    channel: Channel,
    turns: Turns,
    socket: Arc<Path>,
}

/// A sandbox or a container that was made.
#[derive(Debug)]
pub struct Made {
    pub id: String,
    /// One that had its name and that nobody knew; it was removed.
    pub former: Option<String>,
}

impl Runtime {
    /// Connects lazily: the channel dials again when containerd was restarted.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let path: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let channel = Endpoint::try_from("http://localhost")
            .map_err(Error::Connect)?
            .connect_with_connector_lazy(connector);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            channel,
            turns: Turns::new(processors),
            socket: socket.into(),
        })
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn cri(&self) -> RuntimeServiceClient<Counted> {
        RuntimeServiceClient::new(Counted(self.channel.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn image_service(&self) -> ImageServiceClient<Counted> {
        ImageServiceClient::new(Counted(self.channel.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub async fn version(&self) -> Result<cri::VersionResponse, Error> {
        Ok(self
            .cri()
            .version(timed(cri::VersionRequest::default()))
            .await
            .map_err(Error::runtime("tell its version"))?
            .into_inner())
    }

    pub async fn status(&self) -> Result<cri::RuntimeStatus, Error> {
        Ok(self
            .cri()
            .status(timed(cri::StatusRequest { verbose: false }))
            .await
            .map_err(Error::runtime("tell its status"))?
            .into_inner()
            .status
            .unwrap_or_default())
    }

    /// Its handlers with what each can, and what it can as a whole; old ones tell neither.
    pub async fn abilities(&self) -> Result<(Vec<cri::RuntimeHandler>, Option<cri::RuntimeFeatures>), Error> {
        let answer = self.cri().status(timed(cri::StatusRequest { verbose: false })).await;
        let answer = answer.map_err(Error::runtime("tell its abilities"))?.into_inner();
        Ok((answer.runtime_handlers, answer.features))
    }

    /// An empty handler is the runtime's default.
    pub async fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: String) -> Result<Made, Error> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler,
        };
        let _turn = self.turns.take().await;
        let mut outcome = self.cri().run_pod_sandbox(timed(request.clone())).await;
        let former = outcome.as_ref().err().and_then(|status| reserved_for(status.message()));
        if let Some(id) = &former {
            let _ = self.stop_sandbox(id).await;
            self.remove_sandbox(id).await?;
            outcome = self.cri().run_pod_sandbox(timed(request)).await;
        }
        let answer = outcome.map_err(Error::runtime("run a pod sandbox"))?.into_inner();
        Ok(Made {
            id: answer.pod_sandbox_id,
            former,
        })
    }

    pub async fn sandbox_status(&self, id: &str) -> Result<Option<cri::PodSandboxStatus>, Error> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        match self.cri().pod_sandbox_status(timed(request)).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(Error::runtime("tell a sandbox's status")(status)),
        }
    }

    /// Where the network namespace of a sandbox is, unless it is the machine's own.
    pub async fn network_namespace(&self, id: &str) -> Result<Option<PathBuf>, Error> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: true,
        };
        match self.cri().pod_sandbox_status(timed(request)).await {
            Ok(answer) => {
                let info = answer.into_inner().info.remove("info").unwrap_or_default();
                namespace_of(&info)
                    .ok_or_else(|| Error::Pod(format!("the runtime does not tell where sandbox {id} is")))
            }
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(Error::runtime("tell a sandbox's namespace")(status)),
        }
    }

    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        absent_is_done(self.cri().stop_pod_sandbox(timed(request)).await, "stop a pod sandbox")
    }

    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        absent_is_done(
            self.cri().remove_pod_sandbox(timed(request)).await,
            "remove a pod sandbox",
        )?;
        // containerd keeps the loopback plugin's result for ever; the id makes it ours.
        let kept = format!("/var/lib/cni/results/cni-loopback-{id}-lo");
        // Absent where containerd has learned to do it.
        let _ = std::fs::remove_file(kept);
        // A shim that was killed has not removed it, and nobody else does.
        let _ = std::fs::remove_file(socket_of_shim(&self.socket, id));
        Ok(())
    }

    pub async fn create_container(
        &self,
        sandbox_id: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<Made, Error> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        // A container's description is large, and so is the future that carries it.
        let mut outcome = Box::pin(self.cri().create_container(timed(request.clone()))).await;
        let former = outcome.as_ref().err().and_then(|status| reserved_for(status.message()));
        if let Some(id) = &former {
            self.remove_container(id).await?;
            outcome = Box::pin(self.cri().create_container(timed(request))).await;
        }
        let answer = outcome.map_err(Error::runtime("create a container"))?.into_inner();
        Ok(Made {
            id: answer.container_id,
            former,
        })
    }

    pub async fn start_container(&self, id: &str) -> Result<(), Error> {
        let request = cri::StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.cri()
            .start_container(timed(request))
            .await
            .map_err(Error::runtime("start a container"))?;
        Ok(())
    }

    /// TERM, `grace_s` seconds, KILL; answers when the container has ended.
    pub async fn stop_container(&self, id: &str, grace_s: i64) -> Result<(), Error> {
        let mut request = tonic::Request::new(cri::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace_s,
        });
        request.set_timeout(Duration::from_secs(grace_s.max(0).unsigned_abs()) + CALL_TIME_MAX);
        absent_is_done(self.cri().stop_container(request).await, "stop a container")
    }

    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let request = cri::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        absent_is_done(self.cri().remove_container(timed(request)).await, "remove a container")
    }

    pub async fn container_status(&self, id: &str) -> Result<Option<cri::ContainerStatus>, Error> {
        let request = cri::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        match self.cri().container_status(timed(request)).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(Error::runtime("tell a container's status")(status)),
        }
    }

    pub async fn sandboxes(&self) -> Result<Vec<cri::PodSandbox>, Error> {
        Ok(self
            .cri()
            .list_pod_sandbox(timed(cri::ListPodSandboxRequest { filter: None }))
            .await
            .map_err(Error::runtime("list pod sandboxes"))?
            .into_inner()
            .items)
    }

    /// Ids of a pod's sandboxes.
    pub async fn sandboxes_of(&self, uid: &str) -> Result<Vec<String>, Error> {
        let filter = cri::PodSandboxFilter {
            label_selector: [(LABEL_POD_UID.to_owned(), uid.to_owned())].into(),
            ..Default::default()
        };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let answer = self.cri().list_pod_sandbox(timed(request)).await;
        let listed = answer
            .map_err(Error::runtime("list a pod's sandboxes"))?
            .into_inner()
            .items;
        Ok(listed.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Ids of a pod's containers.
    pub async fn containers_of(&self, uid: &str) -> Result<Vec<String>, Error> {
        let filter = cri::ContainerFilter {
            label_selector: [(LABEL_POD_UID.to_owned(), uid.to_owned())].into(),
            ..Default::default()
        };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let answer = self.cri().list_containers(timed(request)).await;
        let listed = answer.map_err(Error::runtime("list a pod's containers"))?.into_inner();
        Ok(listed.containers.into_iter().map(|container| container.id).collect())
    }

    pub async fn containers(&self) -> Result<Vec<cri::Container>, Error> {
        Ok(self
            .cri()
            .list_containers(timed(cri::ListContainersRequest { filter: None }))
            .await
            .map_err(Error::runtime("list containers"))?
            .into_inner()
            .containers)
    }

    /// Output is bounded by containerd (16 MiB message); callers cut it further.
    pub async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Result<(i32, Vec<u8>), Error> {
        let mut request = tonic::Request::new(cri::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.to_vec(),
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        });
        request.set_timeout(timeout + Duration::from_secs(2));
        let answer = self
            .cri()
            .exec_sync(request)
            .await
            .map_err(Error::runtime("run a command in a container"))?
            .into_inner();
        let mut output = answer.stdout;
        output.extend_from_slice(&answer.stderr);
        Ok((answer.exit_code, output))
    }

    /// Changes what a running container may use. What is zero stays as it is.
    pub async fn update_container(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<(), Error> {
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..Default::default()
        };
        self.cri()
            .update_container_resources(timed(request))
            .await
            .map_err(Error::runtime("update a container's resources"))?;
        Ok(())
    }

    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let request = cri::ReopenContainerLogRequest {
            container_id: id.to_owned(),
        };
        self.cri()
            .reopen_container_log(timed(request))
            .await
            .map_err(Error::runtime("reopen a container's log"))?;
        Ok(())
    }
}

/// Where the shim of a sandbox listens, by containerd's rule: named by a digest of its containerd's
/// address, the namespace that CRI is in, and the sandbox.
pub fn socket_of_shim(containerd: &Path, sandbox_id: &str) -> PathBuf {
    let of = format!("{}/k8s.io/{sandbox_id}", containerd.display());
    let digest = ring::digest::digest(&ring::digest::SHA256, of.as_bytes());
    let name: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new("/run/containerd/s").join(name)
}

/// `info`: what containerd tells of a sandbox beyond CRI, as JSON. Nothing: it does not tell.
fn namespace_of(info: &str) -> Option<Option<PathBuf>> {
    let info: serde_json::Value = serde_json::from_str(info).ok()?;
    let all = info["runtimeSpec"]["linux"]["namespaces"].as_array()?;
    let path = |one: &serde_json::Value| Some(PathBuf::from(one["path"].as_str()?));
    Some(all.iter().find(|one| one["type"] == "network").and_then(path))
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIME_MAX);
    request
}

/// Who has the name, when a call for the same was made before and its answer was lost,
/// with the agent or with the runtime: nobody knows it, so it may go.
fn reserved_for(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("is reserved for \"")?;
    let (id, _) = rest.split_once('"')?;
    (!id.is_empty()).then(|| id.to_owned())
}

fn absent_is_done<T>(answer: Result<T, tonic::Status>, action: &'static str) -> Result<(), Error> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        Err(status) => Err(Error::runtime(action)(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::{namespace_of, reserved_for, socket_of_shim};
    use std::path::Path;

    #[test]
    fn a_shim_listens_where_containerd_has_put_it() {
        let socket = Path::new("/var/lib/skiff/agent/run/containerd.sock");
        let id = "323ce57f43ad19c9b20615a637361ec63017281ba00257cf20057c57092004d9";
        // By sha256sum, after a rule that containerd 1.6 was seen to follow.
        let place = "/run/containerd/s/9fc32ea32b5b78e8612296638a1bc6d6f059b7ab5cb8dc96918ae18b5d9977b3";
        assert_eq!(socket_of_shim(socket, id), Path::new(place));
    }

    #[test]
    fn a_sandbox_is_in_the_namespace_that_its_specification_names() {
        let info =
            |namespaces: &str| format!(r#"{{"pid": 7, "runtimeSpec": {{"linux": {{"namespaces": {namespaces}}}}}}}"#);
        let path = "/d/netns/cni-1";
        assert_eq!(
            namespace_of(&info(&format!(
                r#"[{{"type": "pid"}}, {{"type": "network", "path": "{path}"}}]"#
            ))),
            Some(Some(path.into()))
        );
        assert_eq!(namespace_of(&info(r#"[{"type": "pid"}]"#)), Some(None));
        for none in [info("null"), String::new()] {
            assert_eq!(namespace_of(&none), None, "{none}");
        }
    }

    #[test]
    fn a_lost_answer_leaves_a_name_behind() {
        let told = "failed to reserve container name \"first_a_default_d0_0\": name \"first_a_default_d0_0\" is reserved for \"e6fb\"";
        assert_eq!(reserved_for(told), Some("e6fb".to_owned()));
        for other in ["", "is reserved for \"", "is reserved for \"\"", "no such image"] {
            assert_eq!(reserved_for(other), None, "{other}");
        }
    }
}
