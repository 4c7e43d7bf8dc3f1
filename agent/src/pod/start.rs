//! Starts one container: image, environment, mounts, create, start, hook. No choices
//! beyond what kubelet's reasons name.

use super::environment;
use super::node::Shared;
use super::observed::{self, Container as Seen};
use super::plan::Waiting;
use super::spec::{self, Role};
use super::{image, links, sandbox};
use crate::devices::cdi;
use crate::leftovers;
use crate::probe;
use crate::runtime;
use crate::users;
use crate::volume;
use k8s_openapi::api::core::v1::{Container, Pod};
use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use tokio_util::sync::CancellationToken;

fn waits(reason: &str, message: impl Into<String>) -> Waiting {
    Waiting {
        reason: reason.into(),
        message: message.into(),
    }
}

/// A start that failed, and the container that it has left behind.
pub struct Failure {
    pub waiting: Waiting,
    pub container: Option<Box<Seen>>,
}

impl From<Waiting> for Failure {
    fn from(waiting: Waiting) -> Self {
        Self {
            waiting,
            container: None,
        }
    }
}

/// What one start is about, besides the pod.
pub struct Wanted {
    pub container: Container,
    pub role: Role,
    pub attempt: u32,
    pub sandbox: observed::Sandbox,
    /// The container whose processes an ephemeral one is to see.
    pub target_id: Option<String>,
    /// The pod is to end: nothing slow is begun or waited for any more.
    pub cancel: CancellationToken,
}

pub async fn container(shared: &Shared, pod: &Pod, wanted: &Wanted) -> Result<Seen, Failure> {
    let Wanted {
        container,
        role,
        attempt,
        sandbox,
        ..
    } = wanted;
    let (role, attempt) = (*role, *attempt);
    let field = Some(spec::field_path(role, &container.name));
    let ended = || waits("ContainerCreating", "");
    let image = tokio::select! {
        image = image::ensure(shared, pod, container, role) => image?,
        () = wanted.cancel.cancelled() => return Err(ended().into()),
    };
    let prepared = prepare(shared, pod, container, attempt, sandbox, &image)
        .await
        .map_err(|message| {
            shared
                .recorder
                .pod(pod, field.clone(), true, "Failed", format!("Error: {message}"));
            waits("CreateContainerConfigError", message)
        })?;
    let logs = sandbox::log_directory(&shared.config, pod).join(&container.name);
    std::fs::create_dir_all(&logs).map_err(|e| waits("CreateContainerError", format!("{}: {e}", logs.display())))?;
    let mut config = sandbox::container_config(pod, container, &prepared);
    if let Some(id) = &wanted.target_id {
        let security = config.linux.as_mut().and_then(|l| l.security_context.as_mut());
        if let Some(options) = security.and_then(|s| s.namespace_options.as_mut()) {
            options.pid = cri::NamespaceMode::Target as i32;
            options.target_id = id.clone();
        }
    }
    let (made_as, resolv_conf) = (sandbox.attempt, &shared.resolv_conf);
    let sandbox_config = sandbox::sandbox_config(&shared.config, pod, made_as, resolv_conf, prepared.users)
        .map_err(|message| waits("CreateContainerConfigError", message))?;
    let failed = |reason: &str, error: crate::error::Error| {
        shared
            .recorder
            .pod(pod, field.clone(), true, "Failed", format!("Error: {}", error.bare()));
        waits(reason, error.bare())
    };
    let runtime::Made { id, former } = Box::pin(shared.runtime.create_container(&sandbox.id, config, sandbox_config))
        .await
        .map_err(|e| failed("CreateContainerError", e))?;
    leftovers::clear(&shared.config, pod, former.as_deref().into_iter());
    let event = |reason: &'static str, what: &str| {
        let text = format!("Container {what}");
        shared.recorder.pod(pod, field.clone(), false, reason, text);
    };
    event("Created", "created");
    if let Err(error) = shared.runtime.start_container(&id).await {
        let waiting = failed("RunContainerError", error);
        return Err(left_behind(shared, &id, sandbox, waiting).await);
    }
    event("Started", "started");
    let log = logs.join(format!("{attempt}.log"));
    if let Err(error) = links::make(&shared.config, &spec::key(pod), &container.name, &id, &log) {
        tracing::warn!(error = error.chain(), "collectors of logs will not find a container's");
    }
    let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
    if let Some(hook) = hook {
        let host = pod.spec.as_ref().is_some_and(spec::host_network);
        let place = probe::Place {
            container_id: &id,
            ips: if host { &shared.host_ips } else { &sandbox.ips },
        };
        let name = spec::full_name(pod);
        let outcome = tokio::select! {
            outcome = probe::hook::run(shared, hook, container, &name, &place) => outcome,
            () = wanted.cancel.cancelled() => Ok(()),
        };
        if let Err(message) = outcome {
            // What the hook said may be a secret; only the status tells it.
            let text = "PostStartHook failed".to_owned();
            shared
                .recorder
                .pod(pod, field.clone(), true, "FailedPostStartHook", text);
            let text = "FailedPostStartHook".to_owned();
            shared.recorder.pod(pod, field, false, "Killing", text);
            let _ = shared.runtime.stop_container(&id, spec::grace_s(pod)).await;
            return Err(left_behind(shared, &id, sandbox, waits("PostStartHookError", message)).await);
        }
    }
    let status = shared.runtime.container_status(&id).await;
    let status = status.map_err(|e| failed("RunContainerError", e))?;
    status
        .map(|s| observed::container(s, &sandbox.id))
        .ok_or_else(|| waits("RunContainerError", "container vanished").into())
}

