//! Resource quotas and limit ranges.

use super::resources;
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::quantity::{self, Quantity};
use crate::row::{AGE, NAME, cell, text};
use crate::rules::Rules;
use crate::tree::{Tree, each, object, set_default};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) mod resource_quota {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[
        NAME,
        text("Request", "Used of hard, of requests and counts."),
        text("Limit", "Used of hard, of limits."),
        AGE,
    ];

    pub(crate) static STRATEGY: Rules = Rules {
        validate: |o| {
            gather(|errors| {
                let path = Path::new("spec");
                let spec = o.at("spec");
                amounts(spec.at("hard"), &path.of("hard"), errors);
                scopes(spec, &path.of("scopes"), errors);
                if spec.has("scopeSelector") {
                    let at = path.of("scopeSelector");
                    selector(spec, &at.of("matchExpressions"), errors);
                }
            })
        },
        validate_update: |sub, new, old| {
            gather(|errors| match sub {
                "" => {
                    let set = |o: &Value| -> BTreeSet<String> {
                        let scopes = o.items("spec.scopes").iter().filter_map(Value::as_str);
                        scopes.map(str::to_string).collect()
                    };
                    if set(new) != set(old) {
                        errors.invalid(
                            &Path::new("spec.scopes"),
                            new.at("spec.scopes").clone(),
                            crate::check::IMMUTABLE,
                        );
                    }
                }
                "status" => {
                    for list in ["hard", "used"] {
                        let path = Path::new("status");
                        amounts(new.at("status").at(list), &path.of(list), errors);
                    }
                }
                _ => {}
            })
        },
        row: |o, now| {
            let mut parts: [Vec<String>; 2] = Default::default();
            for (name, hard) in o.map("status.hard").into_iter().flatten() {
                let used = o.at("status.used").get(name).and_then(Value::as_str).unwrap_or("0");
                let text = format!("{name}: {used}/{}", hard.as_str().unwrap_or(""));
                parts[usize::from(name.starts_with("limits"))].push(text);
            }
            parts.iter_mut().for_each(|p| p.sort());
            vec![
                cell::name(o),
                parts[0].join(", ").into(),
                parts[1].join(", ").into(),
                cell::age(o, now),
            ]
        },
        ..Rules::STATUS
    };

    fn amounts(list: &Value, path: &Path, errors: &mut Errors) {
        for (name, amount) in list.as_object().into_iter().flatten() {
            let path = path.key(name);
            resources::quota_name(name, &path, errors);
            resources::amount(name, amount, &path, errors);
        }
    }

    const SCOPES: [&str; 7] = [
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "CrossNamespacePodAffinity",
        "VolumeAttributesClass",
    ];

    /// Whether objects that use the resource can be in the scope or out of it.
    fn applies(scope: &str, resource: &str) -> bool {
        let compute = matches!(
            resource,
            "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
        );
        match scope {
            "BestEffort" => resource == "pods",
            "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
            _ if SCOPES.contains(&scope) => resource == "pods" || compute,
            _ => true,
        }
    }

    fn misapplied(spec: &Value, scope: &str) -> usize {
        let hard = spec.map("hard").into_iter().flatten().map(|(k, _)| k.as_str());
        hard.filter(|r| resources::is_standard_quota(r) && !applies(scope, r))
            .count()
    }

    fn conflicting(set: &BTreeSet<&str>) -> usize {
        let pairs = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
        pairs.iter().filter(|(a, b)| set.contains(a) && set.contains(b)).count()
    }

    fn scopes(spec: &Value, path: &Path, errors: &mut Errors) {
        let list = spec.items("scopes");
        let shown = || list.to_vec();
        let set: BTreeSet<&str> = list.iter().filter_map(Value::as_str).collect();
        for scope in list.iter().filter_map(Value::as_str) {
            if !SCOPES.contains(&scope) {
                errors.invalid(path, shown(), "unsupported scope");
            }
            for _ in 0..misapplied(spec, scope) {
                errors.invalid(path, shown(), "unsupported scope applied to resource");
            }
        }
        for _ in 0..conflicting(&set) {
            errors.invalid(path, shown(), "conflicting scopes");
        }
    }

    fn selector(spec: &Value, path: &Path, errors: &mut Errors) {
        const EXISTS: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        let mut set = BTreeSet::new();
        for requirement in spec.items("scopeSelector.matchExpressions") {
            let (scope, operator) = (requirement.text("scopeName"), requirement.text("operator"));
            let values = requirement.items("values");
            if !SCOPES.contains(&scope) {
                errors.invalid(&path.of("scopeName"), scope, "unsupported scope");
            }
            for _ in 0..misapplied(spec, scope) {
                errors.invalid(
                    path,
                    spec.at("scopeSelector").clone(),
                    "unsupported scope applied to resource",
                );
            }
            let by_value = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
            if SCOPES.contains(&scope) && !by_value && operator != "Exists" {
                errors.invalid(&path.of("operator"), operator, EXISTS);
            }
            match operator {
                "In" | "NotIn" if values.is_empty() => errors.required(
                    &path.of("values"),
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                ),
                "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
                    &path.of("values"),
                    values.to_vec(),
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                ),
                "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
                other => errors.invalid(&path.of("operator"), other, "not a valid selector operator"),
            }
            set.insert(scope);
        }
        for _ in 0..conflicting(&set) {
            errors.invalid(path, spec.at("scopes").clone(), "conflicting scopes");
        }
    }
}

pub(super) mod limit_range {
    use super::*;

