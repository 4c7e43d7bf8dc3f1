//! What a claim gets: a volume, a word on what it waits for, or the news that its volume is lost. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::api::storage::v1::StorageClass;

use super::matching::{asked_class, best, modes_of, names_claim, objection};
use crate::key::{annotation, created, name, namespace, uid};

/// Both sides are bound, and the claim knows.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The binding was not asked for by who wrote the object, so it may be undone.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// For which node the volume is wanted; the scheduler says so.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make the volume, in both of the places where provisioners look.
const PROVISIONER: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// What is known besides the claim.
pub struct World {
    pub volumes: Vec<Arc<PersistentVolume>>,
    pub classes: Vec<Arc<StorageClass>>,
    /// Pods that use the claim and have no node yet.
    pub waiting_pods: Vec<String>,
}

/// An event about the claim.
#[derive(Debug, PartialEq, Eq)]
pub struct Tell {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It names no class: it gets this one, and is looked at again.
    Class(String),
    /// They belong together; whatever is not written yet is to be written.
    Bind(Arc<PersistentVolume>),
    /// It waits. The name of who is to make its volume, if somebody is.
    Pending(Option<String>, Option<Tell>),
    Lost(Tell),
}

fn tell(warning: bool, reason: &'static str, message: impl Into<String>) -> Tell {
    Tell {
        warning,
        reason,
        message: message.into(),
    }
}

pub fn verdict(claim: &PersistentVolumeClaim, world: &World) -> Verdict {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let named = named.filter(|named| !named.is_empty());
    let volume = named.and_then(|named| world.volumes.iter().find(|volume| name(&volume.metadata) == named));
    let completed = annotation(&claim.metadata, BIND_COMPLETED).is_some();
    match (named, volume) {
        (None, _) if completed => Verdict::Lost(tell(
            true,
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        )),
        (Some(_), None) if completed => Verdict::Lost(tell(
            true,
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        )),
        (Some(_), Some(volume)) if completed => bound(claim, volume),
        (Some(_), Some(volume)) => asked_for(claim, volume),
        // The volume may yet be made.
        (Some(_), None) => Verdict::Pending(None, None),
        (None, _) => unbound(claim, world),
    }
}

fn bound(claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> Verdict {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if reference.is_none_or(|reference| reference.uid.as_deref() == Some(uid(&claim.metadata))) {
        return Verdict::Bind(volume.clone());
    }
    Verdict::Lost(tell(
        true,
        "ClaimMisbound",
        "Two claims are bound to the same volume, this one is bound incorrectly",
    ))
}

/// The claim asks for a volume by its name.
fn asked_for(claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> Verdict {
    let own = name(&volume.metadata);
    if volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none()) {
        return match objection(volume, claim) {
            None => Verdict::Bind(volume.clone()),
            Some(why) => {
                let text = format!("Cannot bind to requested volume \"{own}\": {why}");
                Verdict::Pending(None, Some(tell(true, "VolumeMismatch", text)))
            }
        };
    }
    if names_claim(volume, claim) {
        return Verdict::Bind(volume.clone());
    }
    let text = format!("volume \"{own}\" already bound to a different claim.");
    Verdict::Pending(None, Some(tell(true, "FailedBinding", text)))
}

fn unbound(claim: &PersistentVolumeClaim, world: &World) -> Verdict {
    if asked_class(claim).is_none()
        && let Some(class) = default_class(&world.classes)
    {
        return Verdict::Class(class);
    }
    let asked = asked_class(claim).unwrap_or_default();
    let class = world.classes.iter().find(|class| name(&class.metadata) == asked);
    let delayed = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if let Some(volume) = best(claim, &world.volumes, delayed) {
        return Verdict::Bind(volume);
    }
    if delayed && annotation(&claim.metadata, SELECTED_NODE).is_none() {
        return Verdict::Pending(None, Some(waits_for_pod(&world.waiting_pods)));
    }
    if asked.is_empty() {
        let text = "no persistent volumes available for this claim and no storage class is set";
        return Verdict::Pending(None, Some(tell(false, "FailedBinding", text)));
    }
    let Some(class) = class else {
        let text = format!("storageclass.storage.k8s.io \"{asked}\" not found");
        return Verdict::Pending(None, Some(tell(true, "ProvisioningFailed", text)));
    };
    let provisioner = &class.provisioner;
    if provisioner.starts_with("kubernetes.io/") {
        let text = format!("no volume plugin matched name: {provisioner}");
        return Verdict::Pending(None, Some(tell(true, "ProvisioningFailed", text)));
    }
    let text = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    Verdict::Pending(
        Some(provisioner.clone()),
        Some(tell(false, "ExternalProvisioning", text)),
    )
}

fn waits_for_pod(pods: &[String]) -> Tell {
    match pods {
        [] => tell(
            false,
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        ),
        [pod] => tell(
            false,
            "WaitForPodScheduled",
            format!("waiting for pod {pod} to be scheduled"),
        ),
        pods => {
            let text = format!("waiting for pods {} to be scheduled", pods.join(","));
            tell(false, "WaitForPodScheduled", text)
        }
    }
}

/// The newest of the default classes; of those of one second the first by name.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<String> {
    let default = |class: &&Arc<StorageClass>| {
        DEFAULT_CLASS
            .iter()
            .any(|key| annotation(&class.metadata, key) == Some("true"))
    };
    let order = |class: &&Arc<StorageClass>| {
        (
            std::cmp::Reverse(created(&class.metadata)),
            name(&class.metadata).to_string(),
        )
    };
    let newest = classes.iter().filter(default).min_by_key(order);
    newest.map(|class| name(&class.metadata).to_string())
}

