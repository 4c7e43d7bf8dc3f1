//! Which of the node's IDs are a pod's. Pure.

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use skiff_proto::cri::v1 as cri;
use std::collections::{BTreeMap, BTreeSet};

/// How many users, and groups, a pod has: as many as programs and images expect.
pub const IDS: u32 = 65_536;

/// The IDs that pods are given, in parts of `IDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: u32,
    parts: u32,
}

impl Range {
    /// All but the machine's own.
    pub const WHOLE: Self = Self {
        first: IDS,
        parts: u32::MAX / IDS,
    };

    /// The answer of `getsubids` about a user: one line, `0: NAME FIRST COUNT`.
    pub fn parse(told: &str, pods_max: u32) -> Result<Self, String> {
        let mut lines = told.lines();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(format!("error parsing line {told:?}: it must contain only one line"));
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, first, count] = words[..] else {
            return Err(format!("invalid line {line:?}"));
        };
        let number = |word: &str| {
            word.parse()
                .map_err(|e: std::num::ParseIntError| format!("error parsing line {told:?}: {e}"))
        };
        Self::new(number(first)?, number(count)?, pods_max)
    }

    fn new(first: u32, count: u32, pods_max: u32) -> Result<Self, String> {
        if !first.is_multiple_of(IDS) {
            return Err(format!("kubelet user assigned ID {first} is not a multiple of {IDS}"));
        }
        if first < IDS {
            return Err(format!(
                "kubelet user assigned ID {first} must be greater or equal to {IDS}"
            ));
        }
        if !count.is_multiple_of(IDS) {
            return Err(format!(
                "kubelet user assigned IDs length {count} is not a multiple of {IDS}"
            ));
        }
        // What is beyond the last ID is nobody's.
        let parts = (count / IDS).min((u32::MAX - first) / IDS + 1);
        if parts < pods_max {
            return Err(format!(
                "kubelet user assigned IDs are not enough to support {pods_max} pods"
            ));
        }
        Ok(Self { first, parts })
    }

    fn at(self, part: u32) -> u32 {
        self.first + part * IDS
    }

    fn contains(self, first: u32) -> bool {
        first >= self.first && (first - self.first) / IDS < self.parts
    }
}

/// What a pod's file says, in the form that kubelet gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    uid_mappings: Vec<Line>,
    gid_mappings: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// The IDs of one pod: from its root's on, those of the node that stand for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    pub first: u32,
}

impl Mapping {
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let file: File =
            serde_json::from_slice(text).map_err(|e| format!("invalid user namespace mappings file: {e}"))?;
        let wrong = |why: &str| format!("invalid user namespace configuration: {why}");
        let [line] = file.uid_mappings[..] else {
            return Err(wrong("no more than one mapping allowed."));
        };
        if file.gid_mappings != [line] {
            return Err(wrong("GID and UID mapping should be identical"));
        }
        if line.container_id != 0 {
            return Err(wrong("UID 0 must be mapped"));
        }
        if line.length != IDS {
            return Err(format!("wrong user namespace length {}", line.length));
        }
        if !line.host_id.is_multiple_of(IDS) {
            return Err(format!("wrong user namespace offset specified {}", line.host_id));
        }
        Ok(Self { first: line.host_id })
    }

    pub fn text(self) -> String {
        let line = Line {
            host_id: self.first,
            container_id: 0,
            length: IDS,
        };
        let file = File {
            uid_mappings: vec![line],
            gid_mappings: vec![line],
        };
        serde_json::to_string(&file).unwrap_or_default()
    }

    pub fn lines(self) -> Vec<cri::IdMapping> {
        vec![cri::IdMapping {
            host_id: self.first,
            container_id: 0,
            length: IDS,
        }]
    }
}

/// The namespace of users as the runtime is told of it; without a mapping it is the node's own.
pub fn namespace(mapping: Option<Mapping>) -> cri::UserNamespace {
    match mapping {
        None => cri::UserNamespace {
            mode: cri::NamespaceMode::Node as i32,
            ..Default::default()
        },
        Some(mapping) => cri::UserNamespace {
            mode: cri::NamespaceMode::Pod as i32,
            uids: mapping.lines(),
            gids: mapping.lines(),
        },
    }
}

/// Whether the pod has users of its own.
pub fn wanted(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_users == Some(false))
}

/// Why a pod with users of its own cannot run with this handler.
pub fn refusal(handlers: &[cri::RuntimeHandler], handler: &str) -> Option<String> {
    let mut why = "can't set `spec.hostUsers: false`, runtime does not support user namespaces".to_owned();
    if !handler.is_empty() {
        why = format!(
            "can't set `spec.hostUsers: false`, RuntimeClass handler {handler:?} does not support user namespaces"
        );
    }
    match handlers.iter().find(|known| known.name == handler) {
        Some(known) if known.features.is_some_and(|features| features.user_namespaces) => None,
        Some(_) => Some(why),
        None => Some(format!("{why}: the handler {handler:?} is not known")),
    }
}

/// Who has which part. No two pods have the same.
#[derive(Debug)]
pub struct Book {
    range: Range,
    held: BTreeMap<String, Mapping>,
    taken: BTreeSet<u32>,
}

impl Book {
    pub fn new(range: Range) -> Self {
        Self {
            range,
            held: BTreeMap::new(),
            taken: BTreeSet::new(),
        }
    }

    pub fn of(&self, uid: &str) -> Option<Mapping> {
        self.held.get(uid).copied()
    }

    /// Takes note of what a pod was given before.
    pub fn enter(&mut self, uid: &str, mapping: Mapping) -> Result<(), String> {
        match self.held.get(uid) {
            Some(held) if *held == mapping => return Ok(()),
            Some(_) => return Err(format!("different user namespace range already used by pod {uid:?}")),
            None => {}
        }
        if !self.range.contains(mapping.first) {
            return Err(format!("id {} is out of range", mapping.first));
        }
        if !self.taken.insert(mapping.first) {
            return Err(format!("range picked for pod {uid:?} already taken"));
        }
        self.held.insert(uid.to_owned(), mapping);
        Ok(())
    }

    /// A free part for a pod that has none. Where the search begins depends on the pod: files that
    /// one leaves behind on the node are not the next one's.
    pub fn allocate(&mut self, uid: &str) -> Result<Mapping, String> {
        // FNV-1a: any spread will do, but one that is the same everywhere.
        let spread = uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let parts = u64::from(self.range.parts);
        let from = u64::from(spread) % parts.max(1);
        for at in 0..parts {
            // A part's number is below their count, which is 32 bits wide.
            let part = u32::try_from((from + at) % parts).unwrap_or_default();
            let mapping = Mapping {
                first: self.range.at(part),
            };
            if self.enter(uid, mapping).is_ok() {
                return Ok(mapping);
            }
        }
        Err("could not find an empty slot to allocate a user namespace".to_owned())
    }

    /// Keeps what `lives` says; the rest is free again.
    pub fn retain(&mut self, lives: impl Fn(&str) -> bool) {
        let Self { held, taken, .. } = self;
        held.retain(|uid, mapping| {
            let lives = lives(uid);
            if !lives {
                taken.remove(&mapping.first);
            }
            lives
        });
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
