//! Checks of how a container mounts the pod's volumes.

use super::container::Volumes;
use super::volume;
use crate::check::{Errors, Path};
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn check(container: &Value, path: &Path, volumes: &Volumes, errors: &mut Errors) {
    let mounts = container.items("volumeMounts");
    let devices = container.items("volumeDevices");
    let list = path.of("volumeMounts");
    let mut points = BTreeSet::new();
    for (i, mount) in mounts.iter().enumerate() {
        let path = list.at(i);
        let (name, point) = (mount.text("name"), mount.text("mountPath"));
        errors.text_required(mount, &path, "name");
        if !volumes.contains_key(name) {
            errors.not_found(&path.of("name"), name);
        }
        errors.text_required(mount, &path, "mountPath");
        if !points.insert(point) {
            errors.invalid(&path.of("mountPath"), point, "must be unique");
        }
        if devices.iter().any(|d| d.text("name") == name) {
            errors.invalid(&path.of("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|d| d.text("devicePath") == point) {
            errors.invalid(
                &path.of("mountPath"),
                point,
                "must not already exist as a path in volumeDevices",
            );
        }
        // Upstream names the list, not the item, in the rest.
        sub_paths(mount, &list, &path, errors);
        propagation(container, mount, &list.of("mountPropagation"), errors);
        recursive_read_only(mount, &list.of("recursiveReadOnly"), errors);
    }
    self::devices(devices, mounts, path, volumes, errors);
}

fn sub_paths(mount: &Value, list: &Path, path: &Path, errors: &mut Errors) {
    let (sub, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
    if !sub.is_empty() {
        volume::descending_path(sub, &list.of("subPath"), errors);
    }
    if !expression.is_empty() {
        if !sub.is_empty() {
            errors.invalid(
                &path.of("subPathExpr"),
                expression,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        volume::descending_path(expression, &list.of("subPathExpr"), errors);
    }
}

fn propagation(container: &Value, mount: &Value, path: &Path, errors: &mut Errors) {
    let mode = mount.text("mountPropagation");
    if !mode.is_empty() && !matches!(mode, "Bidirectional" | "HostToContainer" | "None") {
        errors.not_supported(path, mode, &["Bidirectional", "HostToContainer", "None"]);
    }
    if mode == "Bidirectional" && !container.flag("securityContext.privileged") {
        errors.forbidden(
            path,
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
}

fn recursive_read_only(mount: &Value, path: &Path, errors: &mut Errors) {
    match mount.text("recursiveReadOnly") {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if !matches!(mount.text("mountPropagation"), "" | "None") {
                errors.forbidden(
                    path,
                    "may only be specified when mountPropagation is None or not specified",
                );
            }
        }
        other => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn devices(devices: &[Value], mounts: &[Value], path: &Path, volumes: &Volumes, errors: &mut Errors) {
    let list = path.of("volumeDevices");
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in devices.iter().enumerate() {
        let path = list.at(i);
        let (name, point) = (device.text("name"), device.text("devicePath"));
        errors.text_required(device, &path, "name");
        if !name.is_empty() && !names.insert(name) {
            errors.invalid(&path.of("name"), name, "must be unique");
        }
        match volumes.get(name) {
            None => errors.not_found(&path.of("name"), name),
            Some(v) if !v.has("persistentVolumeClaim") && !v.has("ephemeral") => {
                let text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&path.of("name"), name, text);
            }
            Some(_) => {}
        }
        errors.text_required(device, &path, "devicePath");
        if paths.contains(point) {
            errors.invalid(&path.of("devicePath"), point, "must be unique");
        }
        if point.split('/').any(|p| p == "..") {
            errors.invalid(&path.of("devicePath"), point, "can not contain backsteps ('..')");
        } else {
            paths.insert(point);
        }
        if mounts.iter().any(|m| m.text("name") == name) {
            errors.invalid(&path.of("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|m| m.text("mountPath") == point) {
            errors.invalid(
                &path.of("devicePath"),
                point,
                "must not already exist as a path in volumeMounts",
            );
        }
    }
}
