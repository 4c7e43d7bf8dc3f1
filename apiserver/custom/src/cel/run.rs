//! Running the rules over an object, within the budget of one request.

use super::{Compiled, Rules};
use crate::listtype::Keyed;
use crate::path::Path;
use crate::schema::{List, Rule, Schema};
use serde_json::Value;
use skiff_api::{FieldError, FieldErrorKind};
use skiff_cel::{Bindings, DeclType, EvalError, Limits, PER_CALL_LIMIT, RUNTIME_BUDGET};

/// Longer texts of a `messageExpression` are not shown.
const MESSAGE_BYTES_MAX: usize = 5 << 10;
const SPENT: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

/// The error that stands for the rules that cannot be run over an object with these
/// faults; `None` where they can.
pub fn blocking(errors: &[FieldError]) -> Option<FieldError> {
    let blocks = |e: &FieldError| {
        matches!(
            e.kind,
            FieldErrorKind::NotSupported
                | FieldErrorKind::Required
                | FieldErrorKind::TooLong
                | FieldErrorKind::TooMany
                | FieldErrorKind::TypeInvalid
        )
    };
    errors.iter().any(blocks).then(|| {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        FieldError::invalid("<nil>", &"null".into(), why)
    })
}

impl Rules {
    /// What rules find wrong with an object, and with what it was before in mind.
    pub fn validate(&self, schema: &Schema, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut run = Run {
            errors: Vec::new(),
            budget: Some(RUNTIME_BUDGET),
        };
        let before = Before {
            value: old,
            same_above: false,
        };
        run.node(self, schema, object, &before, &Path::ROOT);
        run.errors
    }
}

/// What stood in a place before.
struct Before<'a> {
    /// `None`: nothing, or it cannot be told what.
    value: Option<&'a Value>,
    /// It cannot be told, but something around it is as it was.
    same_above: bool,
}

impl<'a> Before<'a> {
    fn unchanged(&self, value: &Value) -> bool {
        self.value.map_or(self.same_above, |old| old == value)
    }

    /// Of a part of `value`.
    fn part(&self, value: &Value, found: Option<&'a Value>) -> Before<'a> {
        Before {
            value: found,
            same_above: found.is_none() && self.unchanged(value),
        }
    }
}

struct Run {
    errors: Vec<FieldError>,
    /// `None`: spent, or what was met ends everything.
    budget: Option<u64>,
}

impl Run {
    fn node(&mut self, rules: &Rules, schema: &Schema, value: &Value, before: &Before<'_>, path: &Path) {
        if value.is_null() || self.budget.is_none() {
            return;
        }
        if let Some(decl) = &rules.decl {
            for compiled in &rules.rules {
                self.rule(compiled, rules.kind, decl, value, before, path);
                if self.budget.is_none() {
                    return;
                }
            }
        }
        match value {
            Value::Array(items) => {
                let (Some(inner), Some(inner_schema)) = (&rules.items, &schema.items) else {
                    return;
                };
                let keyed = matches!(schema.list, List::Map(_));
                let known = before.value.filter(|_| keyed).and_then(|old| Keyed::new(schema, old));
                for (i, item) in items.iter().enumerate() {
                    let found = known.as_ref().and_then(|known| known.find(item));
                    self.node(inner, inner_schema, item, &before.part(value, found), &path.at(i));
                }
            }
            Value::Object(map) => {
                for (name, member) in map {
                    let found = before.value.filter(|_| !schema.atomic).and_then(|old| old.get(name));
                    let part = before.part(value, found);
                    if let (Some(inner), Some(schema)) = (rules.property(name), schema.property(name)) {
                        self.node(inner, schema, member, &part, &path.of(name));
                    } else if let (Some(inner), Some(additional)) = (&rules.additional, schema.additional()) {
                        self.node(inner, additional, member, &part, &path.key(name));
                    }
                }
            }
            _ => {}
        }
    }

    fn fail(&mut self, path: &Path, kind: &str, why: &str) {
        self.errors.push(FieldError::invalid(path.field(), &kind.into(), why));
    }

