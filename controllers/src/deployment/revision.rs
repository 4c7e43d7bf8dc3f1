//! Which ReplicaSet is the Deployment's current one, its name's hash, and the annotations that carry the
//! rollout's history. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::key::annotation;
use crate::selector::Labels;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// A revision history longer than this loses its oldest entries; upstream's limit.
const HISTORY_MAX: usize = 2000;
/// Digits without vowels, so that a hash never spells a word.
const SAFE_DIGITS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Annotations that belong to one of the two objects only.
fn stays_home(key: &str) -> bool {
    [
        LAST_APPLIED,
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        ROLLBACK_TO,
    ]
    .contains(&key)
}

/// A short name for a template: FNV-1a over its canonical JSON, then Kubernetes' safe alphabet.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    // Struct fields and BTreeMaps have one order, so equal templates give equal bytes.
    feed(&serde_json::to_vec(template).unwrap_or_default());
    if let Some(collisions) = collisions {
        feed(&collisions.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

pub fn safe_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| char::from(SAFE_DIGITS[usize::from(byte) % SAFE_DIGITS.len()]))
        .collect()
}

/// Whether the templates are the same but for the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let plain = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(metadata) = &mut template.metadata {
            if let Some(labels) = &mut metadata.labels {
                labels.remove(TEMPLATE_HASH);
            }
            metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
            metadata.annotations = metadata
                .annotations
                .take()
                .filter(|annotations| !annotations.is_empty());
            metadata.creation_timestamp = None;
        } else {
            template.metadata = Some(Default::default());
        }
        template
    };
    plain(a) == plain(b)
}

pub fn revision_of(annotations: Option<&Labels>) -> i64 {
    annotations
        .and_then(|annotations| annotations.get(REVISION))
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

pub fn max_revision<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter()
        .map(|set| revision_of(set.metadata.annotations.as_ref()))
        .max()
        .unwrap_or(0)
}

/// Gives the current ReplicaSet the Deployment's annotations and the new revision, which a rollback to an
/// old template raises again. Returns whether anything changed.
pub fn annotate_current(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !stays_home(key) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let before = annotations.get(REVISION).cloned();
    let old = before.as_deref().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    if old < revision {
        annotations.insert(REVISION.to_string(), revision.to_string());
        if let Some(before) = before {
            let history = annotations
                .get(REVISION_HISTORY)
                .map(String::as_str)
                .unwrap_or_default();
            let mut entries: Vec<&str> = history.split(',').filter(|entry| !entry.is_empty()).collect();
            entries.push(&before);
            while entries.iter().map(|entry| entry.len() + 1).sum::<usize>() > HISTORY_MAX {
                entries.remove(0);
            }
            let history = entries.join(",");
            annotations.insert(REVISION_HISTORY.to_string(), history);
        }
        changed = true;
    }
    changed
}

/// Notes on a ReplicaSet how large the Deployment was when it was last scaled: that is how a change of
/// `spec.replicas` is told from a rollout. Returns whether anything changed.
pub fn annotate_size(set: &mut ReplicaSet, desired: i32, max: i32) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, max)] {
        let value = value.to_string();
        if annotations.get(key) != Some(&value) {
            annotations.insert(key.to_string(), value);
            changed = true;
        }
    }
    changed
}

pub fn desired_annotation(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, DESIRED_REPLICAS)?.parse().ok()
}

pub fn max_annotation(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, MAX_REPLICAS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_safe_and_differ_by_collision() {
        let template = PodTemplateSpec::default();
        let hash = template_hash(&template, None);
        assert_eq!(hash, template_hash(&template, None));
        assert_ne!(hash, template_hash(&template, Some(1)));
        assert!(hash.bytes().all(|byte| SAFE_DIGITS.contains(&byte)));
    }

    #[test]
    fn a_rollback_raises_the_revision_and_remembers_the_old_one() {
        let deployment = Deployment::default();
        let mut set = ReplicaSet::default();
        assert!(annotate_current(&deployment, &mut set, 1));
        assert!(!annotate_current(&deployment, &mut set, 1));
        assert!(annotate_current(&deployment, &mut set, 3));
        assert_eq!(annotation(&set.metadata, REVISION), Some("3"));
        assert_eq!(annotation(&set.metadata, REVISION_HISTORY), Some("1"));
    }
}
