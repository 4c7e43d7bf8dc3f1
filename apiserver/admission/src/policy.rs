//! Admission policies with their bindings, read and compiled once per change.

use crate::conditions::Conditions;
use crate::expressions::{ALL, Having, compile, env};
use crate::hook::FailurePolicy;
use crate::matching::Constraints;
use crate::params::{ParamKind, ParamRef};
use serde_json::Value;
use skiff_cel::{Env, Program, Type};
use std::sync::Arc;

/// What validating and mutating policies have in common.
#[derive(Debug)]
pub struct Policy<T> {
    pub name: String,
    pub(crate) constraints: Constraints,
    pub(crate) conditions: Conditions,
    pub(crate) failure_policy: FailurePolicy,
    pub(crate) param_kind: Option<ParamKind>,
    /// In order: each may use those before it.
    pub(crate) variables: Vec<(String, Result<Program, String>)>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) body: T,
}

/// A binding of a policy.
#[derive(Debug)]
pub(crate) struct Binding {
    pub name: String,
    /// `None`: all that the policy takes.
    pub constraints: Option<Constraints>,
    pub param_ref: Option<ParamRef>,
    pub actions: Vec<String>,
}

/// What a ValidatingAdmissionPolicy checks.
#[derive(Debug)]
pub struct Validations {
    pub(crate) rules: Vec<Validation>,
    pub(crate) annotations: Vec<Annotation>,
}

#[derive(Debug)]
pub(crate) struct Validation {
    pub expression: String,
    pub program: Result<Program, String>,
    pub message: String,
    pub message_expression: Option<(String, Result<Program, String>)>,
    pub reason: String,
}

#[derive(Debug)]
pub(crate) struct Annotation {
    pub key: String,
    pub expression: String,
    pub program: Result<Program, String>,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// The expressions of a spec's `variables`, and the environment that has them.
pub(crate) fn variables(spec: &Value, mut env: Env) -> (Vec<(String, Result<Program, String>)>, Env) {
    let mut made = Vec::new();
    for variable in spec["variables"].as_array().into_iter().flatten() {
        let program = compile(&env, text(variable, "expression"), &[]);
        let name = text(variable, "name").to_string();
        if let Ok(program) = &program {
            env = env.composed(&name, program);
        }
        made.push((name, program));
    }
    (made, env)
}

/// Policies by name with the bindings that name them; a policy without a binding does nothing.
pub(crate) fn read<T>(
    policies: &[Arc<Value>],
    bindings: &[Arc<Value>],
    env: impl Fn(Having) -> Env,
    body: impl Fn(&Value, &Env, Having) -> T,
) -> Vec<Policy<T>> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or("").to_string();
    let mut sorted: Vec<&Arc<Value>> = policies.iter().collect();
    sorted.sort_by_key(|policy| name(policy));
    let mut bound: Vec<&Arc<Value>> = bindings.iter().collect();
    bound.sort_by_key(|binding| name(binding));
    let mut made = Vec::new();
    for policy in sorted {
        let of = name(policy);
        let bindings: Vec<Binding> = bound
            .iter()
            .filter(|binding| text(&binding["spec"], "policyName") == of)
            .map(|binding| read_binding(binding, name(binding)))
            .collect();
        if bindings.is_empty() {
            continue;
        }
        let spec = &policy["spec"];
        let param_kind = ParamKind::of(&spec["paramKind"]);
        let having = Having {
            params: param_kind.is_some(),
            ..ALL
        };
        let (variables, env) = variables(spec, env(having));
        made.push(Policy {
            constraints: Constraints::of_resources(&spec["matchConstraints"]),
            conditions: Conditions::of(&spec["matchConditions"], having.params),
            failure_policy: FailurePolicy::of(spec),
            body: body(spec, &env, having),
            name: of,
            param_kind,
            variables,
            bindings,
        });
    }
    made
}

fn read_binding(binding: &Value, name: String) -> Binding {
    let spec = &binding["spec"];
    let actions = spec["validationActions"].as_array().into_iter().flatten();
    Binding {
        name,
        constraints: spec["matchResources"]
            .is_object()
            .then(|| Constraints::of_resources(&spec["matchResources"])),
        param_ref: ParamRef::of(&spec["paramRef"]),
        actions: actions.filter_map(Value::as_str).map(str::to_string).collect(),
    }
}

/// ValidatingAdmissionPolicies with their bindings.
pub fn validating_policies(policies: &[Arc<Value>], bindings: &[Arc<Value>]) -> Vec<Policy<Validations>> {
    read(policies, bindings, env, |spec, env, having| {
        let messages = messages_env(spec, having);
        let rules = spec["validations"].as_array().into_iter().flatten();
        let annotations = spec["auditAnnotations"].as_array().into_iter().flatten();
        Validations {
            rules: rules.map(|rule| read_validation(rule, env, &messages)).collect(),
            annotations: annotations
                .map(|annotation| {
                    let expression = text(annotation, "valueExpression").trim();
                    Annotation {
                        key: text(annotation, "key").to_string(),
                        program: compile(env, expression, &[Type::String, Type::Null]),
                        expression: expression.to_string(),
                    }
                })
                .collect(),
        }
    })
}

/// Messages are made without an authorizer.
pub(crate) fn messages_env(spec: &Value, having: Having) -> Env {
    let bare = env(Having {
        authorizer: false,
        ..having
    });
    // Variables may use it though: their types are taken from where it is known.
    let (made, _) = variables(spec, env(having));
    made.iter().fold(bare, |env, (name, program)| match program {
        Ok(program) => env.composed(name, program),
        Err(_) => env,
    })
}

fn read_validation(rule: &Value, env: &Env, messages: &Env) -> Validation {
    let expression = text(rule, "expression").to_string();
    let message_expression = text(rule, "messageExpression");
    Validation {
        program: compile(env, &expression, &[Type::Bool]),
        expression,
        message: text(rule, "message").trim().to_string(),
        message_expression: (!message_expression.is_empty()).then(|| {
            let program = compile(messages, message_expression, &[Type::String]);
            (message_expression.to_string(), program)
        }),
        reason: text(rule, "reason").to_string(),
    }
}
