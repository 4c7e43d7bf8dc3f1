//! Which objects a quota is about: its scopes. Pure.

use serde_json::Value;

/// Whether the quota's scopes cover the object.
pub(crate) fn matches(quota: &Value, group: &str, plural: &str, object: &Value) -> bool {
    let scopes = quota["spec"]["scopes"].as_array().into_iter().flatten();
    let plain = scopes.filter_map(Value::as_str).all(|scope| {
        let exists = Value::Null;
        covers(scope, "Exists", &exists, group, plural, object)
    });
    let expressions = quota["spec"]["scopeSelector"]["matchExpressions"].as_array();
    plain
        && expressions.into_iter().flatten().all(|e| {
            let scope = e["scopeName"].as_str().unwrap_or("");
            covers(
                scope,
                e["operator"].as_str().unwrap_or(""),
                &e["values"],
                group,
                plural,
                object,
            )
        })
}

fn covers(scope: &str, operator: &str, values: &Value, group: &str, plural: &str, object: &Value) -> bool {
    let spec = &object["spec"];
    if (group, plural) == ("", "persistentvolumeclaims") && scope == "VolumeAttributesClass" {
        // The class it has, the one it asks for, and the one it is on its way to.
        let status = &object["status"];
        let classes = [
            &spec["volumeAttributesClassName"],
            &status["currentVolumeAttributesClassName"],
            &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
        ];
        let mut named = classes
            .iter()
            .filter_map(|c| c.as_str())
            .filter(|c| !c.is_empty())
            .peekable();
        return match named.peek() {
            None => selected("", operator, values),
            Some(_) => named.any(|class| selected(class, operator, values)),
        };
    }
    if (group, plural) != ("", "pods") {
        return false;
    }
    match scope {
        "Terminating" => spec["activeDeadlineSeconds"].is_number(),
        "NotTerminating" => !spec["activeDeadlineSeconds"].is_number(),
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => selected(spec["priorityClassName"].as_str().unwrap_or(""), operator, values),
        "CrossNamespacePodAffinity" => crosses_namespaces(&spec["affinity"]),
        _ => false,
    }
}

fn selected(name: &str, operator: &str, values: &Value) -> bool {
    let listed = values.as_array().is_some_and(|v| v.iter().any(|v| v == name));
    match operator {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => !name.is_empty(),
        "DoesNotExist" => name.is_empty(),
        _ => false,
    }
}

/// No container asks for, or is limited in, processor time or memory.
fn is_best_effort(spec: &Value) -> bool {
    let states = |holder: &Value| {
        ["requests", "limits"].iter().any(|key| {
            let list = super::usage::amounts(&holder["resources"][key]);
            list.iter()
                .any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero())
        })
    };
    let containers = ["containers", "initContainers"];
    !states(spec)
        && !containers
            .iter()
            .flat_map(|list| spec[list].as_array().into_iter().flatten())
            .any(states)
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|n| !n.is_empty()) || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|side| {
        let terms = |key: &str| affinity[side][key].as_array().into_iter().flatten();
        terms("requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || terms("preferredDuringSchedulingIgnoredDuringExecution").any(|t| crosses(&t["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scopes_choose_pods() {
        let best = json!({"spec": {"containers": [{}]}});
        let bound = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high",
            "containers": [{"resources": {"limits": {"cpu": "1"}}}]}});
        let cases = [
            (json!({}), true, true),
            (json!({"scopes": ["BestEffort"]}), true, false),
            (json!({"scopes": ["NotBestEffort", "Terminating"]}), false, true),
            (json!({"scopes": ["NotTerminating"]}), true, false),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
                false,
                true,
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]}}),
                true,
                false,
            ),
        ];
        for (spec, of_best, of_bound) in cases {
            let quota = json!({"spec": spec});
            assert_eq!(matches(&quota, "", "pods", &best), of_best, "{quota}");
            assert_eq!(matches(&quota, "", "pods", &bound), of_bound, "{quota}");
            assert_eq!(
                matches(&quota, "", "secrets", &json!({})),
                spec_is_plain(&quota),
                "{quota}"
            );
        }
    }

    #[test]
    fn claims_count_for_every_class_they_are_between() {
        let of = |operator: &str| {
            let expression = json!({"scopeName": "VolumeAttributesClass", "operator": operator, "values": ["gold"]});
            json!({"spec": {"scopeSelector": {"matchExpressions": [expression]}}})
        };
        let moving = json!({"spec": {"volumeAttributesClassName": "gold"}, "status": {"currentVolumeAttributesClassName": "tin"}});
        let leaving = json!({"spec": {"volumeAttributesClassName": "tin"}, "status": {"currentVolumeAttributesClassName": "gold"}});
        let other = json!({"spec": {"volumeAttributesClassName": "tin"}});
        for (claim, is_in, not_in) in [
            (&moving, true, true),
            (&leaving, true, true),
            (&other, false, true),
            (&json!({"spec": {}}), false, true),
        ] {
            let counts = |operator| matches(&of(operator), "", "persistentvolumeclaims", claim);
            assert_eq!((counts("In"), counts("NotIn")), (is_in, not_in), "{claim}");
        }
    }

    fn spec_is_plain(quota: &Value) -> bool {
        quota["spec"].as_object().is_some_and(serde_json::Map::is_empty)
    }
}
