//! Who owns whom: a compact graph of owner references over all kinds, and what it says must be looked at
//! when an object appears, changes or goes. Pure.
//!
//! Kept small on purpose: an object without owners that is not being deleted costs one map entry.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// An object's uid. UUIDs are kept as their number; anything else is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u128);

impl Uid {
    pub fn new(text: &str) -> Self {
        let digits: String = text.chars().filter(|digit| *digit != '-').collect();
        if let (32, Ok(number)) = (digits.len(), u128::from_str_radix(&digits, 16)) {
            return Self(number);
        }
        // FNV-1a.
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        for byte in text.bytes() {
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
        Self(hash)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Number of a kind in the collector's table.
pub type KindNumber = u32;

/// How an object waits for its own deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    No,
    /// Being deleted; nothing of it concerns the collector.
    Plainly,
    /// Waits for its dependents to be gone.
    Foreground,
    /// Waits for its dependents to forget it.
    Orphaning,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: KindNumber,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub owners: Vec<OwnerReference>,
    pub going: Going,
}

#[derive(Default)]
pub struct Graph {
    /// Every object seen.
    alive: HashMap<Uid, KindNumber>,
    /// Objects with owners, or that wait for their dependents.
    nodes: HashMap<Uid, Node>,
    /// Owner to dependents; the owner need not exist.
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

fn going(meta: &ObjectMeta) -> Going {
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|known| known == finalizer);
    if meta.deletion_timestamp.is_none() {
        Going::No
    } else if has(ORPHAN) {
        Going::Orphaning
    } else if has(FOREGROUND) {
        Going::Foreground
    } else {
        Going::Plainly
    }
}

impl Graph {
    /// Notes an object; returns what must be looked at.
    pub fn put(&mut self, kind: KindNumber, meta: &ObjectMeta) -> Vec<Uid> {
        let text = meta.uid.as_deref().unwrap_or("");
        let uid = Uid::new(text);
        let going = going(meta);
        let owners = meta.owner_references.clone().unwrap_or_default();
        let mut look = Vec::new();
        self.alive.insert(uid, kind);
        let old_owners = self.nodes.get(&uid).map(|node| node.owners.clone()).unwrap_or_default();
        for owner in &old_owners {
            let unchanged = owners.iter().any(|now| now == owner);
            if !unchanged {
                self.forget_dependent(Uid::new(&owner.uid), uid);
                // An owner that waited for this one may go on.
                look.extend(self.waiting(Uid::new(&owner.uid)));
            }
        }
        for owner in &owners {
            let owner_uid = Uid::new(&owner.uid);
            self.dependents.entry(owner_uid).or_default().insert(uid);
            if !self.alive.contains_key(&owner_uid) || self.waiting(owner_uid).is_some() {
                look.push(uid);
            }
        }
        if matches!(going, Going::Foreground | Going::Orphaning) {
            look.push(uid);
        }
        if owners.is_empty() && !matches!(going, Going::Foreground | Going::Orphaning) {
            self.nodes.remove(&uid);
        } else {
            let node = Node {
                kind,
                namespace: meta.namespace.as_deref().unwrap_or("").into(),
                name: meta.name.as_deref().unwrap_or("").into(),
                uid: text.into(),
                owners,
                going,
            };
            self.nodes.insert(uid, node);
        }
        look
    }

    /// Forgets an object that is gone; returns what must be looked at.
    pub fn remove(&mut self, uid: Uid) -> Vec<Uid> {
        self.alive.remove(&uid);
        let mut look = Vec::new();
        if let Some(node) = self.nodes.remove(&uid) {
            for owner in node.owners {
                let owner = Uid::new(&owner.uid);
                self.forget_dependent(owner, uid);
                look.extend(self.waiting(owner));
            }
        }
        look.extend(self.dependents.get(&uid).into_iter().flatten());
        look
    }

    /// Objects of a kind that a new full list does not have.
    pub fn missing(&self, kind: KindNumber, listed: &BTreeSet<Uid>) -> Vec<Uid> {
        let of_kind = self
            .alive
            .iter()
            .filter(|(uid, known)| **known == kind && !listed.contains(*uid));
        let mut missing: Vec<Uid> = of_kind.map(|(uid, _)| *uid).collect();
        missing.sort();
        missing
    }

    fn forget_dependent(&mut self, owner: Uid, dependent: Uid) {
        if let Some(dependents) = self.dependents.get_mut(&owner) {
            dependents.remove(&dependent);
            if dependents.is_empty() {
                self.dependents.remove(&owner);
            }
        }
    }

    fn waiting(&self, owner: Uid) -> Option<Uid> {
        let node = self.nodes.get(&owner)?;
        matches!(node.going, Going::Foreground | Going::Orphaning).then_some(owner)
    }

    pub fn is_alive(&self, uid: Uid) -> bool {
        self.alive.contains_key(&uid)
    }

    pub fn is_foreground(&self, uid: Uid) -> bool {
        self.nodes.get(&uid).is_some_and(|node| node.going == Going::Foreground)
    }

    pub fn node(&self, uid: Uid) -> Option<&Node> {
        self.nodes.get(&uid)
    }

    pub fn dependents(&self, uid: Uid) -> Vec<(Uid, Node)> {
        let uids = self.dependents.get(&uid).into_iter().flatten();
        uids.filter_map(|dependent| Some((*dependent, self.nodes.get(dependent)?.clone())))
            .collect()
    }

    /// Dependents that hold back their owner's foreground deletion.
    pub fn blocking(&self, uid: Uid) -> Vec<Uid> {
        let blocks = |node: &Node| {
            let reference = node.owners.iter().find(|owner| Uid::new(&owner.uid) == uid);
            reference.is_some_and(|owner| owner.block_owner_deletion == Some(true))
        };
        self.dependents(uid)
            .into_iter()
            .filter(|(_, node)| blocks(node))
            .map(|(dependent, _)| dependent)
            .collect()
    }
}

/// What is known about an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    There,
    /// In foreground deletion, waiting for its dependents.
    Waiting,
    Gone,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Take these owners' uids out of the references; others remain.
    Detach(Vec<String>),
    Delete {
        foreground: bool,
    },
}

/// What happens to an object whose owners are as given.
pub fn judge(owners: &[(OwnerReference, Owner)], has_dependents: bool) -> Verdict {
    let lost: Vec<String> = owners
        .iter()
        .filter(|(_, state)| *state != Owner::There)
        .map(|(owner, _)| owner.uid.clone())
        .collect();
    if lost.is_empty() {
        return Verdict::Keep;
    }
    if lost.len() < owners.len() {
        return Verdict::Detach(lost);
    }
    // An owner that waits in the foreground waits for the whole tree.
    let foreground = has_dependents && owners.iter().any(|(_, state)| *state == Owner::Waiting);
    Verdict::Delete { foreground }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::time;
    use crate::pods::testing::at;

    fn meta(uid: &str, owners: &[&str]) -> ObjectMeta {
        let owner = |uid: &&str| OwnerReference {
            uid: (*uid).to_string(),
            block_owner_deletion: Some(true),
            ..Default::default()
        };
        ObjectMeta {
            uid: Some(uid.to_string()),
            owner_references: Some(owners.iter().map(owner).collect()),
            ..Default::default()
        }
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::default();
        assert!(graph.put(0, &meta("owner", &[])).is_empty());
        assert!(
            graph.put(1, &meta("child", &["owner"])).is_empty(),
            "its owner is known"
        );
        assert_eq!(graph.remove(Uid::new("owner")), [Uid::new("child")]);
        assert_eq!(
            graph.put(1, &meta("late", &["owner"])),
            [Uid::new("late")],
            "its owner is not known"
        );
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        let mut owner = meta("owner", &[]);
        graph.put(0, &owner);
        graph.put(1, &meta("child", &["owner"]));
        owner.deletion_timestamp = Some(time(at(1)));
        owner.finalizers = Some(vec![FOREGROUND.to_string()]);
        assert_eq!(graph.put(0, &owner), [Uid::new("owner")]);
        assert_eq!(graph.blocking(Uid::new("owner")), [Uid::new("child")]);
        assert_eq!(
            graph.remove(Uid::new("child")),
            [Uid::new("owner")],
            "the owner may go on"
        );
        assert!(graph.blocking(Uid::new("owner")).is_empty());
    }

    #[test]
    fn verdicts() {
        let owner = |uid: &str, state| {
            (
                OwnerReference {
                    uid: uid.to_string(),
                    ..Default::default()
                },
                state,
            )
        };
        assert_eq!(judge(&[owner("a", Owner::There)], false), Verdict::Keep);
        assert_eq!(
            judge(&[owner("a", Owner::Gone)], true),
            Verdict::Delete { foreground: false }
        );
        assert_eq!(
            judge(&[owner("a", Owner::Waiting)], true),
            Verdict::Delete { foreground: true }
        );
        assert_eq!(
            judge(&[owner("a", Owner::Waiting)], false),
            Verdict::Delete { foreground: false }
        );
        let mixed = [owner("a", Owner::There), owner("b", Owner::Gone)];
        assert_eq!(judge(&mixed, false), Verdict::Detach(vec!["b".to_string()]));
    }
}