async fn left_behind(shared: &Shared, id: &str, sandbox: &observed::Sandbox, waiting: Waiting) -> Failure {
    let status = shared.runtime.container_status(id).await.ok().flatten();
    Failure {
        waiting,
        container: status.map(|s| Box::new(observed::container(s, &sandbox.id))),
    }
}

async fn prepare(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    sandbox: &observed::Sandbox,
    image: &cri::Image,
) -> Result<sandbox::Prepared, String> {
    let image_user = sandbox::ImageUser::from(image);
    if let Some(pod_spec) = &pod.spec {
        sandbox::not_root(pod_spec, container, &image_user, &spec::full_name(pod))?;
    }
    shared.cache.services_known().await;
    let host = pod.spec.as_ref().is_some_and(spec::host_network);
    let ips = if host {
        shared.host_ips.clone()
    } else {
        sandbox.ips.clone()
    };
    let mut facts = shared.facts(ips.clone());
    facts.variable_files = volume::variable_files(&shared.config, pod, container);
    let services = shared.cache.services();
    let mut env = environment::variables(pod, container, &services, shared.cache.as_ref(), &facts)?;
    let values: BTreeMap<String, String> = env.iter().cloned().collect();
    let known = |text: &str| environment::expand_all(text, |name| values.get(name).cloned());
    let users = users::wanted(pod).then(|| shared.users.of(spec::uid(pod)));
    let manner = volume::Manner {
        recursive: volume::recursive_read_only(shared, pod, container).await,
        users: users.transpose().map_err(|e| e.chain())?,
    };
    let mut mounts = volume::mounts(&shared.config, pod, container, &manner, known).map_err(|e| e.chain())?;
    let names = shared.devices.cdi(pod, container)?;
    let (cdi, added) = injected(shared, names).await?;
    env.retain(|(name, _)| !added.env.iter().any(|(known, _)| known == name));
    env.extend(added.env);
    mounts.extend(added.mounts);
    let (files, message_file) = own_files(shared, pod, container, attempt, &ips, &manner)?;
    mounts.extend(files);
    Ok(sandbox::Prepared {
        attempt,
        image_ref: image.id.clone(),
        image_user,
        env,
        mounts,
        message_file,
        cdi,
        devices: added.devices,
        host: shared.host.clone(),
        users: manner.users,
    })
}

/// The files that the agent writes for a container, its hosts and its last words, and where the latter lie.
fn own_files(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    ips: &[String],
    manner: &volume::Manner,
) -> Result<(Vec<cri::Mount>, String), String> {
    let mut mounts = Vec::new();
    let pod_dir = shared.config.pod_dir(spec::uid(pod));
    let io = |e: std::io::Error| format!("cannot write to {}: {e}", pod_dir.display());
    let mut mounted = container.volume_mounts.iter().flatten();
    if !mounted.any(|m| m.mount_path.trim_end_matches('/') == "/etc/hosts") {
        let hosts = pod_dir.join("etc-hosts");
        std::fs::create_dir_all(&pod_dir).map_err(io)?;
        let host_file = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        std::fs::write(&hosts, sandbox::hosts_file(&shared.config, pod, ips, &host_file)).map_err(io)?;
        mounts.push(manner.bind("/etc/hosts", &hosts.display().to_string()));
    }
    let message_dir = pod_dir.join("containers").join(&container.name);
    let message_file = message_dir.join(attempt.to_string());
    std::fs::create_dir_all(&message_dir).map_err(io)?;
    std::fs::write(&message_file, []).map_err(io)?;
    // Whatever user the container runs as writes its last words here.
    std::fs::set_permissions(&message_file, std::fs::Permissions::from_mode(0o666)).map_err(io)?;
    let message_file = message_file.display().to_string();
    let path = container.termination_message_path.as_deref().filter(|p| !p.is_empty());
    mounts.push(manner.bind(path.unwrap_or("/dev/termination-log"), &message_file));
    Ok((mounts, message_file))
}

/// The devices that the runtime adds by their names, and what is added to the container for those that it does not know.
async fn injected(shared: &Shared, names: Vec<String>) -> Result<(Vec<String>, cdi::Added), String> {
    if names.is_empty() {
        return Ok(Default::default());
    }
    let version = shared.runtime.version().await.map_err(|error| error.rpc())?;
    if cdi::is_known_to(&version.runtime_version) {
        return Ok((names, cdi::Added::default()));
    }
    let work = move || cdi::added(&cdi::read(&cdi::DIRS), &names);
    let added = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())?;
    Ok((Vec::new(), added?))
}
