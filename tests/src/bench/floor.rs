//! The same pods without Skiff: sandbox, container, start, straight through CRI
//! against the same containerd with the same CNI plugin. No part of a cluster
//! can be faster than this.

use super::pods::{AT_ONCE, IMAGE, IN_SEQUENCE, Timings};
use super::sample::{Sample, duration};
use super::table::Row;
use crate::Cluster;
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::TokioIo;
use skiff_proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use skiff_proto::cri::v1::{self as cri, NamespaceMode};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Of no interest here, and gentle to the machine.
const REMOVALS_AT_ONCE: usize = 8;

/// Whether containerd does better when it is asked for less at a time.
const FEW: usize = 6;

/// Where the node's containerd listens, seen from this machine.
fn socket(cluster: &Cluster) -> PathBuf {
    cluster.hosts[0].data_dir().join("agent/run/containerd.sock")
}

/// Where it writes its process id.
pub fn pid_file(cluster: &Cluster) -> PathBuf {
    cluster.hosts[0].data_dir().join("agent/run/containerd.pid")
}

/// How long a pod's steps took.
struct Steps {
    sandbox: Duration,
    container: Duration,
    all: Duration,
}

/// Skiff must not run meanwhile: it would remove pods that it does not know.
pub async fn measure(cluster: &Cluster) -> Result<(Timings, Vec<Row>)> {
    let path = socket(cluster);
    let channel = Endpoint::try_from("http://localhost")?
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        }))
        .await
        .context("cannot reach containerd")?;
    let runtime = RuntimeServiceClient::new(channel);
    let mut steps = Vec::new();
    let mut sandboxes = Vec::new();
    for at in 0..IN_SEQUENCE {
        let (id, taken) = pod(runtime.clone(), at).await?;
        sandboxes.push(id);
        steps.push(taken);
    }
    remove(&runtime, std::mem::take(&mut sandboxes)).await?;
    let (together, together_total) = burst(&runtime, IN_SEQUENCE, AT_ONCE).await?;
    let (_, few_total) = burst(&runtime, IN_SEQUENCE + AT_ONCE, FEW).await?;
    let part = |of: fn(&Steps) -> Duration| Sample::new(steps.iter().map(of).collect()).p50();
    let rows = vec![
        Row::new(
            format!("floor: CRI alone, {AT_ONCE} pods, {FEW} at a time, total"),
            duration(few_total),
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
        together,
        together_total,
    };
    Ok((timings, rows))
}

/// `AT_ONCE` pods, `limit` of them at any time; each one's and the whole time.
async fn burst(runtime: &RuntimeServiceClient<Channel>, first: usize, limit: usize) -> Result<(Sample, Duration)> {
    let begun = Instant::now();
    let done: Vec<(String, Steps)> = stream::iter(first..first + AT_ONCE)
        .map(|at| Box::pin(pod(runtime.clone(), at)))
        .buffer_unordered(limit)
        .try_collect()
        .await?;
    let total = begun.elapsed();
    let (ids, each): (Vec<_>, Vec<_>) = done.into_iter().map(|(id, taken)| (id, taken.all)).unzip();
    remove(runtime, ids).await?;
    Ok((Sample::new(each), total))
}

async fn pod(mut runtime: RuntimeServiceClient<Channel>, at: usize) -> Result<(String, Steps)> {
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
        .start_container(cri::StartContainerRequest { container_id })
        .await
        .context("cannot start a container")?;
    let steps = Steps {
        sandbox,
        container,
        all: begun.elapsed(),
    };
    Ok((pod_sandbox_id, steps))
}

async fn remove(runtime: &RuntimeServiceClient<Channel>, sandboxes: Vec<String>) -> Result<()> {
    stream::iter(sandboxes)
        .map(|pod_sandbox_id| {
            let mut runtime = runtime.clone();
            async move {
                let stop = cri::StopPodSandboxRequest {
                    pod_sandbox_id: pod_sandbox_id.clone(),
                };
                runtime.stop_pod_sandbox(stop).await.context("cannot stop a sandbox")?;
                runtime
                    .remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id })
                    .await
                    .context("cannot remove a sandbox")?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(REMOVALS_AT_ONCE)
        .try_collect()
        .await
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
