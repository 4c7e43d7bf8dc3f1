//! Checks of the job spec that jobs and cron jobs share.

use super::indexes;
use crate::check::{Errors, Path};
use crate::core::pod;
use crate::names;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

const PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
/// Bounds of parallelism and failed indexes above that many completions.
const HIGH_MAX: i64 = 10_000;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const MANAGER_CHARS_MAX: usize = 63;
const INDEXES_CHARS_MAX: usize = 64 * 1024;

pub(super) fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.non_negative(spec, path, key);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&path.of("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        managed_by(manager, &path.of("managedBy"), errors);
    }
    mode(spec, path, errors);
    if spec.has("podFailurePolicy") {
        failure_policy(spec, &path.of("podFailurePolicy"), errors);
    }
    if spec.has("successPolicy") {
        success_policy(spec, &path.of("successPolicy"), errors);
    }
    replacement(spec, &path.of("podReplacementPolicy"), errors);
    let template = path.of("template");
    pod::validate_template(spec.at("template"), &template, errors);
    let below = template.of("spec");
    let at = below.of("restartPolicy");
    match spec.text("template.spec.restartPolicy") {
        // A template's default, so that it is as good as none.
        "" | "Always" => errors.required(&at, "valid values: \"OnFailure\", \"Never\""),
        policy if !matches!(policy, "OnFailure" | "Never") => {
            errors.not_supported(&at, policy, &["OnFailure", "Never"]);
        }
        policy if policy != "Never" && spec.has("podFailurePolicy") => {
            errors.invalid(
                &at,
                policy,
                "only \"Never\" is supported when podFailurePolicy is specified",
            );
        }
        _ => {}
    }
}

/// `example.com/controller`.
fn managed_by(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    match name.split_once('/') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            errors.all(path, host, names::dns_subdomain(host));
            let fine = rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b));
            if !fine {
                errors.invalid(
                    path,
                    rest,
                    "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
                );
            }
        }
        _ => errors.invalid(path, name, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if name.len() > MANAGER_CHARS_MAX {
        errors.too_long(path, MANAGER_CHARS_MAX);
    }
}

