//! Claims and volumes: DefaultStorageClass, StorageObjectInUseProtection,
//! PersistentVolumeClaimResize.

use super::{defaults, forbidden, is};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{flag, list_mut, text};
use serde_json::Value;
use skiff_api::quantity::Quantity;

const GROUP: &str = "storage.k8s.io";

pub fn default_class(r: &mut AdmissionRequest, objects: &dyn Objects) {
    // An empty name asks for no class: only an absent one is filled in.
    if !is(r, Operation::Create, "", "persistentvolumeclaims")
        || r.object
            .pointer("/spec/storageClassName")
            .is_some_and(|name| !name.is_null())
        || r.object
            .pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class")
            .is_some()
    {
        return;
    }
    let annotations = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    let classes = objects.list(GROUP, "storageclasses", "");
    if let Some(name) = defaults::newest_default(&classes, &annotations)
        && let Some(spec) = super::spec_mut(r)
    {
        spec["storageClassName"] = name.into();
    }
}

/// What is in use is not removed until the controller takes the finalizer away.
pub fn protection_finalizers(r: &mut AdmissionRequest) {
    if r.operation != Operation::Create || !r.subresource.is_empty() {
        return;
    }
    let finalizer = match (r.group, r.resource) {
        ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        ("", "persistentvolumes") => "kubernetes.io/pv-protection",
        (GROUP, "volumeattributesclasses") => "kubernetes.io/vac-protection",
        _ => return,
    };
    if let Some(finalizers) = r
        .object
        .get_mut("metadata")
        .and_then(|metadata| list_mut(metadata, "finalizers"))
        && !finalizers.iter().any(|f| f.as_str() == Some(finalizer))
    {
        finalizers.push(finalizer.into());
    }
}

/// A claim grows only where its class says that volumes can.
pub fn resize(r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    if !is(r, Operation::Update, "", "persistentvolumeclaims") {
        return Ok(());
    }
    let size = |claim: &Value| text(claim, "/spec/resources/requests/storage").parse::<Quantity>().ok();
    let (Some(new), Some(old)) = (size(r.object), r.old_object.and_then(size)) else {
        return Ok(());
    };
    if new <= old {
        return Ok(());
    }
    let bound = r
        .old_object
        .is_some_and(|claim| text(claim, "/status/phase") == "Bound");
    if !bound {
        return Err(forbidden(r, "Only bound persistent volume claims can be expanded"));
    }
    let class = objects.get(GROUP, "storageclasses", "", text(r.object, "/spec/storageClassName"));
    if class.is_some_and(|class| flag(&class, "/allowVolumeExpansion") == Some(true)) {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and \
               the storageclass that provisions the pvc must support resize";
    Err(forbidden(r, why))
}
