//! Volume attachments.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::core::source;
use crate::names;
use crate::row::{AGE, NAME, boolean, cell, text};
use crate::rules::Rules;
use crate::tree::Tree;
use serde_json::{Value, json};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    text("Attacher", "Driver."),
    text("PV", "Volume."),
    text("Node", "Node."),
    boolean("Attached", "Whether it is attached."),
    AGE,
];

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

pub(crate) static STRATEGY: Rules = Rules {
    prepare_create: |o| {
        if o.is_object() {
            o["status"] = json!({"attached": false});
        }
    },
    validate: |o| {
        gather(|errors| {
            spec(o.at("spec"), errors);
            status(o.at("status"), errors);
        })
    },
    validate_create: |o| {
        gather(|errors| {
            let path = Path::new("spec");
            source::csi_driver(o.text("spec.attacher"), &path.of("attacher"), errors);
            let path = path.of("source");
            if let Some(volume) = o.at("spec.source.persistentVolumeName").as_str() {
                errors.all(&path.of("persistentVolumeName"), volume, names::dns_subdomain(volume));
            }
        })
    },
    validate_update: |sub, new, old| {
        gather(|errors| match sub {
            "status" => status(new.at("status"), errors),
            _ => errors.immutable(new, old, "spec"),
        })
    },
    row: |o, now| {
        vec![
            cell::name(o),
            cell::text(o, "spec.attacher"),
            cell::text(o, "spec.source.persistentVolumeName"),
            cell::text(o, "spec.nodeName"),
            o.flag("status.attached").into(),
            cell::age(o, now),
        ]
    },
    ..Rules::STATUS
};

fn spec(spec: &Value, errors: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let path = Path::new("spec");
    errors.text_required(spec, &path, "attacher");
    let (source, at) = (spec.at("source"), path.of("source"));
    match (
        source.has("inlineVolumeSpec"),
        source.at("persistentVolumeName").as_str(),
    ) {
        (false, None) => errors.required(&at, ONE),
        (true, Some(_)) => errors.forbidden(&at, ONE),
        (false, Some("")) => {
            let text = "must specify non empty persistentVolumeName";
            errors.required(&at.of("persistentVolumeName"), text);
        }
        _ => {}
    }
    let node = spec.text("nodeName");
    errors.all(&path.of("nodeName"), node, names::dns_subdomain(node));
}

fn status(status: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let size = |(k, v): (&String, &Value)| k.len() + v.as_str().map_or(0, str::len);
    let bytes: usize = status.map("attachmentMetadata").into_iter().flatten().map(size).sum();
    if bytes > METADATA_BYTES_MAX {
        errors.too_long(&path.of("attachmentMetadata"), METADATA_BYTES_MAX);
    }
    for key in ["attachError", "detachError"] {
        let (error, path) = (status.at(key), path.of(key));
        if error.text("message").len() > MESSAGE_BYTES_MAX {
            // Upstream names the other limit.
            errors.too_long(&path.of("message"), METADATA_BYTES_MAX);
        }
        errors.range(error, &path, "errorCode", 0, i64::from(i32::MAX));
    }
}