fn mode(spec: &Value, path: &Path, errors: &mut Errors) {
    let mode = spec.text("completionMode");
    if !matches!(mode, "" | "NonIndexed" | "Indexed") {
        errors.not_supported(&path.of("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    let failed = path.of("maxFailedIndexes");
    if mode != "Indexed" {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(n) = spec.int(key).filter(|_| matches!(mode, "" | "NonIndexed")) {
                errors.invalid(&path.of(key), n, "requires indexed completion mode");
            }
        }
        return;
    }
    let (completions, parallelism, most) = (
        spec.int("completions"),
        spec.int("parallelism"),
        spec.int("maxFailedIndexes"),
    );
    if completions.is_none() {
        errors.required(&path.of("completions"), "when completion mode is Indexed");
    }
    if let Some(n) = parallelism.filter(|n| *n > PARALLELISM_MAX) {
        let text = format!("must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed");
        errors.invalid(&path.of("parallelism"), n, &text);
    }
    if let (Some(n), Some(all)) = (most, completions)
        && n > all
    {
        errors.invalid(&failed, n, "must be less than or equal to completions");
    }
    if let Some(n) = most.filter(|n| *n > FAILED_INDEXES_MAX) {
        let text = format!("must be less than or equal to {FAILED_INDEXES_MAX}");
        errors.invalid(&failed, n, &text);
    }
    if completions.is_some_and(|n| n > COMPLETIONS_SOFT_MAX) && spec.has("backoffLimitPerIndex") {
        let text = format!(
            "must be less than or equal to {HIGH_MAX} when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index"
        );
        if most.is_none() {
            let text = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
            errors.required(&failed, &text);
        }
        if let Some(n) = parallelism.filter(|n| *n > HIGH_MAX) {
            errors.invalid(&path.of("parallelism"), n, &text);
        }
        if let Some(n) = most.filter(|n| *n > HIGH_MAX) {
            errors.invalid(&failed, n, &text);
        }
    }
}

fn replacement(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = spec.text("podReplacementPolicy");
    if policy.is_empty() {
        return;
    }
    if spec.has("podFailurePolicy") {
        if policy != "Failed" {
            errors.not_supported(path, policy, &["Failed"]);
        }
    } else if !matches!(policy, "Failed" | "TerminatingOrFailed") {
        errors.not_supported(path, policy, &["Failed", "TerminatingOrFailed"]);
    }
}

/// The text that upstream adds to a missing choice.
fn valid(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn needed_choice(text: &str, values: &[&str], path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, &valid(values));
    } else if !values.contains(&text) {
        errors.not_supported(path, text, values);
    }
}

fn failure_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let rules = spec.items("podFailurePolicy.rules");
    let list = path.of("rules");
    if rules.len() > RULES_MAX {
        errors.too_many(&list, rules.len(), RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = list.at(i);
        let action = rule.text("action");
        let at = path.of("action");
        if action == "FailIndex" && !spec.has("backoffLimitPerIndex") {
            errors.invalid(&at, action, "requires the backoffLimitPerIndex to be set");
        }
        needed_choice(action, &["Count", "FailIndex", "FailJob", "Ignore"], &at, errors);
        let (codes, conditions) = (rule.at("onExitCodes"), rule.items("onPodConditions"));
        if codes.is_object() {
            exit_codes(spec, codes, &path.of("onExitCodes"), errors);
        }
        pod_conditions(conditions, &path.of("onPodConditions"), errors);
        match (codes.is_object(), conditions.is_empty()) {
            (true, false) => errors.invalid_unshown(
                &path,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, true) => {
                errors.invalid_unshown(&path, "specifying one of OnExitCodes and OnPodConditions is required")
            }
            _ => {}
        }
    }
}

fn pod_conditions(conditions: &[Value], list: &Path, errors: &mut Errors) {
    if conditions.len() > CONDITIONS_MAX {
        errors.too_many(list, conditions.len(), CONDITIONS_MAX);
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let path = list.at(i);
        let kind = pattern.text("type");
        errors.all(&path.of("type"), kind, names::qualified_name(kind));
        needed_choice(
            pattern.text("status"),
            &["False", "True", "Unknown"],
            &path.of("status"),
            errors,
        );
    }
}

fn exit_codes(spec: &Value, codes: &Value, path: &Path, errors: &mut Errors) {
    let operator = codes.text("operator");
    needed_choice(operator, &["In", "NotIn"], &path.of("operator"), errors);
    if let Some(name) = codes.get("containerName").and_then(Value::as_str) {
        let known = ["containers", "initContainers"]
            .iter()
            .flat_map(|l| spec.at("template.spec").items(l))
            .any(|c| c.text("name") == name);
        if !known {
            errors.invalid(
                &path.of("containerName"),
                name,
                "must be one of the container or initContainer names in the pod template",
            );
        }
    }
    let values: Vec<i64> = codes.items("values").iter().map(|v| v.as_i64().unwrap_or(0)).collect();
    let list = path.of("values");
    if values.is_empty() {
        errors.invalid(&list, codes.at("values").clone(), "at least one value is required");
    } else if values.len() > EXIT_CODES_MAX {
        errors.too_many(&list, values.len(), EXIT_CODES_MAX);
    }
    let mut seen = BTreeSet::new();
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            errors.invalid(&list.at(i), 0, "must not be 0 for the In operator");
        }
        if !seen.insert(value) {
            errors.duplicate(&list.at(i), *value);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&list, codes.at("values").clone(), "must be ordered");
    }
}

fn success_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    if spec.text("completionMode") != "Indexed" {
        errors.invalid(
            path,
            spec.at("successPolicy").clone(),
            "requires indexed completion mode",
        );
        return;
    }
    let rules = spec.items("successPolicy.rules");
    let list = path.of("rules");
    if rules.is_empty() {
        errors.required(
            &list,
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    if rules.len() > RULES_MAX {
        errors.too_many(&list, rules.len(), RULES_MAX);
    }
    let completions = spec.int("completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let path = list.at(i);
        let (count, indexes) = (
            rule.int("succeededCount"),
            rule.get("succeededIndexes").and_then(Value::as_str),
        );
        if count.is_none() && indexes.is_none() {
            errors.required(
                &path,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        let mut named = 0;
        if let Some(text) = indexes {
            let at = path.of("succeededIndexes");
            if text.len() > INDEXES_CHARS_MAX {
                errors.too_long(&at, INDEXES_CHARS_MAX);
            }
            match indexes::count(text, completions) {
                Ok(n) => named = n,
                Err(why) => errors.invalid(&at, text, &format!("error parsing succeededIndexes: {why}")),
            }
        }
        if let Some(count) = count {
            let at = path.of("succeededCount");
            errors.non_negative(rule, &path, "succeededCount");
            if count > completions {
                let text = format!("must be less than or equal to {completions} (the number of specified completions)");
                errors.invalid(&at, count, &text);
            }
            if indexes.is_some() && count > named {
                let text = format!(
                    "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
                );
                errors.invalid(&at, count, &text);
            }
        }
    }
}
