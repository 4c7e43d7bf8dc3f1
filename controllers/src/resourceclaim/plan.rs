//! What a pod's claims of devices should be, and what a claim should become. Pure.

use crate::key::{annotation, controller_of, controller_reference, name, namespace, uid};
use crate::pods::{is_finished, is_terminating, node_name};
use crate::slim::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::{
    ResourceClaim, ResourceClaimConsumerReference, ResourceClaimSpec, ResourceClaimTemplate,
};
use kube::core::ObjectMeta;

/// Which of a pod's entries a claim was made for.
pub const ENTRY: &str = "resource.kubernetes.io/pod-claim-name";
/// Keeps a claim until its devices are given back.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Room for a hyphen and five random characters in 63.
const BASE_BYTES_MAX: usize = 57;

pub fn entries(pod: &Pod) -> &[PodResourceClaim] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.resource_claims.as_deref())
        .unwrap_or_default()
}

/// What the pod's status says of an entry that has a template: the name of its claim, `""` for none needed.
pub fn made<'a>(pod: &'a Pod, entry: &str) -> Option<&'a str> {
    let status = pod.status.as_ref()?.resource_claim_statuses.as_ref()?;
    let known = status.iter().find(|known| known.name == entry)?;
    Some(known.resource_claim_name.as_deref().unwrap_or_default())
}

/// Names of the claims that the pod uses, as far as they are there.
pub fn used(pod: &Pod) -> impl Iterator<Item = &str> {
    let names = entries(pod)
        .iter()
        .filter_map(|entry| match &entry.resource_claim_name {
            Some(name) => Some(name.as_str()),
            None => made(pod, &entry.name),
        });
    names.filter(|name| !name.is_empty())
}

/// None of its containers runs, and none ever will.
pub fn is_done(pod: &Pod) -> bool {
    is_finished(pod) || (is_terminating(pod) && node_name(pod).is_none())
}

pub fn is_for(pod: &ObjectMeta, claim: &ResourceClaim) -> bool {
    controller_of(&claim.metadata).is_some_and(|owner| owner.uid == uid(pod))
}

/// Of the pod's own claims the one for this entry.
pub fn orphan<'a>(own: impl IntoIterator<Item = &'a ResourceClaim>, entry: &str) -> Option<&'a ResourceClaim> {
    let mut own = own.into_iter();
    own.find(|claim| annotation(&claim.metadata, ENTRY) == Some(entry))
}

pub fn claim_for(pod: &ObjectMeta, entry: &str, template: &ResourceClaimTemplate) -> ResourceClaim {
    let said = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = said.annotations.unwrap_or_default();
    annotations.insert(ENTRY.into(), entry.into());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(base(name(pod), entry)),
            namespace: Some(namespace(pod).into()),
            labels: said.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference("v1", "Pod", pod)]),
            ..Default::default()
        },
        spec: ResourceClaimSpec::clone(&template.spec.spec),
        status: None,
    }
}

/// What a generated name begins with; where that is too long, both parts give way.
fn base(pod: &str, entry: &str) -> String {
    let whole = format!("{pod}-{entry}-");
    if whole.len() <= BASE_BYTES_MAX {
        return whole;
    }
    // Names are ASCII.
    let part = |text: &str| {
        text.get(..text.len() * BASE_BYTES_MAX / whole.len())
            .unwrap_or(text)
            .to_string()
    };
    format!("{}-{}", part(pod), part(entry))
}

/// Whether somebody in `status.reservedFor` still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stays,
    Goes,
    /// The cache does not know the pod: only the API does.
    Unknown,
}

/// `pod`: who has the name.
pub fn fate(consumer: &ResourceClaimConsumerReference, pod: Option<&Pod>) -> Fate {
    match pod {
        None => Fate::Unknown,
        Some(pod) if uid(&pod.metadata) != consumer.uid || is_done(pod) => Fate::Goes,
        Some(_) => Fate::Stays,
    }
}

pub fn consumers(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    let status = claim.status.as_ref();
    status
        .and_then(|status| status.reserved_for.as_deref())
        .unwrap_or_default()
}

pub fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| status.allocation.is_some())
}

pub fn is_held(claim: &ResourceClaim) -> bool {
    claim.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER)
}

/// The claim with the status that it should have when these are left of its consumers; `None`: as it is. The
/// last consumer takes the allocation along.
pub fn status(claim: &ResourceClaim, left: &[ResourceClaimConsumerReference]) -> Option<ResourceClaim> {
    let gone = left.len() < consumers(claim).len();
    let unwanted = left.is_empty() && is_held(claim) && (gone || claim.metadata.deletion_timestamp.is_some());
    let frees = unwanted && is_allocated(claim);
    if !gone && !frees {
        return None;
    }
    let mut new = claim.clone();
    let status = new.status.get_or_insert_default();
    status.reserved_for = Some(left.to_vec()).filter(|left| !left.is_empty());
    if unwanted {
        status.allocation = None;
    }
    Some(new)
}

/// The claim without what keeps it, once nothing does; `changed`: it was given a new status just now.
pub fn released(claim: &ResourceClaim, changed: bool) -> Option<ResourceClaim> {
    let done = changed || claim.metadata.deletion_timestamp.is_some();
    if !done || !is_held(claim) || is_allocated(claim) || !consumers(claim).is_empty() {
        return None;
    }
    let mut new = claim.clone();
    let finalizers = new.metadata.finalizers.get_or_insert_default();
    finalizers.retain(|one| one != FINALIZER);
    Some(new)
}

