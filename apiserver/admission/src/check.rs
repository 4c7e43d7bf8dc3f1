//! Whether the expressions of a webhook configuration or policy compile, told
//! to who writes it.

use crate::expressions::{ALL, Having, compile, env};
use crate::mutate::{mutation_env, mutation_output};
use crate::policy::messages_env;
use serde_json::Value;
use skiff_api::FieldError;
use skiff_cel::{Env, Type};

/// As many errors as are told, as for all objects.
const ERRORS_MAX: usize = 100;

/// The faults of the expressions of an object of `kind`. Match conditions that an
/// update leaves alone are not looked at again.
pub fn expression_errors(kind: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut faults = Faults(Vec::new());
    match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => webhooks(object, old, &mut faults),
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => policy(kind, object, old, &mut faults),
        _ => {}
    }
    faults.0
}

struct Faults(Vec<FieldError>);

impl Faults {
    /// Compiles what is at `key`; an expression that is missing is told of elsewhere.
    fn look(&mut self, parent: &Value, path: &str, key: &str, env: &Env, outputs: &[Type]) {
        let expression = parent[key].as_str().unwrap_or("");
        self.compile(expression, expression, &format!("{path}.{key}"), env, outputs);
    }

    fn compile(&mut self, expression: &str, shown: &str, path: &str, env: &Env, outputs: &[Type]) {
        if expression.trim().is_empty() || self.0.len() >= ERRORS_MAX {
            return;
        }
        if let Err(why) = compile(env, expression, outputs) {
            self.0.push(FieldError::invalid(path, &Value::from(shown), &why));
        }
    }
}

fn list<'a>(parent: &'a Value, key: &str) -> &'a [Value] {
    parent[key].as_array().map_or(&[], Vec::as_slice)
}

fn conditions(parent: &Value, path: &str, env: &Env, faults: &mut Faults) {
    for (i, condition) in list(parent, "matchConditions").iter().enumerate() {
        let expression = condition["expression"].as_str().unwrap_or("").trim();
        let path = format!("{path}.matchConditions[{i}].expression");
        faults.compile(expression, expression, &path, env, &[Type::Bool]);
    }
}

fn webhooks(object: &Value, old: Option<&Value>, faults: &mut Faults) {
    let (new, old) = (list(object, "webhooks"), old.map(|old| list(old, "webhooks")));
    let same = |old: &[Value]| {
        old.len() == new.len()
            && new
                .iter()
                .zip(old)
                .all(|(a, b)| a["matchConditions"] == b["matchConditions"])
    };
    if old.is_some_and(same) || new.iter().all(|hook| list(hook, "matchConditions").is_empty()) {
        return;
    }
    let env = env(Having { params: false, ..ALL });
    for (i, hook) in new.iter().enumerate() {
        conditions(hook, &format!("webhooks[{i}]"), &env, faults);
    }
}

fn policy(kind: &str, object: &Value, old: Option<&Value>, faults: &mut Faults) {
    let spec = &object["spec"];
    let having = Having {
        params: spec["paramKind"].is_object(),
        ..ALL
    };
    let plain = env(having);
    let same = |old: &Value| {
        old["spec"]["matchConditions"] == spec["matchConditions"] && old["spec"]["paramKind"] == spec["paramKind"]
    };
    if !old.is_some_and(same) {
        conditions(spec, "spec", &plain, faults);
    }
    if kind == "MutatingAdmissionPolicy" {
        let env = variables(spec, mutation_env(having), faults);
        for (i, mutation) in list(spec, "mutations").iter().enumerate() {
            for (kind, key) in [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")] {
                if mutation["patchType"] == kind {
                    let path = format!("spec.mutations[{i}].{key}");
                    faults.look(&mutation[key], &path, "expression", &env, &[mutation_output(kind)]);
                }
            }
        }
        return;
    }
    let env = variables(spec, plain, faults);
    let messages = messages_env(spec, having);
    for (i, validation) in list(spec, "validations").iter().enumerate() {
        let path = format!("spec.validations[{i}]");
        faults.look(validation, &path, "expression", &env, &[Type::Bool]);
        faults.look(validation, &path, "messageExpression", &messages, &[Type::String]);
    }
    for (i, annotation) in list(spec, "auditAnnotations").iter().enumerate() {
        let shown = annotation["valueExpression"].as_str().unwrap_or("");
        let path = format!("spec.auditAnnotations[{i}].valueExpression");
        faults.compile(shown.trim(), shown, &path, &env, &[Type::String, Type::Null]);
    }
}

fn variables(spec: &Value, mut env: Env, faults: &mut Faults) -> Env {
    for (i, variable) in list(spec, "variables").iter().enumerate() {
        let expression = variable["expression"].as_str().unwrap_or("");
        match env.compile(expression) {
            Ok(program) => env = env.composed(variable["name"].as_str().unwrap_or(""), &program),
            Err(_) => faults.look(variable, &format!("spec.variables[{i}]"), "expression", &env, &[]),
        }
    }
    env
}
