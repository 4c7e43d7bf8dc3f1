//! Checks of what the scheduler reads: tolerations, affinity, spread, gates.

use crate::check::{Errors, Path};
use crate::tree::Tree;
use crate::{names, selector};
use serde_json::Value;
use std::collections::BTreeSet;

pub(crate) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

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
                joined(&path.of("operator"), value, errors);
            }
            "Exists" => {
                if !toleration.text("value").is_empty() {
                    errors.invalid(
                        &path.of("operator"),
                        toleration.text("value"),
                        "value must be empty when `operator` is 'Exists'",
                    );
                }
            }
            "Gt" | "Lt" => {
                let value = toleration.text("value");
                if value.parse::<i64>().is_err() {
                    errors.invalid(
                        &path.of("value"),
                        value,
                        "must be a valid integer when using numeric comparison operators",
                    );
                }
            }
            other => errors.not_supported(&path.of("operator"), other, &["Equal", "Exists", "Lt", "Gt"]),
        }
        errors.optional_choice(toleration, &path, "effect", EFFECTS);
    }
}

/// What is wrong with a label's value, in one error.
pub(crate) fn joined(path: &Path, value: &str, errors: &mut Errors) {
    let faults = names::label_value(value);
    if !faults.is_empty() {
        errors.invalid(path, value, &faults.join(";"));
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
        node_term(preferred.at("preference"), false, &path.of("preference"), errors);
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
        return;
    }
    for (i, term) in selector.items("nodeSelectorTerms").iter().enumerate() {
        node_term(term, true, &list.at(i), errors);
    }
}

/// Values are checked where the term is required; a preference may name any.
fn node_term(term: &Value, values_checked: bool, path: &Path, errors: &mut Errors) {
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
        let values = path.of("values");
        for (j, value) in expression.items("values").iter().enumerate().filter(|_| values_checked) {
            let value = value.as_str().unwrap_or("");
            errors.all(&values.at(j), value, names::label_value(value));
        }
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
            continue;
        }
        let values = path.of("values");
        for (j, value) in field.items("values").iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            errors.all(&values.at(j), value, names::dns_subdomain(value));
        }
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut Errors) {
    selector::validate(term.at("labelSelector"), &path.of("labelSelector"), errors);
    selector::validate(term.at("namespaceSelector"), &path.of("namespaceSelector"), errors);
    for name in term.items("namespaces").iter().filter_map(Value::as_str) {
        errors.all(&path.of("namespace"), name, names::dns_label(name));
    }
    label_keys(term, path, errors);
    let topology = term.text("topologyKey");
    if topology.is_empty() {
        errors.required(&path.of("topologyKey"), "can not be empty");
    }
    errors.all(&path.of("topologyKey"), topology, names::qualified_name(topology));
}

/// `matchLabelKeys` and `mismatchLabelKeys` of a pod affinity term.
fn label_keys(term: &Value, path: &Path, errors: &mut Errors) {
    let selector = term.at("labelSelector");
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.items(list);
        let at = path.of(list);
        if !keys.is_empty() && selector.is_null() {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
            errors.all(&at.at(i), key, names::qualified_name(key));
        }
    }
    // The server merges the keys into the selector: once there is fine, twice is the user's.
    let matched = term.items("matchLabelKeys");
    let mut seen: BTreeSet<&str> = selector
        .map("matchLabels")
        .into_iter()
        .flatten()
        .map(|(k, _)| k.as_str())
        .collect();
    for expression in selector.items("matchExpressions") {
        let key = expression.text("key");
        if let Some(i) = matched.iter().position(|k| k == key)
            && seen.contains(key)
        {
            errors.invalid(&path.at(i), key, "exists in both matchLabelKeys and labelSelector");
        }
        seen.insert(key);
    }
    let mismatched = term.items("mismatchLabelKeys");
    for (i, key) in matched.iter().enumerate().filter(|(_, k)| mismatched.contains(k)) {
        errors.invalid(
            &path.of("matchLabelKeys").at(i),
            key.clone(),
            "exists in both matchLabelKeys and mismatchLabelKeys",
        );
    }
}

/// `matchLabelKeys` of a spread constraint.
fn spread_keys(constraint: &Value, path: &Path, errors: &mut Errors) {
    let keys = constraint.items("matchLabelKeys");
    let selector = constraint.at("labelSelector");
    if !keys.is_empty() && selector.is_null() {
        errors.forbidden(path, "must not be specified when labelSelector is not set");
    }
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        errors.all(&path.at(i), key, names::qualified_name(key));
    }
    // The server merges the keys into the expressions: once there is fine, twice is the user's.
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        let expressions = selector.items("matchExpressions").iter();
        if selector.at("matchLabels").get(key).is_some() || expressions.filter(|e| e.text("key") == key).count() > 1 {
            errors.invalid(&path.at(i), key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

pub(crate) fn topology_spread(constraints: &[Value], path: &Path, errors: &mut Errors) {
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.at(i);
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&path.of("maxSkew"), skew, "must be greater than zero");
        }
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        if key.is_empty() {
            errors.required(&path.of("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(
                &path.of("whenUnsatisfiable"),
                action,
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        let again = constraints[i + 1..]
            .iter()
            .any(|c| c.text("topologyKey") == key && c.text("whenUnsatisfiable") == action);
        if again {
            errors.duplicate(
                &path.of("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {action}}}"),
            );
        }
        if let Some(domains) = constraint.int("minDomains") {
            if domains <= 0 {
                errors.invalid(&path.of("minDomains"), domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let text = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&path.of("minDomains"), domains, &text);
            }
        }
        errors.optional_choice(constraint, &path, "nodeAffinityPolicy", &["Honor", "Ignore"]);
        errors.optional_choice(constraint, &path, "nodeTaintsPolicy", &["Honor", "Ignore"]);
        spread_keys(constraint, &path.of("matchLabelKeys"), errors);
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
