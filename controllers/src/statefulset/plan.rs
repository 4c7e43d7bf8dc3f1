//! Which ordinal of a StatefulSet comes, goes or is replaced next, and its status. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::deployment::resolve;
use crate::key::{controller_reference, name, namespace, uid};
use crate::pods::{NewPod, from_template, is_available, is_finished, is_ready, is_terminating, phase};
use crate::revisions::{REVISION_HASH, pod_hash};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// One of the two revisions that a StatefulSet runs.
pub struct Version<'a> {
    pub hash: &'a str,
    pub template: &'a PodTemplateSpec,
}

pub struct Observed<'a> {
    pub set: &'a StatefulSet,
    pub pods: &'a [Arc<Pod>],
    pub current: Version<'a>,
    pub update: Version<'a>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create { ordinal: i32, updated: bool },
    Delete(Arc<Pod>),
}

fn first_ordinal(set: &StatefulSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|spec| spec.ordinals.as_ref())
        .and_then(|ordinals| ordinals.start)
        .unwrap_or(0)
}

pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The number at the end of the pod's name, when the rest is the set's.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let rest = name(&pod.metadata)
        .strip_prefix(name(&set.metadata))?
        .strip_prefix('-')?;
    rest.parse().ok().filter(|ordinal| rest == format!("{ordinal}"))
}

fn partition(set: &StatefulSet) -> i32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
}

fn on_delete(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
}

/// The next steps: one at a time for `OrderedReady`, all that can go together for `Parallel`.
pub fn reconcile(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let set = observed.set;
    let Some(spec) = &set.spec else { return Vec::new() };
    let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let healthy = |pod: &Pod| is_available(pod, min_ready, now) && !is_terminating(pod);
    let (start, end) = (first_ordinal(set), first_ordinal(set) + replicas(set));
    let by_ordinal: BTreeMap<i32, &Arc<Pod>> = observed
        .pods
        .iter()
        .filter_map(|pod| Some((ordinal(set, pod)?, pod)))
        .collect();
    let mut actions = Vec::new();
    for ordinal in start..end {
        let step = match by_ordinal.get(&ordinal) {
            // Below the partition the old template is kept while it still is the current one.
            None => Some(Action::Create {
                ordinal,
                updated: ordinal >= start + partition(set) || is_settled(observed),
            }),
            Some(pod) if is_terminating(pod) => None,
            Some(pod) if is_finished(pod) => Some(Action::Delete((*pod).clone())),
            Some(pod) if healthy(pod) => continue,
            Some(_) => None,
        };
        actions.extend(step);
        if !parallel {
            return actions;
        }
    }
    let surplus = by_ordinal
        .iter()
        .rev()
        .filter(|(ordinal, _)| **ordinal < start || **ordinal >= end);
    for (_, pod) in surplus {
        if !is_terminating(pod) {
            actions.push(Action::Delete((*pod).clone()));
        }
        if !parallel {
            return actions;
        }
    }
    if !actions.is_empty() || on_delete(set) {
        return actions;
    }
    // Replaced from the highest ordinal down, each after those before it are healthy, but for as many as may
    // be unavailable.
    let mut unavailable = 0;
    for ordinal in (start + partition(set)..end).rev() {
        let Some(pod) = by_ordinal.get(&ordinal) else { break };
        if pod_hash(pod) != Some(observed.update.hash) && !is_terminating(pod) {
            actions.push(Action::Delete((*pod).clone()));
            unavailable += 1;
        } else if !healthy(pod) {
            unavailable += 1;
        }
        if unavailable >= max_unavailable(set) {
            break;
        }
    }
    actions
}

/// At least one; of the wanted replicas where it is a percentage.
fn max_unavailable(set: &StatefulSet) -> i32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let limit = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    limit
        .map_or(1, |limit| resolve(Some(limit), replicas(set), true))
        .max(1)
}

/// No rollout is going on.
fn is_settled(observed: &Observed<'_>) -> bool {
    observed.current.hash == observed.update.hash
}

fn claim_name(template: &PersistentVolumeClaim, pod: &str) -> String {
    format!("{}-{pod}", name(&template.metadata))
}

