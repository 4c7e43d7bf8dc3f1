//! Environments: which variables and object types an expression may use; and
//! programs, which are expressions compiled in one.

use crate::bindings::Bindings;
use crate::check::{self, Checked};
use crate::cost::{self, Range};
use crate::decl::{DeclType, ObjectType, Shape};
use crate::error::{CompileError, EvalError};
use crate::eval::{Ctx, Evaluated};
use crate::meter::{Limits, Meter};
use crate::node::Node;
use crate::parser;
use crate::plan;
use crate::types::Type;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The variables and types of an expression. The functions are always all of Kubernetes'.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, Variable>,
    objects: BTreeMap<String, Arc<ObjectType>>,
    open: Option<String>,
}

#[derive(Debug, Clone)]
struct Variable {
    decl: DeclType,
    optional: bool,
}

impl Env {
    pub fn new() -> Self {
        Self::default()
    }

    /// A variable of a declared type.
    pub fn variable(mut self, name: &str, decl: DeclType) -> Self {
        let variable = Variable { decl, optional: false };
        self.variables.insert(name.to_string(), variable);
        self
    }

    /// A variable that holds an optional of a declared type.
    pub fn optional_variable(mut self, name: &str, decl: DeclType) -> Self {
        let variable = Variable { decl, optional: true };
        self.variables.insert(name.to_string(), variable);
        self
    }

    /// A variable of any type, checked while evaluating.
    pub fn dynamic(self, name: &str) -> Self {
        self.variable(name, DeclType::dynamic())
    }

    /// A variable of one of the language's or Kubernetes' types.
    pub fn scalar(self, name: &str, ty: Type) -> Self {
        self.variable(name, DeclType::scalar(ty))
    }

    /// `variables.name`, of the output type of the program that it will stand for. See
    /// [`Bindings::variable_of`].
    pub fn composed(self, name: &str, program: &Program) -> Self {
        let mut fields = match self.variables.get("variables").map(|variable| &variable.decl.shape) {
            Some(Shape::Object(object)) => object.own_fields().values().cloned().collect(),
            _ => Vec::new(),
        };
        fields.push(crate::decl::Field {
            name: name.to_string(),
            decl: DeclType::scalar(program.output().clone()),
            required: true,
        });
        let object = ObjectType::new("kubernetes.variables", fields);
        self.variable("variables", DeclType::object(object))
    }

    /// An object type that expressions may make: `Name{field: value}`.
    pub fn object(mut self, object: Arc<ObjectType>) -> Self {
        self.objects.insert(object.name().to_string(), object);
        self
    }

    /// An object type of that name, and one for every path below it (`Object.spec`),
    /// of which any field may be set: what a mutation makes is checked when it is used.
    pub fn open_object(mut self, root: &str) -> Self {
        self.open = Some(root.to_string());
        self
    }

    pub(crate) fn variable_type(&self, name: &str) -> Option<Type> {
        let variable = self.variables.get(name)?;
        let ty = variable.decl.cel_type();
        Some(if variable.optional { Type::optional(ty) } else { ty })
    }

    pub(crate) fn variable_decl(&self, name: &str) -> Option<&DeclType> {
        self.variables.get(name).map(|variable| &variable.decl)
    }

    pub(crate) fn object_type(&self, name: &str) -> Option<Arc<ObjectType>> {
        if let Some(known) = self.objects.get(name) {
            return Some(known.clone());
        }
        let below = name.strip_prefix(self.open.as_deref()?)?;
        (below.is_empty() || below.starts_with('.')).then(|| Arc::new(ObjectType::open(name)))
    }

    /// Parses, checks and plans an expression. What it gives is for the caller to judge:
    /// see [`Program::output`].
    pub fn compile(&self, source: &str) -> Result<Program, CompileError> {
        let (expr, ids) = parser::parse(source).map_err(|issues| CompileError::new(source, issues))?;
        let checked = check::check(self, &expr, ids).map_err(|issues| CompileError::new(source, issues))?;
        let (node, slots) = plan::plan(&expr, &checked).map_err(|issues| CompileError::new(source, issues))?;
        let cost = cost::estimate(self, &expr, &checked);
        let Checked { variables, output, .. } = checked;
        Ok(Program {
            node,
            slots,
            output,
            variables,
            cost,
        })
    }
}

/// A compiled expression: evaluated as often as one likes, from any thread.
#[derive(Debug)]
pub struct Program {
    node: Node,
    slots: usize,
    output: Type,
    variables: BTreeSet<String>,
    cost: Range,
}

/// What an evaluation gave, and what it cost whether it gave a value or not.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub value: Result<Value<'a>, EvalError>,
    pub cost: u64,
}

impl Program {
    /// The type of its values; `dyn` where that shows only while evaluating.
    pub fn output(&self) -> &Type {
        &self.output
    }

    /// Whether it mentions the variable (`oldSelf` makes a rule a transition rule).
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    /// The least and the most it may cost, given the sizes that its variables are declared
    /// with: what the limits on the rules of a custom resource definition are about.
    pub fn cost(&self) -> &Range {
        &self.cost
    }

    pub fn evaluate<'a>(&'a self, bindings: &Bindings<'a>, limits: Limits<'_>) -> Outcome<'a> {
        let meter = Meter::new(limits);
        let value = self.run(&mut Ctx::new(bindings, &meter, self.slots));
        Outcome {
            value,
            cost: meter.spent(),
        }
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn run<'a>(&'a self, ctx: &mut Ctx<'a, '_>) -> Evaluated<'a> {
        ctx.eval(&self.node)
    }
}

#[cfg(test)]
#[path = "env_test.rs"]
mod tests;
