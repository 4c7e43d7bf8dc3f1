//! What a pod's status says of one container. Pure.

use super::time;
use crate::pod::observed::{Container as Seen, Observed, State};
use crate::pod::plan::{self, Memory, Waiting};
use crate::pod::spec::{self, Role};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, Pod, PodSpec, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub fn status(pod: &Pod, container: &Container, role: Role, seen: &Observed, memory: &Memory) -> ContainerStatus {
    let history = seen.containers.get(&container.name).map_or(&[][..], Vec::as_slice);
    let newest = history.first();
    let old = previous(pod, &container.name);
    let probed = newest
        .and_then(|c| memory.probed.get(&c.id))
        .copied()
        .unwrap_or_default();
    let running = newest.is_some_and(|c| c.state == State::Running);
    let (state, last) = state(pod, container, role, seen, memory);
    let id = newest.filter(|_| running).map(|c| c.id.as_str());
    let (resources, allocated_resources) = memory.resize.shown(&container.name, id);
    let done = role == Role::Init && newest.is_some_and(|c| c.state == State::Exited && c.exit_code == 0 && !c.past);
    ContainerStatus {
        name: container.name.clone(),
        image: newest
            .map(|c| c.image.clone())
            .filter(|i| !i.is_empty())
            .or_else(|| container.image.clone())
            .unwrap_or_default(),
        image_id: newest.map(|c| c.image_id.clone()).unwrap_or_default(),
        container_id: newest
            .map(|c| format!("containerd://{}", c.id))
            .or_else(|| old.and_then(|o| o.container_id.clone())),
        ready: done || (running && probed.ready && role != Role::Ephemeral),
        started: match role {
            Role::Init => Some(running),
            Role::Ephemeral => None,
            Role::App | Role::Sidecar => Some(running && probed.started),
        },
        restart_count: newest
            .map_or(0, |c| i32::try_from(c.attempt).unwrap_or(i32::MAX))
            .max(old.map_or(0, |o| o.restart_count)),
        last_state: Some(match last {
            Some(last) => ended(last),
            // The container before may be gone while its end is still worth telling.
            None => old.and_then(|o| o.last_state.clone()).unwrap_or_default(),
        }),
        state: Some(state),
        resources,
        allocated_resources,
        user: newest
            .and_then(|c| c.user.as_ref())
            .map(|(uid, gid, groups)| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: *uid,
                    gid: *gid,
                    supplemental_groups: Some(groups.clone()),
                }),
            }),
        volume_mounts: Some(mounts(container, newest)).filter(|list| !list.is_empty()),
        stop_signal: newest
            .and(container.lifecycle.as_ref())
            .and_then(|lifecycle| lifecycle.stop_signal.clone()),
        ..ContainerStatus::default()
    }
}

/// Its state now, and how it ended before where that is known from the runtime.
fn state(
    pod: &Pod,
    container: &Container,
    role: Role,
    seen: &Observed,
    memory: &Memory,
) -> (ContainerState, Option<ContainerStateTerminated>) {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let history = seen.containers.get(&container.name).map_or(&[][..], Vec::as_slice);
    let newest = history.first();
    let before = history.get(1).filter(|c| c.state == State::Exited).map(terminated);
    let waiting = memory.waiting.get(&container.name);
    let over =
        memory.terminating || memory.failed.is_some() || spec::phase_is_final(pod) || plan::ended(spec, seen).is_some();
    let kept = || previous(pod, &container.name)?.state.as_ref()?.terminated.clone();
    let state = match newest {
        Some(c) if c.state == State::Running => running(c),
        Some(c) if c.state == State::Exited => {
            let restarts = !over && (c.again || c.past || spec::restarts(spec, container, role, c.exit_code));
            let back_off = memory.crash.get(&container.name).map(|back_off| Waiting {
                reason: "CrashLoopBackOff".into(),
                message: format!(
                    "back-off {} restarting failed container={} pod={}",
                    back_off.text(),
                    container.name,
                    spec::full_name(pod)
                ),
            });
            // One that ended well never ends in the eyes of the API but for good.
            let anew = (c.again || c.past).then(|| Waiting {
                reason: if c.past { creating(spec) } else { "ContainerCreating" }.into(),
                message: String::new(),
            });
            match waiting.cloned().or(back_off).or(anew).filter(|_| restarts) {
                Some(waiting) => return (waits(&waiting), Some(terminated(c))),
                None => ended(terminated(c)),
            }
        }
        // The runtime has forgotten it, and nothing will run in its place.
        _ if over && kept().is_some() => ended(kept().unwrap_or_default()),
        _ if memory.torn_down && memory.terminating => ended(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            ..Default::default()
        }),
        _ if memory.blocked.is_some() => waits(&Waiting {
            reason: "Blocked".into(),
            message: String::new(),
        }),
        _ => waits(waiting.unwrap_or(&Waiting {
            reason: creating(spec).into(),
            message: String::new(),
        })),
    };
    (state, before)
}

