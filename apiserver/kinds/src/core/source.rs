//! Checks of volume sources that pods and persistent volumes share, each with the
//! few rules that only one of the two has.

use super::pod::volume::no_backsteps;
use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;

/// Whose source it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of<'a> {
    /// A pod's, in the volume of this name.
    Pod(&'a str),
    /// The persistent volume's of this name.
    Volume(&'a str),
}

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Checks the source at `key` below `parent`.
pub(crate) fn check(key: &str, source: &Value, of: Of, parent: &Path, errors: &mut Errors) {
    // Upstream shows this one under the name of its protobuf days.
    let shown = if key == "gcePersistentDisk" {
        "persistentDisk"
    } else {
        key
    };
    let path = parent.of(shown);
    let kept = matches!(of, Of::Volume(_));
    match key {
        "hostPath" => host_path(source, &path, errors),
        "gcePersistentDisk" => disk(source, "pdName", &path, errors),
        "awsElasticBlockStore" => disk(source, "volumeID", &path, errors),
        "nfs" => {
            errors.texts_required(source, &path, &["server", "path"]);
            if !source.text("path").starts_with('/') {
                errors.invalid(&path.of("path"), source.text("path"), "must be an absolute path");
            }
        }
        "iscsi" => iscsi(source, of, parent, &path, errors),
        "glusterfs" => {
            errors.texts_required(source, &path, &["endpoints", "path"]);
            if let Some(namespace) = source.get("endpointsNamespace").and_then(Value::as_str)
                && kept
            {
                let at = path.of("endpointsNamespace");
                if namespace.is_empty() {
                    let text = "if the endpointnamespace is set, it must be a valid namespace name";
                    errors.invalid(&at, "", text);
                } else {
                    errors.all(&at, namespace, names::dns_label(namespace));
                }
            }
        }
        "flocker" => flocker(source, &path, errors),
        "rbd" => {
            list_required(source, "monitors", &path, errors);
            errors.text_required(source, &path, "image");
        }
        "cephfs" => list_required(source, "monitors", &path, errors),
        "quobyte" => quobyte(source, &path, errors),
        "cinder" => {
            errors.text_required(source, &path, "volumeID");
            secret(source, kept, &path, errors);
        }
        "fc" => fibre_channel(source, &path, errors),
        "flexVolume" => flex(source, &path, errors),
        "azureFile" => {
            errors.texts_required(source, &path, &["secretName", "shareName"]);
            if kept && source.get("secretNamespace").and_then(Value::as_str) == Some("") {
                errors.required(&path.of("secretNamespace"), "");
            }
        }
        "azureDisk" => azure_disk(source, &path, errors),
        "vsphereVolume" => errors.text_required(source, &path, "volumePath"),
        "photonPersistentDisk" => errors.text_required(source, &path, "pdID"),
        "portworxVolume" => errors.text_required(source, &path, "volumeID"),
        "scaleIO" => errors.texts_required(source, &path, &["gateway", "system", "volumeName"]),
        "storageos" => {
            let name = source.text("volumeName");
            if name.is_empty() {
                errors.required(&path.of("volumeName"), "");
            } else {
                errors.all(&path.of("volumeName"), name, names::dns_label(name));
            }
            errors.name_at(source, &path, "volumeNamespace", names::dns_label);
            secret(source, kept, &path, errors);
        }
        "local" => match source.text("path") {
            "" => errors.required(&path.of("path"), ""),
            text => no_backsteps(text, &path.of("path"), errors),
        },
        "csi" => csi(source, kept, &path, errors),
        _ => {}
    }
}

fn host_path(source: &Value, path: &Path, errors: &mut Errors) {
    let text = source.text("path");
    if text.is_empty() {
        errors.required(&path.of("path"), "");
        return;
    }
    no_backsteps(text, &path.of("path"), errors);
    let kind = source.text("type");
    if !HOST_PATH_TYPES.contains(&kind) {
        errors.not_supported(&path.of("type"), kind, HOST_PATH_TYPES);
    }
}

fn list_required(source: &Value, key: &str, path: &Path, errors: &mut Errors) {
    if source.items(key).is_empty() {
        errors.required(&path.of(key), "");
    }
}

fn disk(source: &Value, name: &str, path: &Path, errors: &mut Errors) {
    errors.text_required(source, path, name);
    if let Some(n) = source.int("partition").filter(|n| !(0..=255).contains(n)) {
        errors.invalid(&path.of("partition"), n, "must be between 1 and 255, inclusive");
    }
}

/// A reference to a secret that needs a name, and in a volume a namespace.
fn secret(source: &Value, kept: bool, path: &Path, errors: &mut Errors) {
    if let Some(secret) = source.get("secretRef").filter(|s| s.is_object()) {
        let path = path.of("secretRef");
        errors.text_required(secret, &path, "name");
        if kept {
            errors.text_required(secret, &path, "namespace");
        }
    }
}

/// `iqn.2001-04.com.example:storage.disk1`, `eui.` or `naa.` and their digits.
fn is_iscsi_name(name: &str) -> bool {
    let digits = |prefix: &str, count: usize| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.len() == count && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    if name.starts_with("eui") {
        return digits("eui.", 16);
    }
    if name.starts_with("naa") {
        return digits("naa.", 32);
    }
    let Some((authority, target)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let date = authority.as_bytes();
    let dated = date.len() > 8
        && date[..4].iter().all(u8::is_ascii_digit)
        && date[4] == b'-'
        && date[5..7].iter().all(u8::is_ascii_digit)
        && date[7] == b'.';
    dated
        && date[8..]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !target.is_empty()
        && !target.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n'])
}

fn iscsi_name(name: &str, path: &Path, kept: bool, errors: &mut Errors) {
    let known = ["iqn", "eui", "naa"].iter().any(|p| name.starts_with(p));
    if !known && !kept {
        errors.invalid(path, name, "must be valid format starting with iqn, eui, or naa");
    } else if !is_iscsi_name(name) {
        errors.invalid(path, name, "must be valid format");
    }
}

fn iscsi(source: &Value, of: Of, parent: &Path, path: &Path, errors: &mut Errors) {
    const TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
    let kept = matches!(of, Of::Volume(_));
    let portal = source.text("targetPortal");
    errors.text_required(source, path, "targetPortal");
    match source.text("iqn") {
        "" => errors.required(&path.of("iqn"), ""),
        name => iscsi_name(name, &path.of("iqn"), kept, errors),
    }
    errors.range(source, path, "lun", 0, 255);
    let authenticated = source.flag("chapAuthDiscovery") || source.flag("chapAuthSession");
    if authenticated && !source.has("secretRef") {
        errors.required(&path.of("secretRef"), "");
    }
    if kept && source.has("secretRef") {
        errors.text_required(source.at("secretRef"), &path.of("secretRef"), "name");
    }
    if let Some(initiator) = source.get("initiatorName").and_then(Value::as_str) {
        iscsi_name(initiator, &path.of("initiatorname"), kept, errors);
        match of {
            Of::Pod(name) if name.len() + portal.len() + 1 > 64 => {
                errors.invalid(&parent.of("name"), name, TOO_LONG);
            }
            Of::Volume(name) if name.len() + portal.len() + 1 > 64 => {
                errors.invalid(&path.of("targetportal"), portal, TOO_LONG);
            }
            _ => {}
        }
    }
}

fn flocker(source: &Value, path: &Path, errors: &mut Errors) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => errors.required(path, "one of datasetName and datasetUUID is required"),
        (false, false) => errors.invalid(
            path,
            "resource",
            "datasetName and datasetUUID can not be specified simultaneously",
        ),
        _ => {}
    }
    if name.contains('/') {
        errors.invalid(&path.of("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(source: &Value, path: &Path, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        errors.required(&path.of("registry"), PAIRS);
    } else if source.text("tenant").len() >= 65 {
        errors.required(
            &path.of("tenant"),
            "must be a UUID and may not exceed a length of 64 characters",
        );
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_port(pair)) {
            errors.invalid(&path.of("registry"), registry, PAIRS);
        }
    }
    errors.text_required(source, path, "volume");
}

fn is_host_port(pair: &str) -> bool {
    pair.rsplit_once(':')
        .is_some_and(|(host, _)| !host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
}

fn fibre_channel(source: &Value, path: &Path, errors: &mut Errors) {
    let names = source.items("targetWWNs");
    let at = path.of("targetWWNs");
    match (names.is_empty(), source.items("wwids").is_empty()) {
        (true, true) => errors.required(&at, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => errors.invalid(
            &at,
            names.to_vec(),
            "targetWWNs and wwids can not be specified simultaneously",
        ),
        _ => {}
    }
    if !names.is_empty() {
        if source.has("lun") {
            errors.range(source, path, "lun", 0, 255);
        } else {
            errors.required(&path.of("lun"), "lun is required if targetWWNs is specified");
        }
    }
}

fn flex(source: &Value, path: &Path, errors: &mut Errors) {
    errors.text_required(source, path, "driver");
    let options = path.of("options");
    for key in source.map("options").into_iter().flatten().map(|(k, _)| k) {
        let namespace = key.split_once('/').map_or(key.as_str(), |(n, _)| n);
        let dotted = format!(".{}", namespace.to_lowercase());
        if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
            errors.invalid(
                &options.key(key),
                key.as_str(),
                "kubernetes.io and k8s.io namespaces are reserved",
            );
        }
    }
}

fn azure_disk(source: &Value, path: &Path, errors: &mut Errors) {
    errors.texts_required(source, path, &["diskName", "diskURI"]);
    errors.optional_choice(source, path, "cachingMode", &["None", "ReadOnly", "ReadWrite"]);
    errors.optional_choice(source, path, "kind", &["Dedicated", "Managed", "Shared"]);
    let uri = source.text("diskURI");
    let (prefix, form) = match source.text("kind") {
        "" => return,
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ),
    };
    if !uri.starts_with(prefix) {
        errors.not_supported(&path.of("diskURI"), uri, &[form]);
    }
}

const DRIVER_CHARS_MAX: usize = 63;

/// A name of a CSI driver: a subdomain, capitals allowed.
pub(crate) fn csi_driver(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    }
    if name.len() > DRIVER_CHARS_MAX {
        errors.too_long(path, DRIVER_CHARS_MAX);
    }
    errors.all(path, name, names::dns_subdomain(&name.to_lowercase()));
}

