//! Checks the expressions of a validating policy against the types that it is
//! about. What is found are warnings for its author: the policy works regardless.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking>.

use crate::expressions::{ALL, Having, env};
use serde_json::{Value, json};
use skiff_cel::{DeclType, Env};

/// Types that one policy is checked against, as upstream.
const TYPES_MAX: usize = 10;

/// Group, version and resource of each type that a policy names; one that takes all of
/// something names none.
pub fn types_to_check(policy: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for rule in list(&policy["spec"]["matchConstraints"], "resourceRules") {
        let texts = |key: &str| -> Vec<&str> {
            let mut texts: Vec<&str> = list(rule, key).iter().filter_map(Value::as_str).collect();
            texts.sort_unstable();
            texts
        };
        let (groups, versions) = (texts("apiGroups"), texts("apiVersions"));
        if groups.iter().chain(&versions).any(|text| text.contains('*')) {
            continue;
        }
        let resources = texts("resources");
        let resources: Vec<&str> = resources.into_iter().filter(|r| !r.contains(['*', '/'])).collect();
        for group in &groups {
            for version in &versions {
                for resource in &resources {
                    let named = (group.to_string(), version.to_string(), resource.to_string());
                    if !found.contains(&named) {
                        found.push(named);
                    }
                    if found.len() == TYPES_MAX {
                        return found;
                    }
                }
            }
        }
    }
    found
}

/// A type as warnings name it (`apps/v1, Kind=Deployment`), and what expressions see of it.
#[derive(Debug)]
pub struct Checked {
    pub name: String,
    pub decl: DeclType,
}

/// `status.typeChecking.expressionWarnings`, for types in the order of their names.
pub fn type_warnings(policy: &Value, types: &[Checked], params: Option<&DeclType>) -> Vec<Value> {
    let spec = &policy["spec"];
    let envs: Vec<(&str, Env)> = types
        .iter()
        .map(|ty| (ty.name.as_str(), typed(spec, ty, params)))
        .collect();
    let mut warnings = Vec::new();
    for (i, validation) in list(spec, "validations").iter().enumerate() {
        for key in ["expression", "messageExpression"] {
            let Some(expression) = validation[key].as_str().filter(|text| !text.is_empty()) else {
                continue;
            };
            let texts: Vec<String> = envs
                .iter()
                .filter_map(|(name, env)| Some(format!("{name}: {}\n", env.compile(expression).err()?)))
                .collect();
            if !texts.is_empty() {
                let place = format!("spec.validations[{i}].{key}");
                warnings.push(json!({"fieldRef": place, "warning": texts.join("\n")}));
            }
        }
    }
    warnings
}

fn typed(spec: &Value, ty: &Checked, params: Option<&DeclType>) -> Env {
    let mut env = env(Having { params: false, ..ALL })
        .variable("object", ty.decl.clone())
        .variable("oldObject", ty.decl.clone());
    if let Some(params) = params {
        env = env.variable("params", params.clone());
    }
    for variable in list(spec, "variables") {
        if let Ok(program) = env.compile(variable["expression"].as_str().unwrap_or("")) {
            env = env.composed(variable["name"].as_str().unwrap_or(""), &program);
        }
    }
    env
}

fn list<'a>(parent: &'a Value, key: &str) -> &'a [Value] {
    parent[key].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_name_the_type_and_the_place() {
        let rule =
            json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "deployments/scale"]});
        let any = json!({"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"]});
        let policy = json!({"spec": {"matchConstraints": {"resourceRules": [any, rule]},
            "variables": [{"name": "n", "expression": "object.spec.replicas"}],
            "validations": [{"expression": "variables.n > '1'"}, {"expression": "object.replicas > 1", "messageExpression": "'ok'"},
                {"expression": "object.spec.replicas > 1"}]}});
        assert_eq!(
            types_to_check(&policy),
            [("apps".to_string(), "v1".to_string(), "deployments".to_string())]
        );
        let types = [Checked {
            name: "apps/v1, Kind=Deployment".into(),
            decl: DeclType::of_builtin("apps", "v1", "Deployment").unwrap(),
        }];
        assert_eq!(
            type_warnings(&policy, &types, None),
            [
                json!({"fieldRef": "spec.validations[0].expression", "warning":
                    "apps/v1, Kind=Deployment: ERROR: <input>:1:13: found no matching overload for '_>_' applied to \
                     '(int, string)'\n | variables.n > '1'\n | ............^\n"}),
                json!({"fieldRef": "spec.validations[1].expression", "warning":
                    "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n"}),
            ]
        );
    }
}
