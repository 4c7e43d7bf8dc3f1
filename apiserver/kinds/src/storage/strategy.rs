//! Storage classes, CSI objects, volume attachments and attribute classes.

use crate::check::{Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{AGE, NAME, boolean, cell, integer, text};
use crate::rules::Rules;
use crate::tree::{Tree, object, set_default, set_text};
use serde_json::{Value, json};

pub(super) mod storage_class {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Provisioner", "Who makes the volumes."),
        text("ReclaimPolicy", "What becomes of a volume when its claim goes."),
        text("VolumeBindingMode", "When claims are bound."),
        boolean("AllowVolumeExpansion", "Whether volumes can grow."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            set_text(o, "reclaimPolicy", "Delete");
            set_text(o, "volumeBindingMode", "Immediate");
        },
        validate: |o| {
            gather(|errors| {
                let root = Path::new("provisioner");
                if o.text("provisioner").is_empty() {
                    errors.required(&root, "provisioner");
                }
                if !matches!(o.text("reclaimPolicy"), "Delete" | "Retain") {
                    errors.not_supported(
                        &Path::new("reclaimPolicy"),
                        o.text("reclaimPolicy"),
                        &["Delete", "Retain"],
                    );
                }
                if !matches!(o.text("volumeBindingMode"), "Immediate" | "WaitForFirstConsumer") {
                    errors.not_supported(
                        &Path::new("volumeBindingMode"),
                        o.text("volumeBindingMode"),
                        &["Immediate", "WaitForFirstConsumer"],
                    );
                }
            })
        },
        validate_update: |_, new, old| {
            gather(|errors| {
                for key in ["parameters", "provisioner", "reclaimPolicy"] {
                    if !same(new.at(key), old.at(key)) {
                        errors.forbidden(&Path::new(key), &format!("updates to {key} are forbidden."));
                    }
                }
                errors.immutable(new, old, "volumeBindingMode");
            })
        },
        row: |o, now| {
            let default = o
                .at("metadata.annotations")
                .get("storageclass.kubernetes.io/is-default-class");
            let mark = if default.is_some_and(|v| v == "true") {
                " (default)"
            } else {
                ""
            };
            vec![
                format!("{}{mark}", o.text("metadata.name")).into(),
                cell::text(o, "provisioner"),
                cell::text_or(o, "reclaimPolicy", "Delete"),
                cell::text_or(o, "volumeBindingMode", "Immediate"),
                o.flag("allowVolumeExpansion").into(),
                cell::age(o, now),
            ]
        },
        ..Rules::BASE
    };
}

pub(super) mod csi_driver {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        boolean(
            "AttachRequired",
            "Whether volumes are attached before they are mounted.",
        ),
        boolean("PodInfoOnMount", "Whether the driver is told of the pod."),
        boolean("StorageCapacity", "Whether the driver reports capacity."),
        text("TokenRequests", "Audiences of tokens that the driver gets."),
        boolean("RequiresRepublish", "Whether volumes are published again and again."),
        text("Modes", "Lifecycle modes of its volumes."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            let Some(spec) = object(o, "spec") else { return };
            set_default(spec, "attachRequired", true);
            for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                set_default(spec, key, false);
            }
            set_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            set_default(spec, "volumeLifecycleModes", json!(["Persistent"]));
        },
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec");
                errors.optional_choice(
                    o.at("spec"),
                    &path,
                    "fsGroupPolicy",
                    &["File", "None", "ReadWriteOnceWithFSType"],
                );
                for mode in o.items("spec.volumeLifecycleModes").iter().filter_map(Value::as_str) {
                    if !matches!(mode, "Persistent" | "Ephemeral") {
                        errors.not_supported(&path.of("volumeLifecycleModes"), mode, &["Ephemeral", "Persistent"]);
                    }
                }
            })
        },
        validate_update: |_, new, old| gather(|errors| errors.immutable(new, old, "spec.volumeLifecycleModes")),
        row: |o, now| {
            let audiences: Vec<&str> = o
                .items("spec.tokenRequests")
                .iter()
                .map(|t| t.text("audience"))
                .collect();
            let modes: Vec<&str> = o
                .items("spec.volumeLifecycleModes")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let tokens = if audiences.is_empty() {
                "<unset>".into()
            } else {
                cell::joined(&audiences)
            };
            vec![
                cell::name(o),
                o.at("spec.attachRequired").as_bool().unwrap_or(true).into(),
                o.flag("spec.podInfoOnMount").into(),
                o.flag("spec.storageCapacity").into(),
                tokens,
                o.flag("spec.requiresRepublish").into(),
                cell::joined(&modes),
                cell::age(o, now),
            ]
        },
        ..Rules::BASE
    };
}

pub(super) mod csi_node {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, integer("Drivers", "Drivers on the node."), AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            if let Some(spec) = object(o, "spec") {
                set_default(spec, "drivers", json!([]));
            }
        },
        validate: |o| {
            gather(|errors| {
                let list = Path::new("spec.drivers");
                let mut seen = std::collections::BTreeSet::new();
                for (i, driver) in o.items("spec.drivers").iter().enumerate() {
                    let path = list.at(i);
                    errors.text_required(driver, &path, "name");
                    errors.text_required(driver, &path, "nodeID");
                    if !seen.insert(driver.text("name")) {
                        errors.duplicate(&path.of("name"), driver.text("name"));
                    }
                }
            })
        },
        row: |o, now| vec![cell::name(o), cell::count(o, "spec.drivers"), cell::age(o, now)],
        ..Rules::BASE
    };
}

pub(super) mod csi_storage_capacity {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("StorageClassName", "Storage class."),
        text("Capacity", "What can still be made."),
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        validate_update: |_, new, old| {
            gather(|errors| {
                errors.immutable(new, old, "nodeTopology");
                errors.immutable(new, old, "storageClassName");
            })
        },
        row: |o, _| {
            vec![
                cell::name(o),
                cell::text(o, "storageClassName"),
                cell::text_or(o, "capacity", "<unset>"),
            ]
        },
        ..Rules::BASE
    };
}

pub(super) mod volume_attachment {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Attacher", "Driver."),
        text("PV", "Volume."),
        text("Node", "Node."),
        boolean("Attached", "Whether it is attached."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        prepare_create: |o| {
            if o.is_object() {
                o["status"] = json!({"attached": false});
            }
        },
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec");
                errors.text_required(o.at("spec"), &path, "attacher");
                errors.text_required(o.at("spec"), &path, "nodeName");
            })
        },
        validate_update: |sub, new, old| {
            gather(|errors| {
                if sub.is_empty() {
                    errors.immutable(new, old, "spec");
                }
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
}

pub(super) mod volume_attributes_class {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, text("DriverName", "Driver."), AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        validate: |o| {
            gather(|errors| {
                if o.text("driverName").is_empty() {
                    errors.required(&Path::new("driverName"), "");
                }
                if o.map("parameters").is_none_or(serde_json::Map::is_empty) {
                    errors.required(&Path::new("parameters"), "must contain at least one key/value pair");
                }
            })
        },
        validate_update: |_, new, old| {
            gather(|errors| {
                for key in ["driverName", "parameters"] {
                    errors.immutable(new, old, key);
                }
            })
        },
        row: |o, now| {
            let default = o
                .at("metadata.annotations")
                .get("storage.kubernetes.io/is-default-class");
            let mark = if default.is_some_and(|v| v == "true") {
                " (default)"
            } else {
                ""
            };
            vec![
                format!("{}{mark}", o.text("metadata.name")).into(),
                cell::text(o, "driverName"),
                cell::age(o, now),
            ]
        },
        ..Rules::BASE
    };
}
