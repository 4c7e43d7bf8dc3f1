//! Rules of a definition that is written: do they compile, can they look back where
//! they do, and what may they cost at most.

use super::Compiled;
use crate::check::json::Json;
use crate::path::Path;
use crate::schema::Rule;
use serde_json::Value;
use skiff_api::FieldError;
use skiff_cel::{DeclType, REQUEST_BYTES_MAX};

/// The most one expression may cost, however its values are.
const EXPRESSION_COST_MAX: u64 = 10_000_000;
/// The most all expressions of a schema may cost together.
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// The dearest rules are named when all together cost too much.
const NAMED_MAX: usize = 4;

/// What the rules looked at so far may cost.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    total: u64,
    dearest: Vec<(u64, String)>,
}

impl Costs {
    fn note(&mut self, path: &Path, cost: u64) {
        self.total = self.total.saturating_add(cost);
        self.dearest.push((cost, path.field()));
        self.dearest.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        self.dearest.truncate(NAMED_MAX);
    }

    /// Errors if all together cost too much.
    pub fn finish(self, schema: &Path, errors: &mut Vec<FieldError>) {
        if self.total <= SCHEMA_COST_MAX {
            return;
        }
        for (_, field) in self.dearest {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(FieldError::forbidden(field, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(
            schema.field(),
            &exceeds(what, self.total, SCHEMA_COST_MAX),
        ));
    }

    /// Looks at the rules of one node. `times`: how often its values may stand in an
    /// object, if that is bounded; `uncorrelatable`: where in the schema looking back ends.
    pub fn node(
        &mut self,
        schema: &Value,
        path: &Path,
        root: bool,
        times: Option<u64>,
        uncorrelatable: Option<&str>,
        errors: &mut Vec<FieldError>,
    ) {
        let resource = root || schema.flag("x-kubernetes-embedded-resource");
        let list = path.of("x-kubernetes-validations");
        let Some(decl) = DeclType::from_openapi(schema, "self", resource) else {
            let why = "internal error: failed to retrieve type information for x-kubernetes-validations";
            errors.push(FieldError {
                kind: skiff_api::FieldErrorKind::InternalError,
                detail: format!("Internal error: {why}"),
                ..FieldError::invalid(list.field(), &Value::Null, "")
            });
            return;
        };
        let times = times.unwrap_or_else(|| (REQUEST_BYTES_MAX / (decl.min_serialized_size + 1)).max(1));
        for (i, json) in schema.items("x-kubernetes-validations").iter().enumerate() {
            let at = list.at(i);
            let rule = Rule::new(json);
            let compiled = Compiled::new(&rule, schema, &decl);
            let shown = go_rule(&rule);
            let rule_path = at.of("rule");
            match &compiled.program {
                Ok(program) => self.cost("estimated rule cost", program.cost().max, times, &rule_path, errors),
                Err(why) => errors.push(unquoted(rule_path.field(), &shown, why)),
            }
            let message_path = at.of("messageExpression");
            match &compiled.message {
                Some(Ok(program)) => {
                    let what = "estimated messageExpression cost";
                    self.cost(what, program.cost().max, 1, &message_path, errors);
                }
                Some(Err(why)) => errors.push(unquoted(message_path.field(), &shown, why)),
                None => {}
            }
            if compiled.program.is_err() {
                continue;
            }
            if compiled.uses_old() {
                if let Some(within) = uncorrelatable {
                    let why =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
                    errors.push(FieldError::invalid(rule_path.field(), &rule.rule.as_ref().into(), &why));
                }
            } else if let Some(optional) = rule.optional_old_self {
                let why = "may not be set if oldSelf is not used in rule";
                errors.push(FieldError::invalid(
                    at.of("optionalOldSelf").field(),
                    &optional.into(),
                    why,
                ));
            }
        }
    }

    fn cost(&mut self, what: &str, each: u64, times: u64, at: &Path, errors: &mut Vec<FieldError>) {
        let cost = each.saturating_mul(times);
        if cost > EXPRESSION_COST_MAX {
            errors.push(FieldError::forbidden(
                at.field(),
                &exceeds(what, cost, EXPRESSION_COST_MAX),
            ));
        }
        self.note(at, cost);
    }
}

fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_string()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as Go prints the struct.
fn go_rule(rule: &Rule) -> String {
    // Pointers to set values print as addresses, which say nothing: they are left as nil.
    format!(
        "apiextensions.ValidationRule{{Rule:{:?}, Message:{:?}, MessageExpression:{:?}, Reason:(*apiextensions.FieldValueErrorReason)(nil), FieldPath:{:?}, OptionalOldSelf:(*bool)(nil)}}",
        rule.rule, rule.message, rule.message_expression, rule.field_path
    )
}

/// An invalid value that is shown as it is.
fn unquoted(field: String, shown: &str, why: &str) -> FieldError {
    FieldError {
        detail: format!("Invalid value: {shown}: {why}"),
        ..FieldError::invalid(field, &Value::Null, "")
    }
}
