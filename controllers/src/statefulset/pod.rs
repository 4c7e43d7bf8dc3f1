//! The pod of an ordinal, with its stable name and volumes, and the claims behind these. Pure.

use crate::slim::Pod;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::key::{controller_reference, name, namespace, uid};
use crate::pods::{NewPod, from_template};
use crate::revisions::REVISION_HASH;

use super::plan::{Version, ordinal, range};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The labels that name a pod's place in the set.
pub fn identity(pod_name: &str, ordinal: i32) -> [(&'static str, String); 2] {
    [(POD_NAME, pod_name.to_string()), (POD_INDEX, ordinal.to_string())]
}

/// Whether a pod (an adopted one, say) lacks a label of its place.
pub fn lacks_identity(pod: &Pod, ordinal: i32) -> bool {
    let labels = pod.labels.as_deref();
    identity(name(&pod.metadata), ordinal)
        .iter()
        .any(|(key, value)| labels.and_then(|labels| labels.get(*key)) != Some(value))
}

pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", name(&set.metadata))
}

fn claim_name(template: &PersistentVolumeClaim, pod: &str) -> String {
    format!("{}-{pod}", name(&template.metadata))
}

/// The pod of this ordinal, with its stable name, host name and volumes.
pub fn pod(set: &StatefulSet, ordinal: i32, version: &Version<'_>, owner: OwnerReference) -> NewPod {
    let own_name = pod_name(set, ordinal);
    let mut pod = from_template(version.template, namespace(&set.metadata), name(&set.metadata), owner);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(own_name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(identity(&own_name, ordinal).map(|(key, value)| (key.to_string(), value)));
    labels.insert(REVISION_HASH.to_string(), version.name.to_string());
    let spec = set.spec.as_ref();
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(own_name.clone());
    pod_spec.subdomain = spec.and_then(|spec| spec.service_name.clone());
    for template in spec
        .iter()
        .flat_map(|spec| spec.volume_claim_templates.iter().flatten())
    {
        let volumes = pod_spec.volumes.get_or_insert_default();
        volumes.retain(|volume| volume.name != name(&template.metadata));
        volumes.push(Volume {
            name: name(&template.metadata).to_string(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(template, &own_name),
                read_only: None,
            }),
            ..Default::default()
        });
    }
    pod
}

/// The claims that must exist before the pod of this ordinal.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let pod_name = pod_name(set, ordinal);
    let templates = spec.volume_claim_templates.iter().flatten();
    templates
        .map(|template| {
            let mut claim = template.clone();
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
            claim.metadata = ObjectMeta {
                name: Some(claim_name(template, &pod_name)),
                namespace: Some(namespace(&set.metadata).to_string()),
                labels: Some(labels),
                annotations: template.metadata.annotations.clone(),
                ..Default::default()
            };
            claim.status = None;
            claim
        })
        .collect()
}

/// The owners that this pod's claim should have, so that it goes with the set or with a pod scaled away, as the
/// retention policy says; none where they are right.
pub fn claim_owners(set: &StatefulSet, pod: &Pod, claim: &PersistentVolumeClaim) -> Option<Vec<OwnerReference>> {
    let policy = set
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |choice: Option<&String>| choice.map(String::as_str) == Some("Delete");
    let with_set = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let with_pod = scaled && ordinal(set, pod).is_some_and(|ordinal| !range(set).contains(&ordinal));
    let (set_uid, pod_uid) = (uid(&set.metadata), uid(&pod.metadata));
    let current = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut wanted = current.clone();
    // A pod of that name that is gone has no say any more.
    wanted.retain(|known| known.kind != "Pod" || known.name != name(&pod.metadata) || known.uid == pod_uid);
    let mut put = |wants: bool, uid: &str, owner: OwnerReference| {
        let has = wanted.iter().any(|known| known.uid == uid);
        if wants && !has {
            wanted.push(owner);
        } else if !wants {
            wanted.retain(|known| known.uid != uid);
        }
    };
    put(
        with_set && !with_pod,
        set_uid,
        controller_reference("apps/v1", "StatefulSet", &set.metadata),
    );
    put(with_pod, pod_uid, controller_reference("v1", "Pod", &pod.metadata));
    (wanted != current).then_some(wanted)
}

