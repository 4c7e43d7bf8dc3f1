//! Replica sets.

use crate::core::pod::{self, gather};
use crate::rules::Rules;
use crate::tree::Tree;
use crate::{selector, workload};

pub(super) use crate::workload::REPLICA_COLUMNS as COLUMNS;

pub(super) static STRATEGY: Rules = Rules {
    default: |o| workload::defaults(o, true),
    prepare_create: workload::zero_replicas,
    validate: |o| gather(|errors| workload::validate(o, "deployment", "ReplicaSet", errors)),
    validate_update: |sub, new, old| {
        gather(|errors| match sub {
            "" => errors.immutable(new, old, "spec.selector"),
            "status" => workload::replica_status(new, old, errors),
            _ => {}
        })
    },
    warnings: |o| {
        let mut out = workload::name_warnings(o);
        out.extend(pod::warnings::of(o.at("spec.template"), "spec.template"));
        out
    },
    row: |o, now| workload::replica_row(o, now, selector::text(o.at("spec.selector"))),
    fields: |o| vec![("status.replicas", o.int("status.replicas").unwrap_or(0).to_string())],
    field_names: &["status.replicas"],
    ..Rules::SPLIT
};
