//! Rows of storage.k8s.io.

mod classes;
mod csi;
mod volume_attachment;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "storage.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            columns: csi::DRIVER_COLUMNS,
            strategy: &csi::DRIVER,
            ..kind!(GROUP, V1, "CSIDriver", "csidrivers", "csidriver", false)
        },
        Kind {
            columns: csi::NODE_COLUMNS,
            strategy: &csi::NODE,
            ..kind!(GROUP, V1, "CSINode", "csinodes", "csinode", false)
        },
        Kind {
            columns: csi::CAPACITY_COLUMNS,
            strategy: &csi::CAPACITY,
            ..kind!(
                GROUP,
                V1,
                "CSIStorageCapacity",
                "csistoragecapacities",
                "csistoragecapacity",
                true
            )
        },
        Kind {
            short_names: &["sc"],
            columns: classes::STORAGE_COLUMNS,
            strategy: &classes::STORAGE,
            ..kind!(GROUP, V1, "StorageClass", "storageclasses", "storageclass", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "VolumeAttachment")] },
            columns: volume_attachment::COLUMNS,
            strategy: &volume_attachment::STRATEGY,
            ..kind!(
                GROUP,
                V1,
                "VolumeAttachment",
                "volumeattachments",
                "volumeattachment",
                false
            )
        },
        Kind {
            short_names: &["vac"],
            columns: classes::ATTRIBUTES_COLUMNS,
            strategy: &classes::ATTRIBUTES,
            ..kind!(
                GROUP,
                V1,
                "VolumeAttributesClass",
                "volumeattributesclasses",
                "volumeattributesclass",
                false
            )
        },
    ]
}
