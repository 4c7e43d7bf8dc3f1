//! The same pods without Skiff: sandbox, container, start, straight through CRI
//! against the same containerd with the same CNI plugin. No part of a cluster
//! can be faster than this.

use super::pods::{AT_ONCE, GRACE_S, IMAGE, IN_SEQUENCE, Timings};
use super::sample::{Sample, duration};
use super::table::Row;
use crate::{Cluster, Host};
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::TokioIo;
use skiff_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use skiff_proto::cri::v1::{self as cri, NamespaceMode};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Whether containerd does better when it is asked for less at a time.
const FEW: usize = 6;

/// Where the containerd of a node listens, seen from this machine.
fn socket(host: &Host) -> PathBuf {
    host.data_dir().join("agent/run/containerd.sock")
}

/// Where it writes its process id.
pub fn pid_file(host: &Host) -> PathBuf {
    host.data_dir().join("agent/run/containerd.pid")
}

/// How long a pod's steps took.
struct Steps {
    sandbox: Duration,
    container: Duration,
    all: Duration,
}

/// A pod that runs.
pub struct Running {
    sandbox_id: String,
    container_id: String,
    steps: Steps,
}

/// What so many pods took, at most `limit` of them at any time.
pub struct Burst {
    pub each: Sample,
    pub total: Duration,
    pub removed_each: Sample,
    pub removed_total: Duration,
    /// Of all processes of the node, a pod.
    pub cpu: Duration,
}

/// Skiff must not run meanwhile: it would remove pods that it does not know.
pub async fn measure(cluster: &Cluster) -> Result<(Timings, Vec<Row>)> {
    let mut floor = Floor::open(&cluster.hosts[0]).await?;
    let mut steps = Vec::new();
    for _ in 0..IN_SEQUENCE {
        let pod = floor.start(1, 1).await?;
        floor.remove(&pod, 1).await?;
        steps.extend(pod.into_iter().map(|pod| pod.steps));
    }
    let together = floor.burst(AT_ONCE, AT_ONCE).await?;
    let few = floor.burst(AT_ONCE, FEW).await?;
    let part = |of: fn(&Steps) -> Duration| Sample::new(steps.iter().map(of).collect()).p50();
    let rows = vec![
        Row::new(
            format!("floor: CRI alone, {AT_ONCE} pods, {FEW} at a time, total"),
            duration(few.total),
        ),
        Row::new(
            "floor: sandbox / create / start, p50",
            format!(
                "{} / {} / {}",
                duration(part(|step| step.sandbox)),
                duration(part(|step| step.container)),
                duration(part(|step| step.all - step.sandbox - step.container))
            ),
        ),
    ];
    let timings = Timings {
        sequence: Sample::new(steps.iter().map(|step| step.all).collect()),
        together: together.each,
        together_total: together.total,
    };
    Ok((timings, rows))
}

/// The node's containerd, and how many pods it was asked for so far.
pub struct Floor {
    host: Host,
    runtime: RuntimeServiceClient<Channel>,
    asked: usize,
}

impl Floor {
    pub async fn open(host: &Host) -> Result<Self> {
        let path = socket(host);
        let channel = Endpoint::try_from("http://localhost")?
            .connect_with_connector(tower::service_fn(move |_| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            }))
            .await
            .context("cannot reach containerd")?;
        Ok(Self {
            host: host.clone(),
            runtime: RuntimeServiceClient::new(channel),
            asked: 0,
        })
    }

    /// Starts and removes them; each one's and the whole time.
    pub async fn burst(&mut self, count: usize, limit: usize) -> Result<Burst> {
        let before = self.host.cpu()?;
        let begun = Instant::now();
        let pods = self.start(count, limit).await?;
        let total = begun.elapsed();
        let begun = Instant::now();
        let removed = self.remove(&pods, limit).await?;
        let removed_total = begun.elapsed();
        Ok(Burst {
            each: Sample::new(pods.into_iter().map(|pod| pod.steps.all).collect()),
            total,
            removed_each: Sample::new(removed),
            removed_total,
            cpu: (self.host.cpu()? - before) / u32::try_from(count).unwrap_or(u32::MAX),
        })
    }

    async fn start(&mut self, count: usize, limit: usize) -> Result<Vec<Running>> {
        let first = self.asked;
        self.asked += count;
        stream::iter(first..first + count)
            .map(|at| Box::pin(pod(self.runtime.clone(), at)))
            .buffer_unordered(limit)
            .try_collect()
            .await
    }

    async fn remove(&self, pods: &[Running], limit: usize) -> Result<Vec<Duration>> {
        stream::iter(pods)
            .map(|pod| remove(self.runtime.clone(), pod))
            .buffer_unordered(limit)
            .try_collect()
            .await
    }
}

async fn pod(mut runtime: RuntimeServiceClient<Channel>, at: usize) -> Result<Running> {
    let sandbox_config = sandbox_config(at);
    let begun = Instant::now();
    let request = cri::RunPodSandboxRequest {
        config: Some(sandbox_config.clone()),
        runtime_handler: String::new(),
    };
    let answer = runtime.run_pod_sandbox(request).await.context("cannot run a sandbox")?;
    let pod_sandbox_id = answer.into_inner().pod_sandbox_id;
    let sandbox = begun.elapsed();
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(container_config()),
        sandbox_config: Some(sandbox_config),
    };
    let answer = Box::pin(runtime.create_container(request))
        .await
        .context("cannot create a container")?;
    let container_id = answer.into_inner().container_id;
    let container = begun.elapsed() - sandbox;
    runtime
        .start_container(cri::StartContainerRequest {
            container_id: container_id.clone(),
        })
        .await
        .context("cannot start a container")?;
    let steps = Steps {
        sandbox,
        container,
        all: begun.elapsed(),
    };
    Ok(Running {
        sandbox_id: pod_sandbox_id,
        container_id,
        steps,
    })
}

/// As an agent does it: the container may end by itself, then all goes.
async fn remove(mut runtime: RuntimeServiceClient<Channel>, pod: &Running) -> Result<Duration> {
    let begun = Instant::now();
    let stop = cri::StopContainerRequest {
        container_id: pod.container_id.clone(),
        timeout: i64::from(GRACE_S),
    };
    runtime.stop_container(stop).await.context("cannot stop a container")?;
    let pod_sandbox_id = pod.sandbox_id.clone();
    let stop = cri::StopPodSandboxRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
    };
    runtime.stop_pod_sandbox(stop).await.context("cannot stop a sandbox")?;
    runtime
        .remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id })
        .await
        .context("cannot remove a sandbox")?;
    Ok(begun.elapsed())
}

fn uid(at: usize) -> String {
    format!("00000000-0000-4000-8000-{at:012}")
}

fn namespaces() -> cri::NamespaceOption {
    cri::NamespaceOption {
        pid: NamespaceMode::Container as i32,
        ..Default::default()
    }
}

/// As the agent asks for a pod without requests.
fn sandbox_config(at: usize) -> cri::PodSandboxConfig {
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: format!("floor-{at}"),
            namespace: "default".into(),
            uid: uid(at),
            attempt: 0,
        }),
        hostname: format!("floor-{at}"),
        log_directory: format!("/var/log/pods/default_floor-{at}_{}", uid(at)),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: format!("/kubepods/besteffort/pod{}", uid(at)),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container_config() -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: "web".into(),
            attempt: 0,
        }),
        image: Some(cri::ImageSpec {
            image: IMAGE.into(),
            ..Default::default()
        }),
        log_path: "web.log".into(),
        linux: Some(cri::LinuxContainerConfig {
            security_context: Some(cri::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
