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
    /// Every object seen, with its kind and a hash of its namespace and name.
    alive: HashMap<Uid, (KindNumber, u64)>,
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

/// Where an object is, in a number: FNV-1a. Two places that hash alike cost a wrong "it is there" until the
/// owner goes, nothing more.
fn place(namespace: &str, name: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in namespace.bytes().chain([0]).chain(name.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

impl Graph {
    /// Notes an object; returns what must be looked at.
    pub fn put(&mut self, kind: KindNumber, meta: &ObjectMeta) -> Vec<Uid> {
        let text = meta.uid.as_deref().unwrap_or("");
        let uid = Uid::new(text);
        let going = going(meta);
        let owners = meta.owner_references.clone().unwrap_or_default();
        let mut look = Vec::new();
        let namespace = meta.namespace.as_deref().unwrap_or("");
        let own_name = meta.name.as_deref().unwrap_or("");
        let new = self.alive.insert(uid, (kind, place(namespace, own_name))).is_none();
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
            if !self.is_at(owner, namespace) || self.waiting(owner_uid).is_some() {
                look.push(uid);
            }
        }
        // Those that came before their owner may name another one than this.
        if new && let Some(earlier) = self.dependents.get(&uid) {
            let misled = earlier.iter().filter(|dependent| {
                let node = self.nodes.get(*dependent);
                node.is_some_and(|node| node.owners.iter().any(|owner| !self.is_at(owner, &node.namespace)))
            });
            look.extend(misled);
        }
        if matches!(going, Going::Foreground | Going::Orphaning) {
            look.push(uid);
        }
        if owners.is_empty() && !matches!(going, Going::Foreground | Going::Orphaning) {
            self.nodes.remove(&uid);
        } else {
            let node = Node {
                kind,
                namespace: namespace.into(),
                name: own_name.into(),
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
            .filter(|(uid, (known, _))| *known == kind && !listed.contains(*uid));
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

    /// The kind of what has the owner's uid, where it is what the reference names: an object of that name in
    /// the namespace of the dependent, or of no namespace.
    pub fn owner_kind(&self, owner: &OwnerReference, namespace: &str) -> Option<KindNumber> {
        let (kind, at) = self.alive.get(&Uid::new(&owner.uid))?;
        let here = *at == place(namespace, &owner.name) || *at == place("", &owner.name);
        here.then_some(*kind)
    }

    fn is_at(&self, owner: &OwnerReference, namespace: &str) -> bool {
        self.owner_kind(owner, namespace).is_some()
    }

    /// Something has the owner's uid, but is not what the reference names.
    pub fn is_elsewhere(&self, owner: &OwnerReference, namespace: &str) -> bool {
        self.alive.contains_key(&Uid::new(&owner.uid)) && !self.is_at(owner, namespace)
    }

    /// An object that waits for its dependents is among the dependents: perhaps a circle.
    pub fn may_circle(&self, uid: Uid) -> bool {
        let mut dependents = self.dependents.get(&uid).into_iter().flatten();
        dependents.any(|dependent| self.is_foreground(*dependent))
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
            name: (*uid).to_string(),
            block_owner_deletion: Some(true),
            ..Default::default()
        };
        ObjectMeta {
            uid: Some(uid.to_string()),
            name: Some(uid.to_string()),
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
    fn an_owner_in_another_namespace_is_none() {
        let mut graph = Graph::default();
        let there = |uid: &str, owners: &[&str], namespace: &str| ObjectMeta {
            namespace: Some(namespace.to_string()),
            ..meta(uid, owners)
        };
        assert_eq!(graph.put(1, &there("early", &["owner"], "b")), [Uid::new("early")]);
        assert_eq!(
            graph.put(0, &there("owner", &[], "a")),
            [Uid::new("early")],
            "it meant another"
        );
        let child = there("child", &["owner"], "b");
        assert_eq!(graph.put(1, &child), [Uid::new("child")]);
        let reference = &child.owner_references.as_ref().expect("owners")[0];
        assert!(graph.is_elsewhere(reference, "b") && !graph.is_elsewhere(reference, "a"));
        assert_eq!(graph.owner_kind(reference, "a"), Some(0));
        assert!(graph.put(2, &meta("cluster", &[])).is_empty());
        assert!(
            graph.put(1, &there("other", &["cluster"], "b")).is_empty(),
            "of no namespace"
        );
    }

    #[test]
    fn circles_are_seen() {
        let mut graph = Graph::default();
        graph.put(0, &meta("a", &["c"]));
        graph.put(0, &meta("b", &["a"]));
        graph.put(0, &meta("c", &["b"]));
        assert!(!graph.may_circle(Uid::new("c")));
        let mut going = meta("a", &["c"]);
        going.deletion_timestamp = Some(time(at(1)));
        going.finalizers = Some(vec![FOREGROUND.to_string()]);
        graph.put(0, &going);
        assert!(graph.may_circle(Uid::new("c")) && !graph.may_circle(Uid::new("b")));
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
