//! What mutating policies make of an object: apply configurations, merged as
//! server-side apply does and owned by nobody, and JSON patches.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>.

use crate::expressions::{Budget, Failure, Having, OUT_OF_BUDGET, Variables, compile, env, request_value, resource_of};
use crate::hook::FailurePolicy;
use crate::params;
use crate::policy::{Binding, Policy, read};
use crate::request::{Form, Objects, Request};
use crate::validate::{World, namespace};
use serde_json::{Value, json};
use skiff_api::{ApiError, patch};
use skiff_cel::{DeclType, Env, Field, ObjectType, Program, RUNTIME_BUDGET, Type, Value as Cel};
use std::borrow::Cow;
use std::sync::Arc;

/// What a MutatingAdmissionPolicy does.
#[derive(Debug)]
pub struct Mutations {
    steps: Vec<Mutation>,
    reinvoked: bool,
}

#[derive(Debug)]
struct Mutation {
    /// An apply configuration; else a JSON patch.
    applies: bool,
    expression: String,
    program: Result<Program, String>,
}

fn json_patch_type() -> ObjectType {
    let field = |name: &str, decl: DeclType| Field {
        name: name.to_string(),
        decl,
        required: false,
    };
    let text = || DeclType::string(None);
    ObjectType::new(
        "JSONPatch",
        [
            field("op", text()),
            field("path", text()),
            field("from", text()),
            field("value", DeclType::dynamic()),
        ],
    )
}

/// The variables of mutations, and the types that they make.
pub(crate) fn mutation_env(having: Having) -> Env {
    env(having).open_object("Object").object(Arc::new(json_patch_type()))
}

/// What the expression of a mutation of this patch type must give.
pub(crate) fn mutation_output(patch_type: &str) -> Type {
    match patch_type {
        "ApplyConfiguration" => Type::Object(Arc::new(ObjectType::new("Object", []))),
        _ => Type::list(Type::Object(Arc::new(json_patch_type()))),
    }
}

/// MutatingAdmissionPolicies with their bindings.
pub fn mutating_policies(policies: &[Arc<Value>], bindings: &[Arc<Value>]) -> Vec<Policy<Mutations>> {
    read(policies, bindings, mutation_env, |spec, env, _| Mutations {
        steps: spec["mutations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|mutation| {
                let kind = mutation["patchType"].as_str().unwrap_or("");
                let applies = kind == "ApplyConfiguration";
                let key = if applies { "applyConfiguration" } else { "jsonPatch" };
                let expression = mutation[key]["expression"].as_str().unwrap_or("").to_string();
                Mutation {
                    applies,
                    program: compile(env, &expression, &[mutation_output(kind)]),
                    expression,
                }
            })
            .collect(),
        reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
    })
}

/// One policy under one binding with one parameter, which a request meets.
#[derive(Debug)]
pub struct Invocation<'p, 'r> {
    policy: &'p Policy<Mutations>,
    binding: &'p Binding,
    param: Value,
    /// The form of the object that the policy takes.
    pub form: Form<'r>,
}

/// A policy that cannot do its work; counts as its failure policy says.
#[derive(Debug)]
pub struct PolicyFailure {
    counts: bool,
    message: String,
    reason: &'static str,
}

fn failure(policy: &Policy<Mutations>, binding: Option<&Binding>, why: &str, reason: &'static str) -> PolicyFailure {
    let name = &policy.name;
    PolicyFailure {
        counts: policy.failure_policy == FailurePolicy::Fail,
        message: match binding {
            Some(binding) => format!("policy '{name}' with binding '{}' denied request: {why}", binding.name),
            None => format!("policy '{name}' denied request: {why}"),
        },
        reason,
    }
}

/// The refusal that failures amount to, if any counts.
pub fn mutation_refusal(failures: &[PolicyFailure], request: &Request<'_>, name: &str) -> Option<ApiError> {
    let counted: Vec<&PolicyFailure> = failures.iter().filter(|failure| failure.counts).collect();
    let first = counted.first()?;
    let resource = request.form.resource;
    let mut error = ApiError::forbidden(resource.group, resource.resource, name, "");
    error.message = first.message.clone();
    if !first.reason.is_empty() {
        error.reason = Cow::Borrowed(first.reason);
    }
    if let Some(details) = &mut error.details {
        details["causes"] = counted
            .iter()
            .map(|failure| json!({"message": failure.message}))
            .collect();
    }
    Some(error)
}