/// The pod of this ordinal, with its stable name, host name and volumes.
pub fn pod(set: &StatefulSet, ordinal: i32, version: &Version<'_>, owner: OwnerReference) -> NewPod {
    let own_name = format!("{}-{ordinal}", name(&set.metadata));
    let mut pod = from_template(version.template, namespace(&set.metadata), name(&set.metadata), owner);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(own_name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_string(), own_name.clone());
    labels.insert(POD_INDEX.to_string(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_string(), version.hash.to_string());
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
    let pod_name = format!("{}-{ordinal}", name(&set.metadata));
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
    let range = first_ordinal(set)..first_ordinal(set) + replicas(set);
    let with_pod = scaled && ordinal(set, pod).is_some_and(|ordinal| !range.contains(&ordinal));
    let (set_uid, pod_uid) = (uid(&set.metadata), uid(&pod.metadata));
    let current = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut wanted = current.clone();
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

/// `current` and `update` are the full names of the revisions.
pub fn status(observed: &Observed<'_>, current: &str, update: &str, now: Timestamp) -> StatefulSetStatus {
    let set = observed.set;
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let old = set.status.clone().unwrap_or_default();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(observed.pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let running = |pod: &Pod| phase(pod) == "Running" && is_ready(pod);
    let of = |hash: &str, pod: &Pod| !is_terminating(pod) && pod_hash(pod) == Some(hash);
    let updated = count(&|pod| of(observed.update.hash, pod));
    let ready = count(&|pod| running(pod));
    // The rollout is over when all are updated and ready: the new revision becomes the current one.
    let finished = !is_settled(observed)
        && !on_delete(set)
        && updated == replicas(set)
        && ready == replicas(set)
        && count(&|_| true) == replicas(set);
    let current_hash = if finished {
        observed.update.hash
    } else {
        observed.current.hash
    };
    StatefulSetStatus {
        replicas: count(&|_| true),
        ready_replicas: Some(ready),
        available_replicas: Some(count(&|pod| running(pod) && is_available(pod, min_ready, now))),
        current_replicas: Some(count(&|pod| of(current_hash, pod))),
        updated_replicas: Some(updated),
        current_revision: Some(if finished { update } else { current }.to_string()),
        update_revision: Some(update.to_string()),
        observed_generation: set.metadata.generation,
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::at;
    use k8s_openapi::api::apps::v1::StatefulSetSpec;

    fn set(replicas: i32, policy: Option<&str>) -> StatefulSet {
        StatefulSet {
            metadata: ObjectMeta {
                name: Some("db".to_string()),
                ..Default::default()
            },
            spec: Some(StatefulSetSpec {
                replicas: Some(replicas),
                pod_management_policy: policy.map(ToString::to_string),
                ..Default::default()
            }),
            status: None,
        }
    }

    fn pod(ordinal: i32, ready: bool, hash: &str) -> Arc<Pod> {
        let mut made = crate::pods::testing::pod(&format!("db-{ordinal}"), "Running", Some("n"), ready.then_some(1));
        made.labels = Some(crate::selector::Labels::from([(REVISION_HASH.to_string(), hash.to_string())]).into());
        Arc::new(made)
    }

    fn decide(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<String> {
        let template = PodTemplateSpec::default();
        let version = |hash| Version {
            hash,
            template: &template,
        };
        let observed = Observed {
            set,
            pods,
            current: version("old"),
            update: version("new"),
        };
        let shown = |action| match action {
            Action::Create { ordinal, updated } => format!("+{ordinal}{}", if updated { " new" } else { "" }),
            Action::Delete(pod) => format!("-{}", name(&pod.metadata)),
        };
        reconcile(&observed, at(50)).into_iter().map(shown).collect()
    }

    #[test]
    fn one_after_the_other() {
        let three = set(3, None);
        assert_eq!(decide(&three, &[]), ["+0 new"]);
        assert_eq!(decide(&three, &[pod(0, false, "new")]), [] as [&str; 0], "waits for 0");
        assert_eq!(decide(&three, &[pod(0, true, "new")]), ["+1 new"]);
        assert_eq!(decide(&set(3, Some("Parallel")), &[]), ["+0 new", "+1 new", "+2 new"]);
        let many = [pod(0, true, "new"), pod(1, true, "new"), pod(2, true, "new")];
        assert_eq!(decide(&set(1, None), &many), ["-db-2"], "scales down from the top");
    }

    #[test]
    fn updates_from_the_top_down() {
        let pods = [pod(0, true, "old"), pod(1, true, "old"), pod(2, true, "old")];
        assert_eq!(decide(&set(3, None), &pods), ["-db-2"]);
        let pods = [pod(0, true, "old"), pod(1, true, "old"), pod(2, true, "new")];
        assert_eq!(decide(&set(3, None), &pods), ["-db-1"]);
        let mut partitioned = set(3, None);
        partitioned.spec.get_or_insert_default().update_strategy =
            serde_json::from_value(serde_json::json!({"rollingUpdate": {"partition": 2}})).ok();
        assert_eq!(decide(&partitioned, &pods), [] as [&str; 0]);
        assert_eq!(
            decide(&partitioned, &pods[1..]),
            ["+0"],
            "below the partition the old template returns"
        );
    }

    #[test]
    fn several_may_be_replaced_together() {
        let mut two = set(3, None);
        two.spec.get_or_insert_default().update_strategy =
            serde_json::from_value(serde_json::json!({"rollingUpdate": {"maxUnavailable": "50%"}})).ok();
        let pods = [pod(0, true, "old"), pod(1, true, "old"), pod(2, true, "old")];
        assert_eq!(decide(&two, &pods), ["-db-2", "-db-1"]);
    }

    #[test]
    fn claims_go_with_what_the_policy_names() {
        let owners = |deleted: &str, scaled: &str, ordinal: i32| -> Vec<String> {
            let mut set = set(1, None);
            set.metadata.uid = Some("set".to_string());
            let policy = serde_json::json!({"whenDeleted": deleted, "whenScaled": scaled});
            set.spec
                .get_or_insert_default()
                .persistent_volume_claim_retention_policy = serde_json::from_value(policy).ok();
            let mut claim = PersistentVolumeClaim::default();
            let pod = pod(ordinal, true, "new");
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
}
