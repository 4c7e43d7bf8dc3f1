//! Rows of storage.k8s.io.

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "storage.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            // csi_driver
            ..kind!(GROUP, V1, "CSIDriver", "csidrivers", "csidriver", false)
        },
        Kind {
            // csi_node
            ..kind!(GROUP, V1, "CSINode", "csinodes", "csinode", false)
        },
        Kind {
            // csi_storage_capacity
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
            // storage_class
            ..kind!(GROUP, V1, "StorageClass", "storageclasses", "storageclass", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "VolumeAttachment")] },
            // volume_attachment
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
            // volume_attributes_class
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
