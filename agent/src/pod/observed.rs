//! What the runtime shows of one pod, as plain values. Pure.

use skiff_proto::cri::v1 as cri;
use std::collections::BTreeMap;

pub const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
pub const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
pub const LABEL_CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const ANNOTATION_MESSAGE_FILE: &str = "skiff.io/termination-message-file";
pub const ANNOTATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The resources that the container began with, as JSON.
pub const ANNOTATION_RESOURCES: &str = "skiff.io/resources";
/// The image as the pod's specification named it.
pub const ANNOTATION_IMAGE: &str = "skiff.io/image";
pub const ANNOTATION_RESTARTS: &str = "io.kubernetes.container.restartCount";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sandbox {
    pub id: String,
    pub ready: bool,
    /// Its network has been taken down after it ended.
    pub stopped: bool,
    pub attempt: u32,
    pub created_at_ns: i64,
    pub ips: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Unknown,
    Created,
    Running,
    Exited,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub attempt: u32,
    pub state: State,
    pub created_at_ns: i64,
    pub started_at_ns: i64,
    pub finished_at_ns: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_wanted: String,
    pub image_id: String,
    pub log_path: String,
    pub message_file: String,
    pub message_policy: String,
    /// UID, GID and further groups of the first process, where the runtime tells them.
    pub user: Option<(i64, i64, Vec<i64>)>,
    pub resources: String,
    /// Where a volume is mounted read-only with all that is mounted in it.
    pub recursive: Vec<String>,
    /// It was ended to begin anew, whatever the restart policy says.
    pub again: bool,
    /// It ended before all containers of the pod were begun anew: it counts for nothing but its history.
    pub past: bool,
}

impl Container {
    /// One that never started ran for no time.
    pub fn ran_s(&self) -> i64 {
        match self.started_at_ns {
            0 => 0,
            started => (self.finished_at_ns - started).max(0) / 1_000_000_000,
        }
    }
}

/// Newest first in both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    pub sandboxes: Vec<Sandbox>,
    pub containers: BTreeMap<String, Vec<Container>>,
}

impl Observed {
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|s| s.ready)
    }

    /// The newest of those that count.
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.last(name).filter(|container| !container.past)
    }

    /// The newest of all.
    pub fn last(&self, name: &str) -> Option<&Container> {
        self.containers.get(name).and_then(|list| list.first())
    }

    pub fn all(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().flatten()
    }

    pub fn find(&self, id: &str) -> Option<&Container> {
        self.all().find(|c| c.id == id)
    }

    pub fn put_container(&mut self, container: Container) {
        let list = self.containers.entry(container.name.clone()).or_default();
        match list.iter_mut().find(|c| c.id == container.id) {
            Some(slot) => {
                let past = slot.past;
                *slot = Container { past, ..container };
            }
            None => {
                // Most never get a second one.
                list.reserve_exact(1);
                list.push(container);
            }
        }
        list.sort_by_key(|c| std::cmp::Reverse((c.created_at_ns, c.attempt)));
    }

    pub fn put_sandbox(&mut self, sandbox: Sandbox) {
        match self.sandboxes.iter_mut().find(|s| s.id == sandbox.id) {
            Some(slot) => {
                let stopped = slot.stopped;
                *slot = Sandbox { stopped, ..sandbox };
            }
            None => self.sandboxes.push(sandbox),
        }
        self.sandboxes
            .sort_by_key(|s| std::cmp::Reverse((s.created_at_ns, s.attempt)));
    }

    pub fn forget_container(&mut self, id: &str) {
        for list in self.containers.values_mut() {
            list.retain(|c| c.id != id);
        }
        self.containers.retain(|_, list| !list.is_empty());
    }
}

impl From<cri::PodSandboxStatus> for Sandbox {
    fn from(status: cri::PodSandboxStatus) -> Self {
        let network = status.network.unwrap_or_default();
        let first = Some(network.ip).filter(|ip| !ip.is_empty());
        Self {
            ready: status.state == cri::PodSandboxState::SandboxReady as i32,
            stopped: false,
            attempt: status.metadata.unwrap_or_default().attempt,
            created_at_ns: status.created_at,
            ips: first
                .into_iter()
                .chain(network.additional_ips.into_iter().map(|ip| ip.ip))
                .collect(),
            id: status.id,
        }
    }
}

/// The sandbox is not part of a CRI container status; the caller knows it.
pub fn container(status: cri::ContainerStatus, sandbox_id: &str) -> Container {
    let metadata = status.metadata.unwrap_or_default();
    let annotation = |name: &str| status.annotations.get(name).cloned().unwrap_or_default();
    Container {
        sandbox_id: sandbox_id.to_owned(),
        state: match status.state {
            s if s == cri::ContainerState::ContainerCreated as i32 => State::Created,
            s if s == cri::ContainerState::ContainerRunning as i32 => State::Running,
            s if s == cri::ContainerState::ContainerExited as i32 => State::Exited,
            _ => State::Unknown,
        },
        attempt: metadata.attempt,
        name: metadata.name,
        created_at_ns: status.created_at,
        started_at_ns: status.started_at,
        finished_at_ns: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image: status.image.map(|i| i.image).unwrap_or_default(),
        image_wanted: annotation(ANNOTATION_IMAGE),
        user: status
            .user
            .and_then(|u| u.linux)
            .map(|u| (u.uid, u.gid, u.supplemental_groups)),
        image_id: status.image_ref,
        log_path: status.log_path,
        message_file: annotation(ANNOTATION_MESSAGE_FILE),
        message_policy: annotation(ANNOTATION_MESSAGE_POLICY),
        resources: annotation(ANNOTATION_RESOURCES),
        recursive: status
            .mounts
            .iter()
            .filter(|m| m.recursive_read_only)
            .map(|m| m.container_path.clone())
            .collect(),
        again: false,
        past: false,
        id: status.id,
    }
}
