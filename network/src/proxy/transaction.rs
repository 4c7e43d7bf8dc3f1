//! From one set of rules to the next: the smallest list of operations, and its
//! text for `nft`. Pure. An encoder for nfnetlink would take the same operations.

use super::ruleset::{CONTAINERS, Family, Ruleset};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Clients remembered per backend of a Service with affinity; the kernel drops
/// new ones beyond, which then are merely balanced anew.
const AFFINITY_CLIENTS_MAX: u32 = 65535;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Drop the table, whoever left it, and begin with these declarations.
    Begin(String),
    AddSet(String, u32),
    AddChain(String),
    FlushChain(String),
    AddRule(String, String),
    DeleteElements(&'static str, Vec<String>),
    AddElements(&'static str, Vec<(String, String)>),
    DeleteChain(String),
    DeleteSet(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub family: Family,
    pub ops: Vec<Op>,
}

/// Everything, over whatever stands there: one transaction, so no packet sees
/// the table missing, and connections that are already translated do not notice.
pub fn full(new: &Ruleset) -> Transaction {
    let empty = Ruleset {
        sets: BTreeMap::new(),
        chains: BTreeMap::new(),
        elements: BTreeMap::new(),
        ..new.clone()
    };
    let mut transaction = diff(&empty, new);
    transaction.ops.insert(0, Op::Begin(new.fixed.clone()));
    transaction
}

/// Declarations first, then what refers to them, then what nothing refers to any more.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Transaction {
    if old.fixed != new.fixed {
        return full(new);
    }
    let mut ops = Vec::new();
    // A set whose timeout changed is made anew under the same name only in the
    // full form; its chains change anyway, so the name carries no state worth keeping.
    if new
        .sets
        .iter()
        .any(|(name, seconds)| old.sets.get(name).is_some_and(|before| before != seconds))
    {
        return full(new);
    }
    let fresh = |name: &&String| !old.sets.contains_key(*name);
    ops.extend(
        new.sets
            .keys()
            .filter(fresh)
            .map(|name| Op::AddSet(name.clone(), new.sets[name])),
    );
    ops.extend(
        new.chains
            .keys()
            .filter(|name| !old.chains.contains_key(*name))
            .cloned()
            .map(Op::AddChain),
    );
    for (name, rules) in &new.chains {
        match old.chains.get(name) {
            Some(before) if before == rules => continue,
            Some(_) => ops.push(Op::FlushChain(name.clone())),
            None => {}
        }
        ops.extend(rules.iter().map(|rule| Op::AddRule(name.clone(), rule.clone())));
    }
    let nothing = BTreeMap::new();
    for container in CONTAINERS {
        let before = old.elements.get(container).unwrap_or(&nothing);
        let after = new.elements.get(container).unwrap_or(&nothing);
        let gone: Vec<String> = before
            .iter()
            .filter(|(k, v)| after.get(*k) != Some(v))
            .map(|(k, _)| k.clone())
            .collect();
        let come: Vec<(String, String)> = after
            .iter()
            .filter(|(k, v)| before.get(*k) != Some(v))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        ops.extend((!gone.is_empty()).then_some(Op::DeleteElements(container, gone)));
        ops.extend((!come.is_empty()).then_some(Op::AddElements(container, come)));
    }
    let dead: Vec<&String> = old
        .chains
        .keys()
        .filter(|name| !new.chains.contains_key(*name))
        .collect();
    ops.extend(dead.iter().map(|name| Op::FlushChain((*name).clone())));
    ops.extend(dead.iter().map(|name| Op::DeleteChain((*name).clone())));
    ops.extend(
        old.sets
            .keys()
            .filter(|name| !new.sets.contains_key(*name))
            .cloned()
            .map(Op::DeleteSet),
    );
    Transaction {
        family: new.family,
        ops,
    }
}

/// The text that `nft -f -` takes.
pub fn render(transaction: &Transaction) -> String {
    let family = transaction.family;
    let table = format!("{} skiff", family.keyword());
    let mut out = String::new();
    for op in &transaction.ops {
        let _ = match op {
            Op::Begin(fixed) => {
                write!(
                    out,
                    "add table {table}\ndelete table {table}\ntable {table} {{\n{fixed}}}\n"
                )
            }
            Op::AddSet(name, seconds) => writeln!(
                out,
                "add set {table} {name} {{ type {}; flags dynamic,timeout; timeout {seconds}s; size {AFFINITY_CLIENTS_MAX}; }}",
                family.address_type()
            ),
            Op::AddChain(name) => writeln!(out, "add chain {table} {name}"),
            Op::FlushChain(name) => writeln!(out, "flush chain {table} {name}"),
            Op::AddRule(name, rule) => writeln!(out, "add rule {table} {name} {rule}"),
            Op::DeleteElements(name, keys) => {
                writeln!(out, "delete element {table} {name} {{ {} }}", keys.join(", "))
            }
            Op::AddElements(name, elements) => {
                let list: Vec<String> = elements
                    .iter()
                    .map(|(key, value)| {
                        if value.is_empty() {
                            key.clone()
                        } else {
                            format!("{key} : {value}")
                        }
                    })
                    .collect();
                writeln!(out, "add element {table} {name} {{ {} }}", list.join(", "))
            }
            Op::DeleteChain(name) => writeln!(out, "delete chain {table} {name}"),
            Op::DeleteSet(name) => writeln!(out, "delete set {table} {name}"),
        };
    }
    out
}
