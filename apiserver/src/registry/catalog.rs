//! Finds the kind behind a path, and lists groups and versions in the order
//! discovery shows them.

use skiff_kinds::{Kind, Subresource};
use std::collections::HashMap;

/// All kinds that this server serves.
pub struct Catalog {
    kinds: &'static [Kind],
    by_resource: HashMap<(&'static str, &'static str), &'static Kind>,
    /// Groups with their versions, preferred first; in upstream's order.
    groups: Vec<(&'static str, Vec<&'static str>)>,
}

impl Catalog {
    pub fn new(kinds: &'static [Kind]) -> Self {
        let by_resource = kinds.iter().map(|k| ((k.group, k.plural), k)).collect();
        let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
        for kind in kinds {
            let index = groups.iter().position(|(g, _)| *g == kind.group).unwrap_or_else(|| {
                groups.push((kind.group, Vec::new()));
                groups.len() - 1
            });
            for version in kind.versions {
                if !groups[index].1.contains(version) {
                    groups[index].1.push(version);
                }
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by_key(|v| stability(v));
        }
        groups.sort_by_key(|(g, _)| (priority(g), *g));
        Self {
            kinds,
            by_resource,
            groups,
        }
    }

    pub fn kinds(&self) -> &'static [Kind] {
        self.kinds
    }

    pub fn resource(&self, group: &str, plural: &str) -> Option<&'static Kind> {
        // The map's key borrows 'static strings; a lookup by shorter ones needs no copy.
        self.by_resource.get(&(group, plural)).copied()
    }

    pub fn groups(&self) -> &[(&'static str, Vec<&'static str>)] {
        &self.groups
    }

    pub fn versions(&self, group: &str) -> &[&'static str] {
        self.groups
            .iter()
            .find(|(g, _)| *g == group)
            .map_or(&[], |(_, v)| v.as_slice())
    }

    /// Kinds of a group version, by plural.
    pub fn in_version(&self, group: &str, version: &str) -> Vec<&'static Kind> {
        let mut found: Vec<&'static Kind> = self
            .kinds
            .iter()
            .filter(|k| k.group == group && k.versions.contains(&version))
            .collect();
        found.sort_by_key(|k| k.plural);
        found
    }
}

/// Groups in the order in which upstream's discovery lists them; clients that find a
/// name in several groups take the first.
const GROUP_ORDER: [&str; 21] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
];

/// Groups that are not listed come last.
fn priority(group: &str) -> usize {
    GROUP_ORDER
        .iter()
        .position(|g| *g == group)
        .unwrap_or(GROUP_ORDER.len())
}

/// Sorts GA before beta before alpha, newer before older.
fn stability(version: &str) -> (u8, std::cmp::Reverse<u32>, std::cmp::Reverse<u32>) {
    let rest = version.strip_prefix('v').unwrap_or(version);
    let (stage, major, minor) = match (rest.split_once("beta"), rest.split_once("alpha")) {
        (Some((major, minor)), _) => (1, major, minor),
        (_, Some((major, minor))) => (2, major, minor),
        _ => (0, rest, "0"),
    };
    let read = |s: &str| std::cmp::Reverse(s.parse().unwrap_or(0));
    (stage, read(major), read(minor))
}

/// The subresource row of a kind.
pub fn subresource(kind: &'static Kind, name: &str) -> Option<&'static Subresource> {
    kind.subresources.iter().find(|s| s.name == name)
}
