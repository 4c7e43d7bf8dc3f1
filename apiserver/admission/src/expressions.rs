//! Expressions of admission: which variables they have, what they must give,
//! and evaluation within a budget.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>.

use crate::request::{Form, Request};
use crate::review::request_body;
use serde_json::{Map, Value as Json, json};
use skiff_cel::{
    Authorizer, Bindings, DeclType, Env, EvalError, Field, Limits, ListSemantics, ObjectType, PER_CALL_LIMIT, Program,
    Resource, Type, Value,
};

/// What an evaluation that went beyond its budget is told.
pub(crate) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Which variables there are besides `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Having {
    pub params: bool,
    pub authorizer: bool,
}

pub(crate) const ALL: Having = Having {
    params: true,
    authorizer: true,
};

/// The variables of a policy's or webhook's expressions.
pub(crate) fn env(having: Having) -> Env {
    let mut env = Env::new()
        .dynamic("object")
        .dynamic("oldObject")
        .variable("request", request_type())
        .variable("namespaceObject", namespace_type());
    if having.params {
        env = env.dynamic("params");
    }
    if having.authorizer {
        env = env
            .scalar("authorizer", Type::authorizer())
            .scalar("authorizer.requestResource", Type::resource_check());
    }
    env
}

fn field(name: &str, decl: DeclType, required: bool) -> Field {
    Field {
        name: name.to_string(),
        decl,
        required,
    }
}

fn text() -> DeclType {
    DeclType::string(None)
}

fn texts() -> DeclType {
    DeclType::list(text(), None, ListSemantics::Atomic)
}

fn object(name: &str, fields: Vec<Field>) -> DeclType {
    DeclType::object(ObjectType::new(name, fields))
}

fn required(names: &[&str]) -> Vec<Field> {
    names.iter().map(|name| field(name, text(), true)).collect()
}

fn request_type() -> DeclType {
    let gvk = || object("kubernetes.GroupVersionKind", required(&["group", "version", "kind"]));
    let gvr = || {
        object(
            "kubernetes.GroupVersionResource",
            required(&["group", "version", "resource"]),
        )
    };
    let user = object(
        "kubernetes.UserInfo",
        vec![
            field("username", text(), false),
            field("uid", text(), false),
            field("groups", texts(), false),
            field("extra", DeclType::map(texts(), None), false),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        vec![
            field("kind", gvk(), true),
            field("resource", gvr(), true),
            field("subResource", text(), false),
            field("requestKind", gvk(), true),
            field("requestResource", gvr(), true),
            field("requestSubResource", text(), false),
            field("name", text(), true),
            field("namespace", text(), false),
            field("operation", text(), true),
            field("userInfo", user, true),
            field("dryRun", DeclType::scalar(Type::Bool), false),
            field("options", DeclType::dynamic(), false),
        ],
    )
}

/// Fields that are left out are left out upstream too.
fn namespace_type() -> DeclType {
    let time = || DeclType::scalar(Type::Timestamp);
    let number = || DeclType::scalar(Type::Int);
    let labels = || DeclType::map(text(), None);
    let mut metadata = required(&["name", "generateName", "namespace", "UID", "resourceVersion"]);
    metadata.extend([
        field("labels", labels(), true),
        field("annotations", labels(), true),
        field("creationTimestamp", time(), true),
        field("deletionTimestamp", time(), true),
        field("deletionGracePeriodSeconds", number(), true),
        field("generation", number(), true),
        field("finalizers", texts(), true),
    ]);
    let mut condition = required(&["status", "type", "message", "reason"]);
    condition.push(field("lastTransitionTime", time(), true));
    let conditions = DeclType::list(
        object("kubernetes.NamespaceCondition", condition),
        None,
        ListSemantics::Atomic,
    );
    let mut status = required(&["phase"]);
    status.push(field("conditions", conditions, true));
    object(
        "kubernetes.Namespace",
        vec![
            field("metadata", object("kubernetes.NamespaceMetadata", metadata), true),
            field(
                "spec",
                object("kubernetes.NamespaceSpec", vec![field("finalizers", texts(), true)]),
                true,
            ),
            field("status", object("kubernetes.NamespaceStatus", status), true),
        ],
    )
}

/// Compiles an expression that must give one of these types; none: any. `Err` is
/// what the author of the expression is told.
pub(crate) fn compile(env: &Env, expression: &str, outputs: &[Type]) -> Result<Program, String> {
    let program = env
        .compile(expression)
        .map_err(|error| format!("compilation failed: {error}"))?;
    let got = program.output();
    if outputs.is_empty() || outputs.contains(got) {
        return Ok(program);
    }
    Err(match outputs {
        [one] => format!("must evaluate to {} but got {got}", shown(one)),
        several => {
            let names: Vec<String> = several.iter().map(shown).collect();
            format!("must evaluate to one of [{}] but got {got}", names.join(" "))
        }
    })
}

fn shown(ty: &Type) -> String {
    match ty {
        Type::Null => "null_type".into(),
        ty => ty.to_string(),
    }
}

/// What the variables stand for in one request.
pub(crate) struct Variables<'a> {
    pub request: &'a Json,
    pub object: &'a Json,
    pub old: &'a Json,
    pub params: &'a Json,
    /// As [`namespace_of`] shows it.
    pub namespace: &'a Json,
    pub authorizer: &'a (dyn Authorizer + 'a),
    pub resource: Resource,
}

impl<'a> Variables<'a> {
    /// The same of another object, which may be gone sooner.
    pub fn about<'b>(&self, object: &'b Json) -> Variables<'b>
    where
        'a: 'b,
    {
        Variables {
            object,
            resource: self.resource.clone(),
            ..*self
        }
    }

    pub fn bind(&self) -> Bindings<'a> {
        let mut bindings = Bindings::new();
        bindings
            .json("object", self.object)
            .json("oldObject", self.old)
            .json("request", self.request)
            .json("params", self.params)
            .json("namespaceObject", self.namespace)
            .authorizer("authorizer", self.authorizer)
            .resource_check("authorizer.requestResource", self.authorizer, self.resource.clone());
        bindings
    }
}

/// `request`, for an object that is shown in `form`.
pub(crate) fn request_value(request: &Request<'_>, form: &Form<'_>) -> Json {
    request_body(request, form)
}

/// What `authorizer.requestResource` checks.
pub(crate) fn resource_of(request: &Request<'_>) -> Resource {
    let resource = request.form.resource;
    Resource {
        group: resource.group.to_string(),
        resource: resource.resource.to_string(),
        subresource: request.subresource.to_string(),
        namespace: request.namespace.to_string(),
        name: request.name.to_string(),
        ..Resource::default()
    }
}

/// A Namespace as expressions see it.
pub(crate) fn namespace_of(namespace: Option<&Json>) -> Json {
    let Some(namespace) = namespace else { return Json::Null };
    const METADATA: [&str; 12] = [
        "name",
        "generateName",
        "namespace",
        "labels",
        "annotations",
        "uid",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "resourceVersion",
        "finalizers",
    ];
    let metadata: Map<String, Json> = METADATA
        .iter()
        .filter_map(|key| Some(((*key).to_string(), namespace["metadata"].get(*key)?.clone())))
        .collect();
    json!({"metadata": metadata, "spec": namespace["spec"], "status": namespace["status"]})
}

/// What is left to spend on the expressions of one policy or webhook.
pub(crate) struct Budget(u64);

/// Why an expression gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// This expression's own fault.
    Expression(String),
    /// Nothing more can be evaluated.
    OutOfBudget,
}

impl Budget {
    pub fn new(cost: u64) -> Self {
        Self(cost)
    }

    pub fn evaluate<'a>(
        &mut self,
        expression: &str,
        program: &'a Result<Program, String>,
        bindings: &Bindings<'a>,
    ) -> Result<Value<'a>, Failure> {
        let program = program
            .as_ref()
            .map_err(|why| Failure::Expression(format!("compilation error: {why}")))?;
        let limits = Limits {
            cost: PER_CALL_LIMIT,
            interrupt: None,
        };
        let outcome = program.evaluate(bindings, limits);
        self.0 = self.0.checked_sub(outcome.cost).ok_or(Failure::OutOfBudget)?;
        outcome.value.map_err(|why: EvalError| {
            Failure::Expression(format!("expression '{expression}' resulted in error: {why}"))
        })
    }
}
