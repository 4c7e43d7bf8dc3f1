//! What validating policies say of a request.

use crate::expressions::{Budget, Failure, OUT_OF_BUDGET, Variables, namespace_of, request_value, resource_of};
use crate::hook::FailurePolicy;
use crate::params::{self, ParamSource};
use crate::policy::{Binding, Policy, Validation, Validations};
use crate::request::{Form, Objects, Request};
use serde_json::{Value, json};
use skiff_access::Objects as Cluster;
use skiff_api::ApiError;
use skiff_cel::{Authorizer, Bindings, RUNTIME_BUDGET, Value as Cel};
use std::borrow::Cow;

/// Longest message that an expression may give, in bytes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// Longest value of an audit annotation, in bytes.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;

/// What policies ask of the server.
pub struct World<'a> {
    pub cluster: &'a dyn Cluster,
    pub params: &'a dyn ParamSource,
    pub authorizer: &'a (dyn Authorizer + 'a),
}

/// The objects of a request as one of its forms shows them; the caller converts.
#[derive(Debug)]
pub struct Shown<'a> {
    pub form: Form<'a>,
    pub object: Value,
    pub old: Value,
}

/// The forms in which policies want the objects of a request.
pub fn forms_met<'r, T>(
    policies: &[Policy<T>],
    request: &Request<'r>,
    objects: Objects<'_>,
    cluster: &dyn Cluster,
) -> Vec<Form<'r>> {
    let mut forms: Vec<Form<'r>> = Vec::new();
    for policy in policies {
        if let Ok(Some(form)) = policy.constraints.meets(request, objects, cluster)
            && !forms.contains(&form)
        {
            forms.push(form);
        }
    }
    forms
}

/// What came of it all.
#[derive(Debug, Default)]
pub struct Findings {
    pub warnings: Vec<String>,
    /// Key and value.
    pub audit_annotations: Vec<(String, String)>,
    denied: Vec<Denied>,
}

#[derive(Debug, PartialEq)]
struct Denied {
    message: String,
    reason: String,
}

/// One decision of a policy under a binding.
struct Decision {
    /// `None`: the policy's own fault, which its failure policy counts as a refusal.
    reason: Option<String>,
    message: String,
}

