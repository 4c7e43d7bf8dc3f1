//! Rows of storage.k8s.io.

mod strategy;

use crate::contract::Kind;
use crate::row::{kind, status};

pub(crate) const GROUP: &str = "storage.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![
        Kind {
            columns: strategy::csi_driver::COLUMNS,
            strategy: &strategy::csi_driver::STRATEGY,
            ..kind!(GROUP, V1, "CSIDriver", "csidrivers", "csidriver", false)
        },
        Kind {
            columns: strategy::csi_node::COLUMNS,
            strategy: &strategy::csi_node::STRATEGY,
            ..kind!(GROUP, V1, "CSINode", "csinodes", "csinode", false)
        },
        Kind {
            columns: strategy::csi_storage_capacity::COLUMNS,
            strategy: &strategy::csi_storage_capacity::STRATEGY,
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
            columns: strategy::storage_class::COLUMNS,
            strategy: &strategy::storage_class::STRATEGY,
            ..kind!(GROUP, V1, "StorageClass", "storageclasses", "storageclass", false)
        },
        Kind {
            subresources: const { &[status(GROUP, "v1", "VolumeAttachment")] },
            columns: strategy::volume_attachment::COLUMNS,
            strategy: &strategy::volume_attachment::STRATEGY,
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
            columns: strategy::volume_attributes_class::COLUMNS,
            strategy: &strategy::volume_attributes_class::STRATEGY,
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