/// Names of the claims that this pod of the set uses.
pub fn claim_names(set: &StatefulSet, pod: &Pod) -> Vec<String> {
    let templates = set
        .spec
        .iter()
        .flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    templates
        .map(|template| claim_name(template, name(&pod.metadata)))
        .collect()
}

/// Whether the claim goes with a pod that is gone already: what takes its place would lose its volume.
pub fn is_stale(claim: &PersistentVolumeClaim, pod_name: &str) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|owner| owner.kind == "Pod" && owner.api_version == "v1" && owner.name == pod_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::StatefulSetSpec;

    fn set() -> StatefulSet {
        StatefulSet {
            metadata: ObjectMeta {
                name: Some("db".to_string()),
                uid: Some("set".to_string()),
                ..Default::default()
            },
            spec: Some(StatefulSetSpec {
                replicas: Some(1),
                ..Default::default()
            }),
            status: None,
        }
    }

    #[test]
    fn claims_go_with_what_the_policy_names() {
        let owners = |deleted: &str, scaled: &str, ordinal: i32| -> Vec<String> {
            let mut set = set();
            let policy = serde_json::json!({"whenDeleted": deleted, "whenScaled": scaled});
            set.spec
                .get_or_insert_default()
                .persistent_volume_claim_retention_policy = serde_json::from_value(policy).ok();
            let mut claim = PersistentVolumeClaim::default();
            let pod = crate::pods::testing::pod(&format!("db-{ordinal}"), "Running", Some("n"), Some(1));
            if let Some(owners) = claim_owners(&set, &pod, &claim) {
                claim.metadata.owner_references = Some(owners);
            }
            assert_eq!(claim_owners(&set, &pod, &claim), None, "settles");
            let owners = claim.metadata.owner_references.into_iter().flatten();
            owners.map(|owner| owner.kind).collect()
        };
        assert_eq!(owners("Retain", "Retain", 5), [] as [&str; 0]);
        assert_eq!(owners("Delete", "Retain", 5), ["StatefulSet"]);
        assert_eq!(owners("Retain", "Delete", 0), [] as [&str; 0]);
        assert_eq!(owners("Retain", "Delete", 5), ["Pod"]);
        assert_eq!(owners("Delete", "Delete", 5), ["Pod"]);
        assert_eq!(owners("Delete", "Delete", 0), ["StatefulSet"]);
    }

    #[test]
    fn a_claim_of_a_pod_that_is_gone_is_stale() {
        let mut claim = PersistentVolumeClaim::default();
        assert!(!is_stale(&claim, "db-0"));
        claim.metadata.owner_references = serde_json::from_value(serde_json::json!([
            {"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "old"},
        ]))
        .expect("owners");
        assert!(is_stale(&claim, "db-0"));
        let new = crate::pods::testing::pod("db-0", "Running", Some("n"), Some(1));
        assert_eq!(claim_owners(&set(), &new, &claim), Some(vec![]));
    }

    #[test]
    fn the_pod_knows_its_place() {
        let template = Default::default();
        let version = Version {
            name: "db-abc",
            template: &template,
        };
        let made = pod(&set(), 3, &version, OwnerReference::default());
        let labels = made.metadata.labels.clone().unwrap_or_default();
        let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            shown,
            [
                "apps.kubernetes.io/pod-index=3",
                "controller-revision-hash=db-abc",
                "statefulset.kubernetes.io/pod-name=db-3"
            ]
        );
        let seen = crate::pods::testing::seen(made);
        assert!(!lacks_identity(&seen, 3) && lacks_identity(&seen, 4));
    }
}