fn creating(spec: &PodSpec) -> &'static str {
    if spec::init_containers(spec).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    }
}

/// What the API has of the container now.
pub fn previous<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .chain(&status.ephemeral_container_statuses);
    all.flatten().find(|s| s.name == name)
}

/// `seen`: knows what became of a wish.
fn mounts(container: &Container, seen: Option<&Seen>) -> Vec<VolumeMountStatus> {
    // A path may have been given without its first slash.
    let bare = |path: &str| path.trim_start_matches('/').to_owned();
    let done = |path: &str| seen.is_some_and(|c| c.recursive.iter().any(|done| bare(done) == bare(path)));
    let each = container.volume_mounts.iter().flatten().map(|mount| {
        let read_only = mount.read_only == Some(true);
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled") => "Enabled",
            Some("IfPossible") if done(&mount.mount_path) => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: Some(true).filter(|_| read_only),
            recursive_read_only: Some(recursive.to_owned()).filter(|_| read_only),
            ..VolumeMountStatus::default()
        }
    });
    each.collect()
}

fn waits(waiting: &Waiting) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(waiting.reason.clone()),
            message: Some(waiting.message.clone()).filter(|m| !m.is_empty()),
        }),
        ..Default::default()
    }
}

fn running(c: &Seen) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning {
            started_at: time(c.started_at_ns),
        }),
        ..Default::default()
    }
}

fn ended(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState {
        terminated: Some(terminated),
        ..Default::default()
    }
}

fn terminated(c: &Seen) -> ContainerStateTerminated {
    let reason = if c.reason.is_empty() {
        if c.exit_code == 0 { "Completed" } else { "Error" }.to_owned()
    } else {
        c.reason.clone()
    };
    // One that never started did so, as the runtime tells it, when time began.
    let began = time(c.started_at_ns).or(Some(Time(jiff::Timestamp::UNIX_EPOCH)));
    ContainerStateTerminated {
        exit_code: c.exit_code,
        reason: Some(reason),
        message: Some(c.message.clone()).filter(|m| !m.is_empty()),
        started_at: began,
        finished_at: time(c.finished_at_ns),
        container_id: Some(format!("containerd://{}", c.id)),
        signal: None,
    }
}

/// All messages of a pod's containers together have a limit, of which each has its share.
pub fn shorten(statuses: &mut [&mut Vec<ContainerStatus>], containers: usize) {
    const MESSAGES_BYTES_MAX: usize = 12 << 10;
    let each = MESSAGES_BYTES_MAX / containers.max(1);
    let states = statuses.iter_mut().flat_map(|list| list.iter_mut());
    let states = states.flat_map(|s| [s.state.as_mut(), s.last_state.as_mut()]);
    for message in states.flatten().filter_map(|s| s.terminated.as_mut()?.message.as_mut()) {
        message.truncate(message.floor_char_boundary(each));
    }
}
