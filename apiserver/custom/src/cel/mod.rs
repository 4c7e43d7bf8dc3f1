//! Validation rules (`x-kubernetes-validations`): compiled beside the schema, run over
//! the values it describes.
//!
//! A rule that mentions `oldSelf` compares with the value that was there before, and is
//! run only where there is one (or, with `optionalOldSelf`, always). Values of lists are
//! found again by their keys, of maps by their names; see [`crate::validate`] for what
//! an unchanged value is let pass.

mod check;
mod run;

#[cfg(test)]
mod tests;

pub(crate) use check::Costs;
pub use run::blocking;

use crate::check::field_path;
use crate::check::json::Json;
use crate::schema::{Rule, Schema};
use serde_json::Value;
use skiff_cel::{DeclType, Env, Program, Type};

/// The rules of a schema and of all below it.
#[derive(Debug)]
pub struct Rules {
    decl: Option<DeclType>,
    rules: Vec<Compiled>,
    /// What errors give as the value: the type.
    kind: &'static str,
    items: Option<Box<Rules>>,
    properties: Vec<(Box<str>, Rules)>,
    additional: Option<Box<Rules>>,
}

#[derive(Debug)]
pub(crate) struct Compiled {
    pub rule: Rule,
    pub program: Result<Program, String>,
    pub message: Option<Result<Program, String>>,
    /// Where the fault is told, below the value.
    pub field: Option<String>,
}

impl Compiled {
    /// Compiles a rule of values of a type.
    pub fn new(rule: &Rule, schema: &Value, decl: &DeclType) -> Self {
        let env = Env::new().variable("self", decl.clone());
        let env = match rule.optional_old_self {
            Some(true) => env.optional_variable("oldSelf", decl.clone()),
            _ => env.variable("oldSelf", decl.clone()),
        };
        let program = compile(
            &env,
            &rule.rule,
            &Type::Bool,
            "compilation failed",
            "cel expression must evaluate to a bool",
        );
        let message = (!rule.message_expression.is_empty()).then(|| {
            compile(
                &env,
                &rule.message_expression,
                &Type::String,
                "messageExpression compilation failed",
                "messageExpression must evaluate to a string",
            )
        });
        let field = Some(rule.field_path.trim())
            .filter(|path| !path.is_empty())
            .and_then(|path| field_path::follow(path, schema, true).ok())
            .map(|found| found.text);
        Self {
            rule: rule.clone(),
            program,
            message,
            field,
        }
    }

    pub fn uses_old(&self) -> bool {
        self.program.as_ref().is_ok_and(|program| program.uses("oldSelf"))
    }
}

fn compile(env: &Env, text: &str, wanted: &Type, failed: &str, wrong: &str) -> Result<Program, String> {
    let program = env.compile(text.trim()).map_err(|why| format!("{failed}: {why}"))?;
    if program.output() == wanted || *program.output() == Type::Dyn {
        Ok(program)
    } else {
        Err(wrong.to_string())
    }
}

impl Rules {
    /// Compiles the rules of a schema; `None` where there are none. `root`: it is that of
    /// a whole resource.
    pub fn new(json: &Value, schema: &Schema, root: bool) -> Option<Self> {
        if !schema.has_rules {
            return None;
        }
        let resource = root || schema.embedded;
        let decl = (!schema.rules.is_empty())
            .then(|| DeclType::from_openapi(json, "self", resource))
            .flatten();
        let rules = decl.as_ref().map_or_else(Vec::new, |decl| {
            schema
                .rules
                .iter()
                .map(|rule| Compiled::new(rule, json, decl))
                .collect()
        });
        let below = |json: Option<&Value>, schema: &Schema| Self::new(json?, schema, false);
        Some(Self {
            decl,
            rules,
            kind: schema.kind.map_or("", crate::schema::Kind::as_str),
            items: schema
                .items
                .as_deref()
                .and_then(|inner| below(json.node("items"), inner))
                .map(Box::new),
            properties: schema
                .properties()
                .filter_map(|(name, inner)| Some((name.into(), below(json["properties"].get(name), inner)?)))
                .collect(),
            additional: schema
                .additional()
                .and_then(|inner| below(json.node("additionalProperties"), inner))
                .map(Box::new),
        })
    }

    fn property(&self, name: &str) -> Option<&Rules> {
        self.properties
            .binary_search_by(|(key, _)| key.as_ref().cmp(name))
            .ok()
            .map(|at| &self.properties[at].1)
    }
}