impl Findings {
    /// The refusal of the request, if it is refused: the first one counts.
    pub fn refusal(&self, request: &Request<'_>, name: &str) -> Option<ApiError> {
        let denied = self.denied.first()?;
        let resource = request.form.resource;
        let mut error = ApiError::forbidden(resource.group, resource.resource, name, &denied.message);
        let reason = if denied.reason.is_empty() {
            "Invalid"
        } else {
            &denied.reason
        };
        error.code = match reason {
            "Forbidden" => 403,
            "Unauthorized" => 401,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        error.reason = Cow::Owned(reason.to_string());
        if let Some(details) = &mut error.details {
            details["causes"] = json!([{"message": denied.message}]);
        }
        Some(error)
    }

    fn deny(&mut self, policy: &str, binding: Option<&Binding>, message: &str, reason: &str) {
        let with = binding.map_or(String::new(), |binding| format!(" with binding '{}'", binding.name));
        self.denied.push(Denied {
            message: format!("ValidatingAdmissionPolicy '{policy}'{with} denied request: {message}"),
            reason: reason.to_string(),
        });
    }
}

/// Asks every policy that the request meets. `shown` has the forms of [`forms_met`].
pub fn validate(
    policies: &[Policy<Validations>],
    request: &Request<'_>,
    objects: Objects<'_>,
    shown: &[Shown<'_>],
    world: &World<'_>,
) -> Result<Findings, ApiError> {
    let mut findings = Findings::default();
    for policy in policies {
        let met = policy.constraints.meets(request, objects, world.cluster);
        let form = match met {
            Ok(Some(form)) => form,
            Ok(None) => continue,
            Err(error) => {
                misconfigured(&mut findings, policy, None, &error.message);
                continue;
            }
        };
        if let Some(kind) = policy
            .param_kind
            .as_ref()
            .filter(|kind| world.params.namespaced(kind).is_none())
        {
            let why = format!("failed to find resource referenced by paramKind: '{kind}'");
            misconfigured(&mut findings, policy, None, &why);
            continue;
        }
        let Some(shown) = shown.iter().find(|shown| shown.form == form) else {
            continue;
        };
        ask(policy, request, shown, objects, world, &mut findings)?;
    }
    Ok(findings)
}

fn misconfigured(findings: &mut Findings, policy: &Policy<Validations>, binding: Option<&Binding>, why: &str) {
    if policy.failure_policy == FailurePolicy::Fail {
        let what = if binding.is_some() { "binding" } else { "policy" };
        findings.deny(&policy.name, binding, &format!("failed to configure {what}: {why}"), "");
    }
}

/// One policy, under each of its bindings, with each of their parameters.
fn ask(
    policy: &Policy<Validations>,
    request: &Request<'_>,
    shown: &Shown<'_>,
    objects: Objects<'_>,
    world: &World<'_>,
    findings: &mut Findings,
) -> Result<(), ApiError> {
    let mut seen = None;
    let mut annotations: Vec<(String, Vec<String>)> = Vec::new();
    for binding in &policy.bindings {
        let met = binding
            .constraints
            .as_ref()
            .map_or(Ok(Some(request.form)), |constraints| {
                constraints.meets(request, objects, world.cluster)
            });
        match met {
            Ok(Some(_)) => {}
            Ok(None) => continue,
            Err(error) => {
                misconfigured(findings, policy, Some(binding), &error.message);
                continue;
            }
        }
        let found = params::collect(
            policy.param_kind.as_ref(),
            binding.param_ref.as_ref(),
            request.namespace,
            world.params,
        );
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                misconfigured(findings, policy, Some(binding), &why);
                continue;
            }
        };
        let (asked, namespace) = match &mut seen {
            Some(seen) => seen,
            seen => seen.insert((request_value(request, &shown.form), namespace(request, world)?)),
        };
        for param in &found {
            let variables = Variables {
                request: asked,
                object: &shown.object,
                old: &shown.old,
                params: param,
                namespace,
                authorizer: world.authorizer,
                resource: resource_of(request),
            };
            let (decisions, notes) = evaluate(policy, &variables);
            for (index, decision) in decisions.into_iter().enumerate() {
                let Some(decision) = decision else { continue };
                act(policy, binding, index, &decision, findings);
            }
            for (key, note) in notes {
                match note {
                    Ok(value) => note_down(&mut annotations, key, value),
                    Err(why) => findings.deny(&policy.name, Some(binding), &why, ""),
                }
            }
        }
    }
    for (key, values) in annotations {
        findings
            .audit_annotations
            .push((format!("{}/{key}", policy.name), values.join(", ")));
    }
    Ok(())
}

/// The namespace of the request as expressions see it.
pub(crate) fn namespace(request: &Request<'_>, world: &World<'_>) -> Result<Value, ApiError> {
    let kind = request.form.kind;
    let is_namespace = (kind.group, kind.kind) == ("", "Namespace");
    if request.namespace.is_empty() || is_namespace {
        return Ok(namespace_of(None));
    }
    let found = world.cluster.get("", "namespaces", "", request.namespace);
    let found = found.ok_or_else(|| ApiError::not_found("", "namespaces", request.namespace))?;
    Ok(namespace_of(Some(&found)))
}

fn note_down(annotations: &mut Vec<(String, Vec<String>)>, key: String, value: String) {
    match annotations.iter_mut().find(|(known, _)| *known == key) {
        Some((_, values)) if values.contains(&value) => {}
        Some((_, values)) => values.push(value),
        None => annotations.push((key, vec![value])),
    }
}

fn act(policy: &Policy<Validations>, binding: &Binding, index: usize, decision: &Decision, findings: &mut Findings) {
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => {
                let reason = decision.reason.as_deref().unwrap_or("");
                findings.deny(&policy.name, Some(binding), &decision.message, reason);
            }
            "Warn" => findings.warnings.push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                policy.name, binding.name, decision.message
            )),
            _ => findings.audit_annotations.push((
                "validation.policy.admission.k8s.io/validation_failure".to_string(),
                json!([{"message": decision.message, "policy": policy.name, "binding": binding.name,
                    "expressionIndex": index, "validationActions": binding.actions}])
                .to_string(),
            )),
        }
    }
}