/// Which policies a request meets, and what could not be told.
pub fn invocations<'p, 'r>(
    policies: &'p [Policy<Mutations>],
    request: &Request<'r>,
    objects: Objects<'_>,
    world: &World<'_>,
) -> (Vec<Invocation<'p, 'r>>, Vec<PolicyFailure>) {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for policy in policies {
        let mut fail = |binding: Option<&Binding>, why: &str| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            failures.push(failure(
                policy,
                binding,
                &format!("failed to configure {what}: {why}"),
                "",
            ));
        };
        let form = match policy.constraints.meets(request, objects, world.cluster) {
            Ok(Some(form)) => form,
            Ok(None) => continue,
            Err(error) => {
                fail(None, &error.message);
                continue;
            }
        };
        let unknown = |kind: &&params::ParamKind| world.params.namespaced(kind).is_none();
        if let Some(kind) = policy.param_kind.as_ref().filter(unknown) {
            fail(
                None,
                &format!("failed to find resource referenced by paramKind: '{kind}'"),
            );
            continue;
        }
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
                    fail(Some(binding), &error.message);
                    continue;
                }
            }
            let (kind, reference) = (policy.param_kind.as_ref(), binding.param_ref.as_ref());
            match params::collect(kind, reference, request.namespace, world.params) {
                Ok(params) => found.extend(params.into_iter().map(|param| Invocation {
                    policy,
                    binding,
                    param,
                    form,
                })),
                Err(why) => fail(Some(binding), &why),
            }
        }
    }
    (found, failures)
}

/// How an apply configuration is merged into an object of the form that is asked about.
pub trait Merge: Sync {
    /// `Err` says why it cannot be.
    fn merge(&self, form: &Form<'_>, live: &Value, configuration: Value) -> Result<Value, String>;
    /// The object with what its type does not know dropped, and defaults set.
    fn settle(&self, form: &Form<'_>, object: Value) -> Result<Value, String>;
}

impl Invocation<'_, '_> {
    /// Tells it from all others of the request.
    pub fn id(&self) -> String {
        let of_param = |key: &str| self.param["metadata"][key].as_str().unwrap_or("");
        format!(
            "policy {}/{}/{}/{}",
            self.policy.name,
            self.binding.name,
            of_param("namespace"),
            of_param("name")
        )
    }

    pub fn reinvoked(&self) -> bool {
        self.policy.body.reinvoked
    }

    /// What the policy makes of an object shown in its form: `None` where its
    /// conditions leave it out. Steps that fail are told of; the others take effect.
    pub fn mutate(
        &self,
        request: &Request<'_>,
        shown: Objects<'_>,
        world: &World<'_>,
        merging: &dyn Merge,
        failures: &mut Vec<PolicyFailure>,
    ) -> Result<Option<Value>, ApiError> {
        let policy = self.policy;
        let asked = request_value(request, &self.form);
        let namespace = namespace(request, world)?;
        let variables = Variables {
            request: &asked,
            object: shown.object,
            old: shown.old,
            params: &self.param,
            namespace: &namespace,
            authorizer: world.authorizer,
            resource: resource_of(request),
        };
        match policy.conditions.hold(&variables, policy.failure_policy) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(why) => {
                failures.push(failure(policy, Some(self.binding), &why, "Invalid"));
                return Ok(None);
            }
        }
        let mut object = shown.object.clone();
        for step in &policy.body.steps {
            // There is nothing to change in a deletion.
            if object.is_null() {
                break;
            }
            let made = self.step(step, &variables.about(&object), &object, merging);
            match made {
                Ok(new) => object = new,
                Err(why) => failures.push(failure(policy, Some(self.binding), &why, "Invalid")),
            }
        }
        Ok(Some(object))
    }

    fn step(
        &self,
        step: &Mutation,
        variables: &Variables<'_>,
        object: &Value,
        merging: &dyn Merge,
    ) -> Result<Value, String> {
        let mut bindings = variables.bind();
        for (name, program) in &self.policy.variables {
            if let Ok(program) = program {
                bindings.variable_of(name, program);
            }
        }
        let value = Budget::new(RUNTIME_BUDGET)
            .evaluate(&step.expression, &step.program, &bindings)
            .map_err(|failure| match failure {
                Failure::Expression(why) => why,
                Failure::OutOfBudget => OUT_OF_BUDGET.to_string(),
            })?;
        let new = if step.applies {
            value
                .check_places("Object")
                .map_err(|why| format!("type mismatch: {why}"))?;
            let mut configuration = value.to_json().map_err(|error| error.to_string())?;
            for key in ["apiVersion", "kind"] {
                configuration[key] = object[key].clone();
            }
            merging
                .merge(&self.form, object, configuration)
                .map_err(|why| format!("error applying patch: {why}"))?
        } else {
            json_patched(&value, object)?
        };
        merging.settle(&self.form, new)
    }
}

fn json_patched(value: &Cel<'_>, object: &Value) -> Result<Value, String> {
    let operations = value.to_json().map_err(|error| error.to_string())?;
    let mut new = object.clone();
    patch::json_patch(&mut new, operations.to_string().as_bytes()).map_err(|error| {
        let cause = error.details.as_ref().map(|details| &details["causes"][0]["message"]);
        let why = cause.and_then(Value::as_str).unwrap_or(&error.message);
        format!("JSON Patch: {why}")
    })?;
    Ok(new)
}
