//! Match conditions: expressions that must all hold for a webhook or policy to
//! be asked.

use crate::expressions::{Budget, Failure, Having, OUT_OF_BUDGET, Variables, compile, env};
use crate::hook::FailurePolicy;
use serde_json::Value;
use skiff_cel::{MATCH_CONDITIONS_BUDGET, Program, Type};

/// Compiled once per change of the configuration.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    expression: String,
    program: Result<Program, String>,
}

impl Conditions {
    /// Reads `matchConditions`.
    pub(crate) fn of(list: &Value, params: bool) -> Self {
        let items = list.as_array().into_iter().flatten();
        let mut made = None;
        let having = Having {
            params,
            authorizer: true,
        };
        Self(
            items
                .map(|item| {
                    let expression = item["expression"].as_str().unwrap_or("").trim().to_string();
                    let env = made.get_or_insert_with(|| env(having));
                    Condition {
                        program: compile(env, &expression, &[Type::Bool]),
                        expression,
                    }
                })
                .collect(),
        )
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not hold settles it; else an error counts as
    /// the failure policy says: not asked, or (`Err`) the request fails.
    pub(crate) fn hold(&self, variables: &Variables<'_>, failure: FailurePolicy) -> Result<bool, String> {
        let bindings = variables.bind();
        let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
        let mut errors = Vec::new();
        for condition in &self.0 {
            match budget.evaluate(&condition.expression, &condition.program, &bindings) {
                Ok(value) if value.as_bool() == Some(false) => return Ok(false),
                Ok(_) => {}
                Err(Failure::Expression(why)) => errors.push(why),
                Err(Failure::OutOfBudget) => {
                    errors = vec![OUT_OF_BUDGET.to_string()];
                    break;
                }
            }
        }
        match (errors.len(), failure) {
            (0, _) => Ok(true),
            (_, FailurePolicy::Ignore) => Ok(false),
            (1, FailurePolicy::Fail) => Err(errors.remove(0)),
            (_, FailurePolicy::Fail) => Err(format!("[{}]", errors.join(", "))),
        }
    }
}
