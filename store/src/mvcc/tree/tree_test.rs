//! Any changes, beside a map of the standard library's and with clones held on the way.

use super::node::WIDTH;
use super::*;
use crate::contract::{Numbers, Record};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Child {
    /// Checks order, bounds, counts, maxima and widths; returns the height.
    fn check(&self, from: Option<&[u8]>, to: Option<&[u8]>, is_root: bool) -> u8 {
        match &*self.node {
            Node::Leaf(leaf) => {
                assert!(leaf.entries.len() <= WIDTH && (is_root || !leaf.entries.is_empty()));
                assert!(leaf.entries.windows(2).all(|w| w[0].key() < w[1].key()));
                let within = |key: &[u8]| from.is_none_or(|f| f <= key) && to.is_none_or(|t| key < t);
                assert!(leaf.entries.iter().all(|e| within(e.key())));
                assert_eq!(self.count, leaf.entries.len());
                let highest = leaf.entries.iter().map(Entry::mod_revision).max();
                assert_eq!(self.max_mod, highest.unwrap_or(0));
                0
            }
            Node::Inner(inner) => {
                let width = inner.children.len();
                assert!(width <= WIDTH && width > usize::from(is_root));
                assert_eq!(inner.bounds.len() + 1, width);
                for (at, child) in inner.children.iter().enumerate() {
                    let first = at.checked_sub(1).map(|before| inner.bounds.get(before));
                    let last = (at + 1 < width).then(|| inner.bounds.get(at));
                    assert_eq!(child.check(first.or(from), last.or(to), false) + 1, inner.height);
                }
                assert_eq!(self.count, inner.children.iter().map(|c| c.count).sum::<usize>());
                assert_eq!(Some(self.max_mod), inner.children.iter().map(|c| c.max_mod).max());
                inner.height
            }
        }
    }
}

impl Tree {
    pub fn rebuilt(&self) -> Tree {
        Tree::from_entries(self.iter_from(b"").cloned().collect())
    }

    pub fn assert_sound(&self) {
        self.root.check(None, None, true);
    }
}

fn entry(key: &[u8], revision: Revision) -> Entry {
    let record = Record {
        body: revision.to_string().into(),
        ..Record::default()
    };
    let numbers = Numbers {
        mod_revision: revision,
        ..Numbers::default()
    };
    Entry::new(key, &record, numbers)
}

type Oracle = BTreeMap<Vec<u8>, Entry>;

fn assert_same(tree: &Tree, oracle: &Oracle) {
    tree.assert_sound();
    assert_eq!((tree.len(), tree.is_empty()), (oracle.len(), oracle.is_empty()));
    assert!(tree.iter_from(b"").eq(oracle.values()));
}

/// Checks what is asked of a range.
fn assert_same_within(tree: &Tree, oracle: &Oracle, from: &[u8], to: Option<&[u8]>) {
    let within = || {
        oracle
            .range(from.to_vec()..)
            .take_while(|(k, _)| to.is_none_or(|to| &k[..] < to))
    };
    assert_eq!(tree.get(from), oracle.get(from));
    assert_eq!(tree.rank(from), oracle.range(..from.to_vec()).count());
    assert!(tree.iter_from(from).eq(oracle.range(from.to_vec()..).map(|(_, e)| e)));
    assert_eq!(tree.count(from, to), within().count());
    let highest = within().map(|(_, e)| e.mod_revision()).max();
    assert_eq!(tree.max_mod(from, to), highest.unwrap_or(0));
}

fn assert_differences(old: (&Tree, &Oracle), new: (&Tree, &Oracle)) {
    let mut keys: Vec<_> = old.1.keys().chain(new.1.keys()).collect();
    keys.sort();
    keys.dedup();
    let pairs = keys.into_iter().map(|key| (old.1.get(key), new.1.get(key)));
    let expected: Vec<_> = pairs.filter(|(a, b)| a != b).collect();
    assert_eq!(new.0.since(old.0).collect::<Vec<_>>(), expected);
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<u8>),
    /// Of a run of keys that follow each other.
    PutRun(u16, u16),
    Remove(Vec<u8>),
    RemoveRun(u16, u16),
    /// An older revision, as when the past is restored.
    Restore(Vec<u8>, u8),
    Hold,
}

