//! Finds the kind behind a path, and lists groups and versions in the order
//! discovery shows them. A catalog is never changed: kinds that come or go at
//! run time make a new one.

use skiff_api::ApiError;
use skiff_kinds::{Kind, KindRef, Subresource};
use std::collections::HashMap;
use std::sync::Arc;

/// All kinds that this server serves.
pub struct Catalog {
    /// Built-in kinds first.
    kinds: Vec<KindRef>,
    by_resource: HashMap<(&'static str, &'static str), usize>,
    /// Groups with their versions, preferred first; in upstream's order.
    groups: Vec<(&'static str, Vec<&'static str>)>,
}

impl Catalog {
    /// The built-in kinds and these; a custom kind never takes the place of a built-in one.
    pub fn new(built_in: &'static [Kind], custom: &[Arc<Kind>]) -> Self {
        let mut kinds: Vec<KindRef> = Vec::with_capacity(built_in.len() + custom.len());
        kinds.extend(built_in.iter().map(KindRef::from));
        kinds.extend(custom.iter().cloned().map(KindRef::from));
        let mut by_resource = HashMap::with_capacity(kinds.len());
        let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
        let mut group_at: HashMap<&'static str, usize> = HashMap::new();
        for (at, kind) in kinds.iter().enumerate() {
            by_resource.entry((kind.group, kind.plural)).or_insert(at);
            let index = *group_at.entry(kind.group).or_insert_with(|| {
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

    pub fn kinds(&self) -> &[KindRef] {
        &self.kinds
    }

    /// By group and plural name.
    pub fn resource(&self, group: &str, plural: &str) -> Option<&KindRef> {
        // The map's key borrows 'static strings; a lookup by shorter ones needs no copy.
        self.by_resource.get(&(group, plural)).map(|at| &self.kinds[*at])
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
    pub fn in_version(&self, group: &str, version: &str) -> Vec<&KindRef> {
        let mut found: Vec<&KindRef> = self
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

/// A row that the server itself reads or writes.
pub fn built_in(group: &str, plural: &str) -> Result<&'static Kind, ApiError> {
    skiff_kinds::find(group, plural).ok_or_else(|| ApiError::internal(format!("{plural} are not served")))
}

/// The subresource row of a kind.
pub fn subresource(kind: &Kind, name: &str) -> Option<&'static Subresource> {
    kind.subresources.iter().find(|s| s.name == name)
}
