//! Counts the calls of the container runtime on their way, by operation as kubelet names them.

use crate::stats::own;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tower::Service;

/// The channel, with each call counted.
#[derive(Debug, Clone)]
pub struct Counted(pub Channel);

impl Service<http::Request<Body>> for Counted {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let operation = operation(request.uri().path());
        let (begun, answer) = (Instant::now(), self.0.call(request));
        Box::pin(async move {
            let answer = answer.await;
            let failed = match &answer {
                // A refusal has its code among the headers; what is answered has it at the end.
                Ok(response) => response.headers().get("grpc-status").is_some_and(|code| code != "0"),
                Err(_) => true,
            };
            if let Some(operation) = operation {
                own::called(operation, begun.elapsed(), failed);
            }
            answer
        })
    }
}

/// Pure. `None`: nothing that is counted.
fn operation(path: &str) -> Option<&'static str> {
    Some(match path.rsplit('/').next()? {
        "Version" => "version",
        "Status" => "status",
        "RunPodSandbox" => "run_podsandbox",
        "StopPodSandbox" => "stop_podsandbox",
        "RemovePodSandbox" => "remove_podsandbox",
        "PodSandboxStatus" => "podsandbox_status",
        "ListPodSandbox" => "list_podsandbox",
        "CreateContainer" => "create_container",
        "StartContainer" => "start_container",
        "StopContainer" => "stop_container",
        "RemoveContainer" => "remove_container",
        "ListContainers" => "list_containers",
        "ContainerStatus" => "container_status",
        "UpdateContainerResources" => "update_container",
        "ReopenContainerLog" => "reopen_container_log",
        "ExecSync" => "exec_sync",
        "Exec" => "exec",
        "Attach" => "attach",
        "PortForward" => "port_forward",
        "ContainerStats" => "container_stats",
        "ListContainerStats" => "list_container_stats",
        "ListImages" => "list_images",
        "ImageStatus" => "image_status",
        "PullImage" => "pull_image",
        "RemoveImage" => "remove_image",
        "ImageFsInfo" => "image_fs_info",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_kubelets_names() {
        assert_eq!(
            operation("/runtime.v1.RuntimeService/RunPodSandbox"),
            Some("run_podsandbox")
        );
        assert_eq!(operation("/runtime.v1.ImageService/PullImage"), Some("pull_image"));
        assert_eq!(operation("/other"), None);
    }
}