fn numbered(n: u16) -> Vec<u8> {
    format!("/r/{:05}", n % 1500).into_bytes()
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => any::<u16>().prop_map(numbered),
        1 => prop::collection::vec(prop_oneof![Just(0), Just(b'/'), Just(b'a'), Just(255)], 0..6),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => key().prop_map(Step::Put),
        2 => (any::<u16>(), 1..300_u16).prop_map(|(from, count)| Step::PutRun(from, count)),
        4 => key().prop_map(Step::Remove),
        2 => (any::<u16>(), 1..300_u16).prop_map(|(from, count)| Step::RemoveRun(from, count)),
        1 => (key(), 1..200_u8).prop_map(|(key, back)| Step::Restore(key, back)),
        1 => Just(Step::Hold),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_plain_map(
        steps in prop::collection::vec(step(), 1..60),
        ranges in prop::collection::vec((key(), prop::option::of(key())), 8),
    ) {
        let (mut tree, mut oracle, mut revision) = (Tree::default(), Oracle::new(), 1_000);
        let mut held = vec![(tree.clone(), oracle.clone())];
        let put = |tree: &mut Tree, oracle: &mut Oracle, key: Vec<u8>, revision| {
            let new = entry(&key, revision);
            let before = tree.insert(new.clone());
            assert_eq!(before, oracle.insert(key, new));
        };
        for step in steps {
            revision += 1;
            match step {
                Step::Put(key) => put(&mut tree, &mut oracle, key, revision),
                Step::PutRun(from, count) => for n in 0..count {
                    put(&mut tree, &mut oracle, numbered(from.wrapping_add(n)), revision);
                },
                Step::Remove(key) => prop_assert_eq!(tree.remove(&key), oracle.remove(&key)),
                Step::RemoveRun(from, count) => for n in 0..count {
                    let key = numbered(from.wrapping_add(n));
                    prop_assert_eq!(tree.remove(&key), oracle.remove(&key));
                },
                Step::Restore(key, back) => put(&mut tree, &mut oracle, key, revision - u64::from(back)),
                Step::Hold => held.push((tree.clone(), oracle.clone())),
            }
            tree.assert_sound();
        }
        held.push((tree.rebuilt(), oracle.clone()));
        held.push((tree, oracle));
        for (at, (tree, oracle)) in held.iter().enumerate() {
            assert_same(tree, oracle);
            for (from, to) in &ranges {
                assert_same_within(tree, oracle, from, to.as_deref());
            }
            let (earlier, known) = &held[at / 2];
            assert_differences((earlier, known), (tree, oracle));
            assert_differences((tree, oracle), (earlier, known));
        }
    }
}

#[test]
fn a_large_one_is_built_split_and_emptied() {
    let keys: Vec<Vec<u8>> = (0..40_000_u32).map(|n| format!("/many/{n:08}").into_bytes()).collect();
    let mut tree = Tree::default();
    let mut oracle = Oracle::new();
    // In order, as a counter makes them, then in none.
    for (revision, key) in (1..).zip(&keys) {
        tree.insert(entry(key, revision));
        oracle.insert(key.clone(), entry(key, revision));
    }
    assert_same(&tree, &oracle);
    assert!(matches!(&*tree.root.node, Node::Inner(root) if root.height == 3));
    let rebuilt = tree.rebuilt();
    assert_same(&rebuilt, &oracle);
    for at in 0..keys.len() {
        let key = &keys[at * 7_919 % keys.len()];
        assert_eq!(tree.remove(key), oracle.remove(key));
        if at % 4_000 == 0 {
            assert_same(&tree, &oracle);
        }
    }
    assert_same(&tree, &oracle);
    assert_eq!(rebuilt.len(), keys.len());
}

#[test]
fn full_leaves_are_left_behind_by_keys_in_order() {
    let mut tree = Tree::default();
    for n in 0..WIDTH * 100 {
        tree.insert(entry(format!("/{n:08}").as_bytes(), 1));
    }
    let Node::Inner(root) = &*tree.root.node else {
        panic!("it has many leaves")
    };
    let leaves: usize = root
        .children
        .iter()
        .map(|c| match &*c.node {
            Node::Inner(inner) => inner.children.len(),
            Node::Leaf(_) => 1,
        })
        .sum();
    assert_eq!(leaves, 100);
}

#[test]
fn what_is_shared_is_not_looked_at() {
    let entries: Vec<Entry> = (0..20_000).map(|n| entry(format!("/{n:08}").as_bytes(), 1)).collect();
    let old = Tree::from_entries(entries);
    let mut new = old.clone();
    assert!(new.since(&old).next().is_none());
    new.insert(entry(b"/00010000", 2));
    // All of the path to one leaf was copied, and nothing else.
    fn unshared(old: &Arc<Node>, new: &Arc<Node>) -> usize {
        match (&**old, &**new) {
            _ if Arc::ptr_eq(old, new) => 0,
            (Node::Inner(a), Node::Inner(b)) => {
                1 + a
                    .children
                    .iter()
                    .zip(&b.children)
                    .map(|(a, b)| unshared(&a.node, &b.node))
                    .sum::<usize>()
            }
            _ => 1,
        }
    }
    assert_eq!(unshared(&old.root.node, &new.root.node), 3);
    assert_eq!(new.since(&old).count(), 1);
}