fn csi(source: &Value, kept: bool, path: &Path, errors: &mut Errors) {
    csi_driver(source.text("driver"), &path.of("driver"), errors);
    if !kept {
        if let Some(secret) = source.get("nodePublishSecretRef").filter(|s| s.is_object()) {
            match secret.text("name") {
                "" => errors.required(&path.of("nodePublishSecretRef").of("name"), ""),
                name => errors.all(&path.of("name"), name, names::dns_subdomain(name)),
            }
        }
        return;
    }
    errors.text_required(source, path, "volumeHandle");
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if let Some(secret) = source.get(key).filter(|s| s.is_object()) {
            let path = path.of(key);
            errors.texts_required(secret, &path, &["name", "namespace"]);
            errors.name_at(secret, &path, "name", names::dns_subdomain);
            errors.name_at(secret, &path, "namespace", names::dns_label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_iscsi_name;

    #[test]
    fn names_of_iscsi_targets() {
        for (name, fine) in [
            ("iqn.2001-04.com.example:storage.disk1", true),
            ("iqn.2001-04.com.example", false),
            ("iqn.01-04.com.example:a", false),
            ("iqn.2001-04.com.example:a b", false),
            ("eui.0123456789abcdef", true),
            ("eui.0123", false),
            ("naa.60014053226f0388c6b4b4d9b8c6d9ab", true),
            ("x", false),
        ] {
            assert_eq!(is_iscsi_name(name), fine, "{name}");
        }
    }
}