    fn rule<'a>(
        &mut self,
        compiled: &'a Compiled,
        kind: &str,
        decl: &'a DeclType,
        value: &'a Value,
        before: &Before<'a>,
        path: &Path,
    ) {
        let rule = &compiled.rule;
        let program = match &compiled.program {
            Ok(program) => program,
            Err(why) => return self.fail(path, kind, &format!("rule compile error: {why}")),
        };
        let optional = rule.optional_old_self == Some(true);
        if compiled.uses_old() && before.value.is_none() && !optional {
            return;
        }
        let mut bindings = Bindings::new();
        bindings.typed("self", value, decl);
        if optional {
            bindings.optional("oldSelf", before.value, Some(decl));
        } else if let Some(old) = before.value {
            bindings.typed("oldSelf", old, decl);
        }
        let limits = Limits {
            cost: PER_CALL_LIMIT,
            interrupt: None,
        };
        let outcome = program.evaluate(&bindings, limits);
        let Some(left) = self.budget.and_then(|left| left.checked_sub(outcome.cost)) else {
            self.budget = None;
            return self.fail(path, kind, SPENT);
        };
        self.budget = Some(left);
        match outcome.value {
            Ok(answer) if answer.as_bool() == Some(true) => return,
            Ok(_) => {}
            Err(error) => return self.broken(&error, rule, path, kind),
        }
        let passes = !compiled.uses_old() && before.unchanged(value);
        let at = match &compiled.field {
            Some(field) => path.of(field).field(),
            None => path.field(),
        };
        match self.message(compiled, &bindings) {
            Ok(message) if !passes => self.errors.push(error_of(rule, at, kind, &message)),
            Ok(_) => {}
            Err(why) => {
                self.budget = None;
                if !passes {
                    self.errors.push(FieldError::invalid(at, &kind.into(), &why));
                }
            }
        }
    }

    /// A rule gave no answer.
    fn broken(&mut self, error: &EvalError, rule: &Rule, path: &Path, kind: &str) {
        let text = shown(rule);
        let why = match error {
            EvalError::CostExceeded => {
                self.budget = None;
                format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {text}"
                )
            }
            _ if error.to_string().starts_with("no such overload") => format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {text}"
            ),
            _ => format!("{error} evaluating rule: {text}"),
        };
        self.fail(path, kind, &why);
    }

    /// What is told of a rule that does not hold; `Err` ends the run.
    fn message<'a>(&mut self, compiled: &'a Compiled, bindings: &Bindings<'a>) -> Result<String, String> {
        let fixed = match compiled.rule.message.trim() {
            "" => format!("failed rule: {}", compiled.rule.rule.trim()),
            message => message.to_string(),
        };
        let Some(Ok(program)) = &compiled.message else {
            return Ok(fixed);
        };
        let limits = Limits {
            cost: PER_CALL_LIMIT,
            interrupt: None,
        };
        let outcome = program.evaluate(bindings, limits);
        let Some(left) = self.budget.and_then(|left| left.checked_sub(outcome.cost)) else {
            return Err(
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
                    .into(),
            );
        };
        if matches!(outcome.value, Err(EvalError::CostExceeded)) {
            return Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                compiled.rule.message_expression
            ));
        }
        self.budget = Some(left);
        let made = outcome
            .value
            .ok()
            .and_then(|v| v.as_str().map(|text| text.trim().to_string()));
        let fit = |text: &String| !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
        Ok(made.filter(fit).unwrap_or(fixed))
    }
}

fn shown(rule: &Rule) -> &str {
    match rule.message.trim() {
        "" => rule.rule.trim(),
        message => message,
    }
}

fn error_of(rule: &Rule, at: String, kind: &str, message: &str) -> FieldError {
    match rule.reason.as_ref() {
        "FieldValueForbidden" => FieldError::forbidden(at, message),
        "FieldValueRequired" => FieldError::required(at, message),
        "FieldValueDuplicate" => FieldError::duplicate(at, &kind.into()),
        _ => FieldError::invalid(at, &kind.into(), message),
    }
}