    pub(crate) use crate::row::DEFAULT_COLUMNS as COLUMNS;

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            let Some(spec) = object(o, "spec") else { return };
            for item in each(spec, "limits").filter(|i| i.text("type") == "Container") {
                container_limits(item);
            }
        },
        validate: |o| {
            gather(|errors| {
                let list = Path::new("spec.limits");
                let mut seen = BTreeSet::new();
                for (i, item) in o.items("spec.limits").iter().enumerate() {
                    let path = list.at(i);
                    kind(item.text("type"), &path.of("type"), errors);
                    if !seen.insert(item.text("type")) {
                        errors.duplicate(&path.of("type"), item.text("type"));
                    }
                    self::item(item, &path, errors);
                }
            })
        },
        ..Rules::BASE
    };

    /// A maximum is the default limit, a default limit the default request.
    fn container_limits(item: &mut Value) {
        for (from, to) in [
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ] {
            let Some(source) = item.get(from).and_then(Value::as_object).cloned() else {
                continue;
            };
            if let Some(target) = object(item, to) {
                source
                    .into_iter()
                    .for_each(|(name, amount)| set_default(target, &name, amount));
            }
        }
    }

    fn kind(text: &str, path: &Path, errors: &mut Errors) {
        let faults = names::qualified_name(text);
        let known = matches!(text, "Pod" | "Container" | "PersistentVolumeClaim");
        if faults.is_empty() && !text.contains('/') && !known {
            errors.invalid(path, text, "must be a standard limit type or fully qualified");
        }
        errors.all(path, text, faults);
    }

    fn item(item: &Value, path: &Path, errors: &mut Errors) {
        let kind = item.text("type");
        let of_pods = matches!(kind, "Pod" | "Container");
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            let Some(amounts) = item.map(list).filter(|m| !m.is_empty()) else {
                continue;
            };
            let at = path.of(list);
            if kind == "Pod" && list.starts_with("default") {
                errors.forbidden(&at, "may not be specified when `type` is 'Pod'");
                continue;
            }
            for name in amounts.keys() {
                if of_pods {
                    resources::container_name(name, &at.key(name), errors);
                } else {
                    resources::name(name, &at.key(name), errors);
                }
                keys.insert(name);
            }
        }
        let bounded = ["min", "max"].iter().any(|l| item.at(l).get("storage").is_some());
        if kind == "PersistentVolumeClaim" && !bounded {
            errors.required(
                &path.of("limits"),
                "either minimum or maximum storage value is required, but neither was provided",
            );
        }
        for key in keys {
            bounds(item, key, path, errors);
            ratio(item, key, path, errors);
        }
    }

    /// A pod has no defaults: what is written there is refused, and compared with nothing.
    fn amount(item: &Value, list: &str, key: &str) -> Option<Quantity> {
        if item.text("type") == "Pod" && list.starts_with("default") {
            return None;
        }
        item.at(list).get(key).and_then(quantity::parse)
    }

    /// min ≤ default request ≤ default ≤ max.
    fn bounds(item: &Value, key: &str, path: &Path, errors: &mut Errors) {
        // Low, high, where the error is shown, whose value it shows.
        const ORDERED: [(&str, &str, &str, &str); 6] = [
            ("min", "max", "min", "min"),
            ("min", "defaultRequest", "defaultRequest", "defaultRequest"),
            ("defaultRequest", "max", "defaultRequest", "defaultRequest"),
            ("defaultRequest", "default", "defaultRequest", "defaultRequest"),
            ("min", "default", "default", "min"),
            ("default", "max", "default", "max"),
        ];
        let title = |list: &str, against: &str| match (list, against) {
            ("defaultRequest", _) => "default request value",
            ("default", "defaultRequest") => "default limit value",
            ("default", _) => "default value",
            ("min", _) => "min value",
            _ => "max value",
        };
        for (low, high, at, shown) in ORDERED {
            let (Some(l), Some(h)) = (amount(item, low, key), amount(item, high, key)) else {
                continue;
            };
            if l > h {
                let text = format!("{} {l} is greater than {} {h}", title(low, high), title(high, low));
                errors.invalid(
                    &path.of(at).key(key),
                    item.at(shown).get(key).cloned().unwrap_or_default(),
                    &text,
                );
            }
        }
        let (limit, request) = (amount(item, "default", key), amount(item, "defaultRequest", key));
        if let (Some(l), Some(r)) = (limit, request)
            && !resources::may_overcommit(key)
            && l != r
        {
            let text = format!("default value {l} must equal to defaultRequest value {r} in {key}");
            errors.invalid(&path.of("defaultRequest").key(key), r.to_string(), &text);
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "upstream compares as floats, and shows the quotient"
    )]
    fn ratio(item: &Value, key: &str, path: &Path, errors: &mut Errors) {
        let Some(ratio) = amount(item, "maxLimitRequestRatio", key) else {
            return;
        };
        let at = path.of("maxLimitRequestRatio");
        if ratio < Quantity::from_units(1) {
            let text = format!("ratio {ratio} is less than 1");
            errors.invalid(&at.key(key), ratio.to_string(), &text);
        }
        if let (Some(min), Some(max)) = (amount(item, "min", key), amount(item, "max", key)) {
            let most = max.milli_value() as f64 / min.milli_value() as f64;
            if ratio.milli_value() as f64 / 1000.0 > most {
                let text = format!("ratio {ratio} is greater than max/min = {most:.6}");
                errors.invalid(&at.key(key), ratio.to_string(), &text);
            }
        }
    }
}
