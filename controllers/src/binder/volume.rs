//! What becomes of a volume when its claim comes, goes, or has another. Pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::claim::BOUND_BY_CONTROLLER;
use super::matching::same_volume_mode;
use crate::key::{annotation, name, uid};

/// Who made the volume, and so is to delete it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nobody has it.
    Available,
    Bound,
    /// Its claim is gone, and the volume stays for who looks after it.
    Released,
    /// As released, but nobody here can do what its policy asks for: reason and text.
    Failed(&'static str, String),
    /// Its claim has another volume: the claim is let go.
    Unbind,
    /// The claim is to be looked at, which binds the two.
    AskClaim,
    /// They do not go together.
    Mismatch,
}

/// `claim`: who has the name that the volume gives, if anybody.
pub fn fate(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Fate {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return Fate::Available;
    };
    let known = reference.uid.as_deref().filter(|known| !known.is_empty());
    let Some(known) = known else {
        // It waits for a claim of that name, which is bound when it is looked at.
        return Fate::Available;
    };
    let Some(claim) = claim.filter(|claim| uid(&claim.metadata) == known) else {
        return released(volume);
    };
    let has = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    match has.filter(|has| !has.is_empty()) {
        None if !same_volume_mode(volume, claim) => Fate::Mismatch,
        None => Fate::AskClaim,
        Some(has) if has == name(&volume.metadata) => Fate::Bound,
        Some(_) if annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy(volume) == "Delete" => {
            released(volume)
        }
        Some(_) => Fate::Unbind,
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

fn released(volume: &PersistentVolume) -> Fate {
    let own = name(&volume.metadata);
    match policy(volume) {
        "Retain" => Fate::Released,
        "Delete" => {
            let spec = volume.spec.as_ref();
            let driver = spec.is_some_and(|spec| spec.csi.is_some());
            let made = annotation(&volume.metadata, PROVISIONED_BY);
            if driver || made.is_some_and(|by| !by.starts_with("kubernetes.io/")) {
                // Who made it deletes it.
                return Fate::Released;
            }
            let text =
                format!("error getting deleter volume plugin for volume \"{own}\": no deletable volume plugin matched");
            Fate::Failed("VolumeFailedDelete", text)
        }
        "Recycle" => Fate::Failed(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!".to_string(),
        ),
        other => {
            let text = format!("Volume has unrecognized PersistentVolumeReclaimPolicy: {other}");
            Fate::Failed("VolumeUnknownReclaimPolicy", text)
        }
    }
}

/// The volume without its claim: one that somebody wrote there is still waited for.
pub fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut unbound = volume.clone();
    let Some(spec) = &mut unbound.spec else { return unbound };
    let annotations = unbound.metadata.annotations.as_mut();
    if annotations.and_then(|all| all.remove(BOUND_BY_CONTROLLER)).is_some() {
        spec.claim_ref = None;
    } else if let Some(reference) = &mut spec.claim_ref {
        reference.uid = None;
    }
    unbound
}

/// The volume in a phase; None where it is.
pub fn told(volume: &PersistentVolume, phase: &str, message: &str) -> Option<PersistentVolume> {
    let status = volume.status.as_ref();
    let said = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    if status.and_then(|status| status.phase.as_deref()) == Some(phase) && said == message {
        return None;
    }
    let mut told = volume.clone();
    let status = told.status.get_or_insert_default();
    status.phase = Some(phase.to_string());
    status.message = Some(message.to_string()).filter(|message| !message.is_empty());
    Some(told)
}

#[cfg(test)]
#[path = "volume_test.rs"]
mod tests;
