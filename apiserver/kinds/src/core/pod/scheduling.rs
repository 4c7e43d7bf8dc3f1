//! Checks of what the scheduler reads: tolerations, affinity, spread, gates.

use crate::check::{Errors, Path};
use crate::tree::Tree;
use crate::{names, selector};
use serde_json::Value;
use std::collections::BTreeSet;

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];

pub(crate) fn tolerations(tolerations: &[Value], path: &Path, errors: &mut Errors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.at(i);
        let (key, operator) = (toleration.text("key"), toleration.text("operator"));
        if !key.is_empty() {
            errors.all(&path.of("key"), key, names::qualified_name(key));
        }
        if key.is_empty() && operator != "Exists" {
            errors.invalid(
                &path.of("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.has("tolerationSeconds") && toleration.text("effect") != "NoExecute" {
            errors.invalid(
                &path.of("effect"),
                toleration.text("effect"),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => {
                let value = toleration.text("value");
                errors.all(&path.of("operator"), value, names::label_value(value));
            }
            "Exists" => {
                if !toleration.text("value").is_empty() {
                    errors.invalid(
                        &path.of("operator"),
                        toleration.clone(),
                        "value must be empty when `operator` is 'Exists'",
                    );
                }
            }
            other => errors.not_supported(&path.of("operator"), other, &["Equal", "Exists"]),
        }
        errors.optional_choice(toleration, &path, "effect", EFFECTS);
    }
}

pub(crate) fn affinity(affinity: &Value, path: &Path, errors: &mut Errors) {
    let node = affinity.at("nodeAffinity");
    let at = path.of("nodeAffinity");
    let required = node.at("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_object() {
        node_selector(
            required,
            &at.of("requiredDuringSchedulingIgnoredDuringExecution"),
            errors,
        );
    }
    let list = at.of("preferredDuringSchedulingIgnoredDuringExecution");
    for (i, preferred) in node
        .items("preferredDuringSchedulingIgnoredDuringExecution")
        .iter()
        .enumerate()
    {
        let path = list.at(i);
        weight(preferred, &path, errors);
        node_term(preferred.at("preference"), &path.of("preference"), errors);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let at = path.of(key);
        let pods = affinity.at(key);
        let list = at.of("requiredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in pods
            .items("requiredDuringSchedulingIgnoredDuringExecution")
            .iter()
            .enumerate()
        {
            pod_term(term, &list.at(i), errors);
        }
        let list = at.of("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, preferred) in pods
            .items("preferredDuringSchedulingIgnoredDuringExecution")
            .iter()
            .enumerate()
        {
            let path = list.at(i);
            weight(preferred, &path, errors);
            pod_term(preferred.at("podAffinityTerm"), &path.of("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Value, path: &Path, errors: &mut Errors) {
    let weight = preferred.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.of("weight"), weight, "must be in the range 1-100");
    }
}

/// A `NodeSelector`: of node affinity, and of persistent volumes.
pub(crate) fn node_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    let list = path.of("nodeSelectorTerms");
    if selector.items("nodeSelectorTerms").is_empty() {
        errors.required(&list, "must have at least one node selector term");
    }
    for (i, term) in selector.items("nodeSelectorTerms").iter().enumerate() {
        node_term(term, &list.at(i), errors);
    }
}

fn node_term(term: &Value, path: &Path, errors: &mut Errors) {
    let list = path.of("matchExpressions");
    for (i, expression) in term.items("matchExpressions").iter().enumerate() {
        let path = list.at(i);
        let values = expression.items("values").len();
        match expression.text("operator") {
            "In" | "NotIn" => {
                if values == 0 {
                    errors.required(
                        &path.of("values"),
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    );
                }
            }
            "Exists" | "DoesNotExist" => {
                if values > 0 {
                    errors.forbidden(
                        &path.of("values"),
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    );
                }
            }
            "Gt" | "Lt" => {
                if values != 1 {
                    errors.required(
                        &path.of("values"),
                        "must be specified single value when `operator` is 'Lt' or 'Gt'",
                    );
                }
            }
            other => errors.invalid(&path.of("operator"), other, "not a valid selector operator"),
        }
        let key = expression.text("key");
        errors.all(&path.of("key"), key, names::qualified_name(key));
    }
    let list = path.of("matchFields");
    for (i, field) in term.items("matchFields").iter().enumerate() {
        let path = list.at(i);
        if !matches!(field.text("operator"), "In" | "NotIn") {
            errors.invalid(
                &path.of("operator"),
                field.text("operator"),
                "not a valid selector operator",
            );
        } else if field.items("values").len() != 1 {
            errors.required(
                &path.of("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        if field.text("key") != "metadata.name" {
            errors.invalid(&path.of("key"), field.text("key"), "not a valid field selector key");
        }
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut Errors) {
    selector::validate(term.at("labelSelector"), &path.of("labelSelector"), errors);
    selector::validate(term.at("namespaceSelector"), &path.of("namespaceSelector"), errors);
    let topology = term.text("topologyKey");
    if topology.is_empty() {
        errors.required(&path.of("topologyKey"), "can not be empty");
    }
    errors.all(&path.of("topologyKey"), topology, names::qualified_name(topology));
}

pub(crate) fn topology_spread(constraints: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.at(i);
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&path.of("maxSkew"), skew, "must be greater than zero");
        }
        let key = constraint.text("topologyKey");
        if key.is_empty() {
            errors.required(&path.of("topologyKey"), "can not be empty");
        } else {
            errors.all(&path.of("topologyKey"), key, names::qualified_name(key));
        }
        errors.choice(
            constraint,
            &path,
            "whenUnsatisfiable",
            &["DoNotSchedule", "ScheduleAnyway"],
        );
        if !seen.insert((key, constraint.text("whenUnsatisfiable"))) {
            errors.duplicate(
                &path.of("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {}}}", constraint.text("whenUnsatisfiable")),
            );
        }
        if let Some(domains) = constraint.int("minDomains") {
            if domains <= 0 {
                errors.invalid(&path.of("minDomains"), domains, "must be greater than zero");
            } else if constraint.text("whenUnsatisfiable") != "DoNotSchedule" {
                errors.invalid(
                    &path.of("minDomains"),
                    domains,
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                );
            }
        }
        errors.optional_choice(constraint, &path, "nodeAffinityPolicy", &["Honor", "Ignore"]);
        errors.optional_choice(constraint, &path, "nodeTaintsPolicy", &["Honor", "Ignore"]);
        selector::validate(constraint.at("labelSelector"), &path.of("labelSelector"), errors);
    }
}

pub(crate) fn gates(gates: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, gate) in gates.iter().enumerate() {
        let path = path.at(i);
        let name = gate.text("name");
        errors.all(&path, name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}