/// The claim with its class; to be written.
pub fn with_class(claim: &PersistentVolumeClaim, class: &str) -> PersistentVolumeClaim {
    let mut claim = claim.clone();
    claim.spec.get_or_insert_default().storage_class_name = Some(class.to_string());
    claim
}

/// The claim that says who is to make its volume; None where it does.
pub fn with_provisioner(claim: &PersistentVolumeClaim, provisioner: &str) -> Option<PersistentVolumeClaim> {
    let says = |key: &str| annotation(&claim.metadata, key) == Some(provisioner);
    if PROVISIONER.iter().all(|key| says(key)) {
        return None;
    }
    let mut claim = claim.clone();
    let annotations = claim.metadata.annotations.get_or_insert_default();
    for key in PROVISIONER {
        annotations.insert(key.to_string(), provisioner.to_string());
    }
    Some(claim)
}

/// The claim that has the volume; None where it says so.
pub fn taking(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let mut taking = claim.clone();
    let spec = taking.spec.get_or_insert_default();
    let annotations = taking.metadata.annotations.get_or_insert_default();
    if spec.volume_name.as_deref() != Some(name(&volume.metadata)) {
        spec.volume_name = Some(name(&volume.metadata).to_string());
        annotations.insert(BOUND_BY_CONTROLLER.to_string(), "yes".to_string());
    }
    annotations
        .entry(BIND_COMPLETED.to_string())
        .or_insert_with(|| "yes".to_string());
    (taking != *claim).then_some(taking)
}

/// The claim whose status says that it has the volume; None where it does.
pub fn told_bound(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let mut told = claim.clone();
    let status = told.status.get_or_insert_default();
    status.access_modes = Some(modes_of(volume).to_vec()).filter(|modes| !modes.is_empty());
    if status.phase.as_deref() != Some("Bound") {
        status.phase = Some("Bound".to_string());
        let spec = volume.spec.as_ref();
        // Later on the claim may be told another size than the device's.
        status.capacity = spec.and_then(|spec| spec.capacity.clone());
        status.current_volume_attributes_class_name = spec.and_then(|spec| spec.volume_attributes_class_name.clone());
    }
    (told.status != claim.status).then_some(told)
}

/// The claim in a phase without a volume; None where it is.
pub fn told(claim: &PersistentVolumeClaim, phase: &str) -> Option<PersistentVolumeClaim> {
    let mut told = claim.clone();
    told.status = Some(PersistentVolumeClaimStatus {
        phase: Some(phase.to_string()),
        access_modes: None,
        capacity: None,
        ..claim.status.clone().unwrap_or_default()
    });
    (told.status != claim.status).then_some(told)
}

/// The volume that is given to the claim; None where it says so.
pub fn given(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let mut given = volume.clone();
    let spec = given.spec.get_or_insert_default();
    let reference = spec.claim_ref.get_or_insert_default();
    if reference.uid.as_deref() == Some(uid(&claim.metadata)) && names_claim(volume, claim) {
        return None;
    }
    reference.kind = Some("PersistentVolumeClaim".to_string());
    reference.api_version = Some("v1".to_string());
    reference.namespace = Some(namespace(&claim.metadata).to_string());
    reference.name = Some(name(&claim.metadata).to_string());
    reference.uid = Some(uid(&claim.metadata).to_string());
    reference.resource_version = claim.metadata.resource_version.clone();
    if !names_claim(volume, claim) {
        let annotations = given.metadata.annotations.get_or_insert_default();
        annotations.insert(BOUND_BY_CONTROLLER.to_string(), "yes".to_string());
    }
    Some(given)
}

#[cfg(test)]
#[path = "claim_test.rs"]
mod tests;