type Notes = Vec<(String, Result<String, String>)>;

/// All validations of a policy over one set of variables; `None` where one holds.
fn evaluate(policy: &Policy<Validations>, variables: &Variables<'_>) -> (Vec<Option<Decision>>, Notes) {
    let fault =
        |message: String| (policy.failure_policy == FailurePolicy::Fail).then_some(Decision { reason: None, message });
    match policy.conditions.hold(variables, policy.failure_policy) {
        Ok(true) => {}
        Ok(false) => return (Vec::new(), Vec::new()),
        Err(why) => return (vec![fault(why)], Vec::new()),
    }
    let mut bindings = variables.bind();
    for (name, program) in &policy.variables {
        if let Ok(program) = program {
            bindings.variable_of(name, program);
        }
    }
    let mut budget = Budget::new(RUNTIME_BUDGET);
    let mut held = Vec::new();
    for rule in &policy.body.rules {
        match budget.evaluate(&rule.expression, &rule.program, &bindings) {
            Err(Failure::OutOfBudget) => return (vec![fault(OUT_OF_BUDGET.into())], Vec::new()),
            other => held.push(other),
        }
    }
    let mut decisions = Vec::new();
    let mut spent = None;
    for (rule, value) in policy.body.rules.iter().zip(held) {
        decisions.push(match value {
            Err(Failure::Expression(why)) => fault(why),
            Err(Failure::OutOfBudget) => fault(OUT_OF_BUDGET.into()),
            Ok(value) if value.as_bool() == Some(true) => None,
            Ok(_) => match message(rule, &bindings, &mut budget, &mut spent) {
                Ok(message) => Some(Decision {
                    reason: Some(
                        if rule.reason.is_empty() {
                            "Invalid"
                        } else {
                            &rule.reason
                        }
                        .to_string(),
                    ),
                    message,
                }),
                Err(why) => fault(why),
            },
        });
    }
    (decisions, notes(policy, &bindings))
}

/// What is said of a validation that does not hold: what its expression gives if
/// that is usable, else its text, else the expression itself.
fn message<'a>(
    rule: &'a Validation,
    bindings: &Bindings<'a>,
    budget: &mut Budget,
    spent: &mut Option<()>,
) -> Result<String, String> {
    if let Some((expression, program)) = &rule.message_expression {
        match budget.evaluate(expression, program, bindings) {
            Ok(value) => {
                let text = value.as_str().unwrap_or("").trim();
                if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
                    return Ok(text.to_string());
                }
            }
            Err(Failure::OutOfBudget) => *spent = Some(()),
            Err(Failure::Expression(_)) => {}
        }
    }
    if spent.is_some() {
        return Err(format!("failed messageExpression: {OUT_OF_BUDGET}"));
    }
    Ok(if rule.message.is_empty() {
        format!("failed expression: {}", rule.expression.trim())
    } else {
        rule.message.clone()
    })
}

/// Audit annotations; `Err` refuses the request.
fn notes<'a>(policy: &'a Policy<Validations>, bindings: &Bindings<'a>) -> Notes {
    let mut budget = Budget::new(RUNTIME_BUDGET);
    let mut notes = Vec::new();
    let strict = policy.failure_policy == FailurePolicy::Fail;
    for annotation in &policy.body.annotations {
        let value = match budget.evaluate(&annotation.expression, &annotation.program, bindings) {
            Ok(Cel::Null) => continue,
            Ok(value) => match value.as_str() {
                Some(text) if text.trim().is_empty() => continue,
                Some(text) => Ok(cut(text.trim(), ANNOTATION_BYTES_MAX)),
                None => Err(format!(
                    "valueExpression '{}' resulted in unsupported return type. Return type must be either string or null.",
                    annotation.expression
                )),
            },
            Err(_) if !strict => continue,
            Err(Failure::Expression(why)) => Err(why),
            Err(Failure::OutOfBudget) => Err(OUT_OF_BUDGET.to_string()),
        };
        notes.push((annotation.key.clone(), value));
    }
    notes
}

fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_string()
}