/// The name and uid of the pod that it was made for.
pub fn owner(claim: &ResourceClaim) -> Option<(&str, &str)> {
    let owner = controller_of(&claim.metadata)?;
    (owner.kind == "Pod" && owner.api_version == "v1").then_some((owner.name.as_str(), owner.uid.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(value: Value) -> ResourceClaim {
        serde_json::from_value(value).expect("a claim")
    }

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).expect("a pod")
    }

    #[test]
    fn a_claim_is_the_templates_and_the_pods() {
        let template: ResourceClaimTemplate = serde_json::from_value(json!({"metadata": {"name": "t"}, "spec": {
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}}}}))
        .expect("a template");
        let owner = serde_json::from_value(json!({"name": "p", "namespace": "n", "uid": "u"})).expect("metadata");
        let made = serde_json::to_value(claim_for(&owner, "gpu", &template)).expect("written");
        assert_eq!(
            made,
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
                "metadata": {"generateName": "p-gpu-", "namespace": "n", "labels": {"a": "b"},
                    "annotations": {"c": "d", "resource.kubernetes.io/pod-claim-name": "gpu"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u",
                        "controller": true, "blockOwnerDeletion": true}]},
                "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}}})
        );
        let claim = claim(made);
        assert!(is_for(&owner, &claim));
        assert!(orphan([&claim], "gpu").is_some() && orphan([&claim], "other").is_none());
    }

    #[test]
    fn long_names_give_way_on_both_sides() {
        assert_eq!(base("web", "gpu"), "web-gpu-");
        let long = base(&"p".repeat(60), &"e".repeat(60));
        assert_eq!(long, format!("{}-{}", "p".repeat(28), "e".repeat(28)));
    }

    #[test]
    fn a_pod_uses_what_it_names_and_what_was_made_for_it() {
        let pod = pod(
            json!({"metadata": {"name": "p"}, "spec": {"containers": [], "resourceClaims": [
            {"name": "a", "resourceClaimName": "shared"}, {"name": "b", "resourceClaimTemplateName": "t"},
            {"name": "c", "resourceClaimTemplateName": "t"}, {"name": "d", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "p-b-x"}, {"name": "d"}]}}),
        );
        assert_eq!(used(&pod).collect::<Vec<_>>(), ["shared", "p-b-x"]);
        assert_eq!((made(&pod, "c"), made(&pod, "d")), (None, Some("")));
    }

    #[test]
    fn who_ended_or_was_replaced_goes() {
        let consumer: ResourceClaimConsumerReference =
            serde_json::from_value(json!({"resource": "pods", "name": "p", "uid": "u"})).expect("one");
        for (found, wanted) in [
            (None, Fate::Unknown),
            (Some(json!({"metadata": {"uid": "u"}})), Fate::Stays),
            (Some(json!({"metadata": {"uid": "v"}})), Fate::Goes),
            (
                Some(json!({"metadata": {"uid": "u"}, "status": {"phase": "Succeeded"}})),
                Fate::Goes,
            ),
            (
                Some(json!({"metadata": {"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}})),
                Fate::Goes,
            ),
            (
                Some(
                    json!({"metadata": {"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                    "spec": {"containers": [], "nodeName": "n"}}),
                ),
                Fate::Stays,
            ),
        ] {
            let shown = format!("{found:?}");
            assert_eq!(fate(&consumer, found.map(pod).as_ref()), wanted, "{shown}");
        }
    }

    #[test]
    fn the_last_consumer_takes_the_allocation_along() {
        let of = |consumers: &[&str], deleting: bool, finalizer: bool| {
            let reserved: Vec<Value> = consumers
                .iter()
                .map(|uid| json!({"resource": "pods", "name": uid, "uid": uid}))
                .collect();
            let mut value = json!({"metadata": {"name": "c"}, "spec": {},
                "status": {"allocation": {}, "reservedFor": reserved}});
            if deleting {
                value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            if finalizer {
                value["metadata"]["finalizers"] = json!(["other", FINALIZER]);
            }
            claim(value)
        };
        // consumers, those left, deleting, held; what changes: consumers, allocation.
        for (before, left, deleting, held, wanted) in [
            (&["a"][..], &["a"][..], false, true, None),
            (&["a", "b"], &["b"], false, true, Some((1, true))),
            (&["a"], &[], false, true, Some((0, false))),
            (&["a"], &[], false, false, Some((0, true))),
            (&[], &[], false, true, None),
            (&[], &[], true, true, Some((0, false))),
            (&["a"], &["a"], true, true, None),
        ] {
            let old = of(before, deleting, held);
            let kept = consumers(&of(left, false, false)).to_vec();
            let new = status(&old, &kept);
            let got = new.as_ref().map(|new| (consumers(new).len(), is_allocated(new)));
            assert_eq!(got, wanted, "{before:?} {left:?} {deleting} {held}");
            let Some(new) = new else { continue };
            assert!(status(&new, &kept).is_none(), "twice changes nothing");
            let free = released(&new, true);
            assert_eq!(free.is_some(), held && wanted == Some((0, false)));
            if let Some(free) = free {
                assert_eq!(free.metadata.finalizers, Some(vec!["other".to_string()]));
            }
        }
    }
}
