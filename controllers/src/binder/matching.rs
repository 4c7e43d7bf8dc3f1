//! Which volume suits a claim. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

use crate::autoscale::quantity;
use crate::key::{annotation, name, namespace, uid};
use crate::selector;

/// The class's older place.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class a claim asks for; empty where it wants none. None: nothing was said.
pub fn asked_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(&claim.metadata, CLASS).or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let field = || volume.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&volume.metadata, CLASS).or_else(field).unwrap_or_default()
}

fn bytes(list: Option<&BTreeMap<String, Quantity>>) -> i128 {
    let size = list.and_then(|list| list.get("storage"));
    size.and_then(|size| quantity::whole(&size.0)).unwrap_or(0)
}

fn asked_bytes(claim: &PersistentVolumeClaim) -> i128 {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    bytes(resources.and_then(|resources| resources.requests.as_ref()))
}

fn bytes_of(volume: &PersistentVolume) -> i128 {
    bytes(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

pub fn modes_of(volume: &PersistentVolume) -> &[String] {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    modes.unwrap_or_default()
}

fn offers_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let asked = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    let offered = modes_of(volume);
    asked.into_iter().all(|mode| offered.contains(mode))
}

/// File system or block device, as both say or leave to the default.
pub fn same_volume_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_string();
    mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
        == mode(claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
}

fn same_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let volume = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let claim = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    volume.unwrap_or_default() == claim.unwrap_or_default()
}

/// Whether the volume says that it is this claim's, or is to be.
pub fn names_claim(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return false;
    };
    let known = reference.uid.as_deref().unwrap_or_default();
    reference.name.as_deref() == Some(name(&claim.metadata))
        && reference.namespace.as_deref() == Some(namespace(&claim.metadata))
        && (known.is_empty() || known == uid(&claim.metadata))
}

/// Why a volume that a claim asks for by name cannot be the claim's, in upstream's words.
pub fn objection(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if bytes_of(volume) < asked_bytes(claim) {
        return Some("requested PV is too small");
    }
    if class_of_volume(volume) != asked_class(claim).unwrap_or_default() {
        return Some("storageClassName does not match");
    }
    if !same_volume_mode(volume, claim) {
        return Some("incompatible volumeMode");
    }
    (!offers_modes(volume, claim)).then_some("incompatible accessMode")
}

/// The volume that the claim is to have. One that is the claim's already comes first; of the others the one
/// that offers the fewest other ways of access, then the smallest. `delayed`: only a pod's node decides
/// which of the others.
pub fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    delayed: bool,
) -> Option<Arc<PersistentVolume>> {
    let asked = asked_bytes(claim);
    let possible = |volume: &&Arc<PersistentVolume>| {
        volume.metadata.deletion_timestamp.is_none()
            && same_volume_mode(volume, claim)
            && same_attributes(volume, claim)
            && offers_modes(volume, claim)
            && bytes_of(volume) >= asked
    };
    if let Some(own) = volumes
        .iter()
        .filter(possible)
        .find(|volume| names_claim(volume, claim))
    {
        return Some(own.clone());
    }
    if delayed {
        return None;
    }
    let wanted = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let free = |volume: &&Arc<PersistentVolume>| {
        let claimed = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        !claimed
            && phase == Some("Available")
            && class_of_volume(volume) == asked_class(claim).unwrap_or_default()
            && wanted.is_none_or(|wanted| selector::matches(wanted, volume.metadata.labels.as_ref()))
    };
    let fitting = volumes.iter().filter(possible).filter(free);
    let best = fitting.min_by_key(|volume| (modes_of(volume).len(), bytes_of(volume), name(&volume.metadata)));
    best.cloned()
}
