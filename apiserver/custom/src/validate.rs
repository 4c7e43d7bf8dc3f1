//! Values against a schema: the subset of JSON Schema that OpenAPI v3 definitions of
//! resources may use, with the faults that upstream's validator finds, in its words.
//!
//! On updates, what did not change is not held against the writer ("ratcheting"): a
//! fault of a value that equals the old value at the same place is let pass. Source:
//! KEP-4008. Items of keyed lists are found again by their keys; items of other lists
//! and members of atomic maps are not found again.

use crate::number::{go_float, is_whole, same};
use crate::path::Path;
use crate::schema::{Additional, Checks, Kind, List, Schema};
use crate::{format, listtype};
use serde_json::{Map, Number, Value};
use skiff_api::{FieldError, FieldErrorKind};

/// An object is answered with enough faults to mend it, not with all of a million.
const ERRORS_MAX: usize = 100;
/// As deep as the codecs read.
const DEPTH_MAX: usize = 130;

/// All faults of a value under a schema.
pub fn validate(schema: &Schema, value: &Value, path: &Path) -> Vec<FieldError> {
    Walk { depth: 0 }.node(schema, value, None, path).errors
}

/// The faults of a new value, apart from those that the old value had at the same places.
pub fn validate_update(schema: &Schema, new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = validate(schema, new, path);
    // Only for what has faults is it worth to look for what it was before.
    if !errors.is_empty() {
        errors = Walk { depth: 0 }.node(schema, new, Some(old), path).errors;
    }
    errors
}

/// What came of a check: the faults, and how much was right. Of several alternatives
/// that all failed, the one that got furthest tells its faults.
#[derive(Debug, Default)]
struct Outcome {
    errors: Vec<FieldError>,
    matches: u32,
}

impl Outcome {
    fn push(&mut self, error: FieldError) {
        if self.errors.len() < ERRORS_MAX && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn merge(&mut self, other: Outcome) {
        self.matches += other.matches;
        for error in other.errors {
            self.push(error);
        }
    }

    fn valid(&self) -> bool {
        self.errors.is_empty()
    }
}

struct Walk {
    depth: usize,
}

impl Walk {
    fn node(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &Path) -> Outcome {
        if self.depth >= DEPTH_MAX {
            return Outcome::default();
        }
        self.depth += 1;
        let mut outcome = Outcome::default();
        type_of(schema, value, path, &mut outcome);
        let checks = schema.checks.as_deref();
        match value {
            Value::Null => {
                if let Some(checks) = checks {
                    allowed(checks, value, path, &mut outcome);
                }
            }
            _ => self.rest(schema, checks, value, old, path, &mut outcome),
        }
        outcome.matches += 1;
        self.depth -= 1;
        if !outcome.valid() && old.is_some_and(|old| old == value) {
            outcome.errors.clear();
        }
        outcome
    }

    fn rest(
        &mut self,
        schema: &Schema,
        checks: Option<&Checks>,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
        outcome: &mut Outcome,
    ) {
        if let Some(checks) = checks {
            self.alternatives(checks, value, old, path, outcome);
            match value {
                Value::String(text) => string(checks, text, path, outcome),
                Value::Number(n) => number(checks, n, path, outcome),
                _ => {}
            }
        }
        if let Value::Array(items) = value {
            self.items(schema, checks, items, old, path, outcome);
        }
        if let Some(checks) = checks {
            allowed(checks, value, path, outcome);
        }
        if let Value::Object(map) = value {
            self.members(schema, checks, map, old, path, outcome);
        }
    }

    fn alternatives(
        &mut self,
        checks: &Checks,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
        outcome: &mut Outcome,
    ) {
        let shown = format!("{:?}", path.to_string());
        if !checks.any_of.is_empty() {
            let (found, failures) = self.matching(&checks.any_of, value, old, path, true);
            if found == 0 {
                outcome.push(composite(&format!("{shown} must validate at least one schema (anyOf)")));
                outcome.merge(failures);
            }
        }
        if !checks.one_of.is_empty() {
            let (found, failures) = self.matching(&checks.one_of, value, old, path, false);
            if found != 1 {
                let how = if found == 0 {
                    "Found none valid".to_string()
                } else {
                    format!("Found {found} valid alternatives")
                };
                outcome.push(composite(&format!(
                    "{shown} must validate one and only one schema (oneOf). {how}"
                )));
                outcome.merge(failures);
            }
        }
        if !checks.all_of.is_empty() {
            let mut found = 0;
            for schema in &checks.all_of {
                let inner = self.node(schema, value, old, path);
                found += usize::from(inner.valid());
                outcome.merge(inner);
            }
            if found != checks.all_of.len() {
                let none = if found == 0 { ". None validated" } else { "" };
                outcome.push(composite(&format!(
                    "{shown} must validate all the schemas (allOf){none}"
                )));
            }
        }
        if let Some(not) = &checks.not
            && self.node(not, value, None, path).valid()
        {
            outcome.push(composite(&format!("{shown} must not validate the schema (not)")));
        }
        outcome.matches += 1;
    }

    /// How many of the schemas hold, and the faults of the best of those that do not
    /// (none once one holds).
    fn matching(
        &mut self,
        schemas: &[Schema],
        value: &Value,
        old: Option<&Value>,
        path: &Path,
        first_only: bool,
    ) -> (usize, Outcome) {
        let mut found = 0;
        let mut best: Option<Outcome> = None;
        for schema in schemas {
            let inner = self.node(schema, value, old, path);
            if inner.valid() {
                found += 1;
                best = None;
                if first_only {
                    break;
                }
            } else if found == 0 && best.as_ref().is_none_or(|b| inner.matches > b.matches) {
                best = Some(inner);
            }
        }
        (found, best.unwrap_or_default())
    }

    fn items(
        &mut self,
        schema: &Schema,
        checks: Option<&Checks>,
        items: &[Value],
        old: Option<&Value>,
        path: &Path,
        outcome: &mut Outcome,
    ) {
        if let Some(inner) = &schema.items {
            let keyed = matches!(schema.list, List::Map(_));
            let before = old.filter(|_| keyed).and_then(|old| listtype::Keyed::new(schema, old));
            for (i, item) in items.iter().enumerate() {
                let old = before.as_ref().and_then(|before| before.find(item));
                outcome.merge(self.node(inner, item, old, &path.at(i)));
            }
        }
        let Some(checks) = checks else { return };
        let size = items.len() as u64;
        if let Some(min) = checks.min_items.filter(|min| size < *min) {
            outcome.push(invalid(
                path,
                &size.into(),
                &format!("should have at least {min} items"),
            ));
        }
        if let Some(max) = checks.max_items.filter(|max| size > *max) {
            outcome.push(too_many(path, items.len(), max));
        }
    }

    fn members(
        &mut self,
        schema: &Schema,
        checks: Option<&Checks>,
        map: &Map<String, Value>,
        old: Option<&Value>,
        path: &Path,
        outcome: &mut Outcome,
    ) {
        let size = map.len() as u64;
        if let Some(checks) = checks {
            if let Some(min) = checks.min_properties.filter(|min| size < *min) {
                let why = format!("should have at least {min} properties");
                return outcome.push(invalid(path, &size.into(), &why));
            }
            if let Some(max) = checks.max_properties.filter(|max| size > *max) {
                return outcome.push(too_many(path, map.len(), max));
            }
        }
        let before = old.filter(|_| !schema.atomic);
        // The type and kind of an object are the same by the time it is compared.
        let comparable = |name: &str| !(path.is_root() && matches!(name, "apiVersion" | "kind"));
        for (name, value) in map {
            let inner = match schema.property(name) {
                Some(inner) => inner,
                None => match &schema.additional {
                    Additional::Schema(inner) => inner,
                    Additional::Forbidden => {
                        let what = format!("{path}.{name} in body is a forbidden property");
                        outcome.push(FieldError::invalid(path.field(), &name.as_str().into(), &what));
                        continue;
                    }
                    Additional::None | Additional::Any => continue,
                },
            };
            let old = before.filter(|_| comparable(name)).and_then(|old| old.get(name));
            outcome.merge(self.node(inner, value, old, &path.of(name)));
        }
        for name in checks.into_iter().flat_map(|c| c.required.iter()) {
            if !map.contains_key(name.as_ref()) {
                outcome.push(FieldError::required(path.of(name).to_string(), ""));
            }
        }
    }
}

fn type_of(schema: &Schema, value: &Value, path: &Path, outcome: &mut Outcome) {
    let format = schema.checks.as_ref().and_then(|c| c.format.as_deref());
    let wanted: &[Kind] = match (schema.int_or_string, &schema.kind) {
        (true, _) => &[Kind::Integer, Kind::String],
        (false, Some(kind)) => std::slice::from_ref(kind),
        (false, None) => &[],
    };
    let (actual, actual_format) = match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
        Value::Number(n) if n.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
    };
    let names = || wanted.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(",");
    if value.is_null() {
        if !wanted.is_empty() && !schema.nullable {
            outcome.push(wrong_type(path, &names(), actual));
        } else {
            outcome.matches += 1;
        }
        return;
    }
    let fits = match value {
        Value::Number(n) if n.is_i64() => wanted.iter().any(|k| matches!(k, Kind::Integer | Kind::Number)),
        Value::Number(n) => wanted.iter().any(|k| match k {
            Kind::Number => true,
            Kind::Integer => n.as_f64().is_some_and(is_whole),
            _ => false,
        }),
        _ => wanted.iter().any(|k| k.as_str() == actual),
    };
    let text_or_list = value.is_string() || value.is_array();
    let numeric = wanted.iter().any(|k| matches!(k, Kind::Integer | Kind::Number));
    match format {
        Some(format) if !text_or_list && !fits => outcome.push(wrong_type(path, format, actual_format)),
        // Whether a text is of a format is seen elsewhere.
        Some(_) if text_or_list && !numeric => outcome.matches += 1,
        _ if wanted.is_empty() || fits => outcome.matches += 1,
        _ => outcome.push(wrong_type(path, &names(), actual)),
    }
}

fn string(checks: &Checks, text: &str, path: &Path, outcome: &mut Outcome) {
    // Counting is spared where bytes tell enough.
    let longer = |max: u64| text.len() as u64 > max && text.chars().count() as u64 > max;
    if let Some(max) = checks.max_length.filter(|max| longer(*max)) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        outcome.push(FieldError::too_long(path.field(), max));
    } else if let Some(min) = checks.min_length.filter(|min| (text.chars().count() as u64) < *min) {
        outcome.push(invalid(
            path,
            &text.into(),
            &format!("should be at least {min} chars long"),
        ));
    } else if let Some(pattern) = &checks.pattern
        && pattern.is_match(text) != Some(true)
    {
        outcome.push(invalid(
            path,
            &text.into(),
            &format!("should match '{}'", pattern.as_str()),
        ));
    } else {
        outcome.matches += 1;
    }
    match checks.format.as_deref() {
        Some(format) if !format::is(format, text) => {
            let message = format!("{path} in body must be of type {format}: {text:?}");
            outcome.push(type_invalid(path, &text.into(), &message));
        }
        Some(_) => outcome.matches += 1,
        None => {}
    }
}

/// Numbers hold what their format can: the value, and the bounds that it is compared with.
fn width(checks: &Checks, n: &Number, path: &Path, outcome: &mut Outcome) {
    let Some(width) = checks.width else { return };
    let bound = |n: Option<f64>| n.is_none_or(|n| Number::from_f64(n).is_some_and(|n| width.holds(&n)));
    let (kind, format) = width.shown();
    for (fits, what) in [
        (bound(checks.multiple_of), "MultipleOf"),
        (bound(checks.maximum), "Maximum boundary"),
        (bound(checks.minimum), "Minimum boundary"),
        (width.holds(n), "Checked"),
    ] {
        if !fits {
            let text = format!("{what} value must be of type {kind} with format {format} in {path}");
            outcome.push(composite(&text));
        }
    }
}

fn number(checks: &Checks, n: &Number, path: &Path, outcome: &mut Outcome) {
    width(checks, n, path, outcome);
    let value = Value::Number(n.clone());
    let real = n.as_f64().unwrap_or(0.0);
    // Whole numbers are compared as such: a float64 cannot tell large ones apart.
    let order = |bound: f64| match n.as_i64() {
        Some(whole) if bound.fract() == 0.0 && bound.abs() < 9e18 => Some(whole.cmp(&(bound as i64))),
        _ => real.partial_cmp(&bound),
    };
    let before = outcome.errors.len();
    if let Some(factor) = checks.multiple_of.filter(|f| *f > 0.0) {
        let multiple = match n.as_i64() {
            Some(whole) if factor.fract() == 0.0 && factor < 9e18 => whole % (factor as i64) == 0,
            _ => is_whole(real / factor),
        };
        if !multiple {
            let why = format!("should be a multiple of {}", go_float(factor));
            outcome.push(invalid(path, &value, &why));
        }
    }
    if let Some(max) = checks.maximum {
        let (bad, words) = match checks.exclusive_maximum {
            true => (order(max).is_none_or(|o| o.is_ge()), "less than"),
            false => (order(max).is_none_or(|o| o.is_gt()), "less than or equal to"),
        };
        if bad {
            outcome.push(invalid(path, &value, &format!("should be {words} {}", go_float(max))));
        }
    }
    if let Some(min) = checks.minimum {
        let (bad, words) = match checks.exclusive_minimum {
            true => (order(min).is_none_or(|o| o.is_le()), "greater than"),
            false => (order(min).is_none_or(|o| o.is_lt()), "greater than or equal to"),
        };
        if bad {
            outcome.push(invalid(path, &value, &format!("should be {words} {}", go_float(min))));
        }
    }
    outcome.matches += u32::from(outcome.errors.len() == before);
}

fn allowed(checks: &Checks, value: &Value, path: &Path, outcome: &mut Outcome) {
    if checks.allowed.is_empty() {
        return;
    }
    if checks.allowed.iter().any(|a| same(a, value)) {
        outcome.matches += 1;
        return;
    }
    let texts: Vec<String> = checks
        .allowed
        .iter()
        .map(|a| a.as_str().map_or_else(|| a.to_string(), ToString::to_string))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    outcome.push(FieldError::not_supported(path.field(), &nullable(value), &texts));
}

/// Nothing is shown as `"null"`, in quotes.
fn nullable(value: &Value) -> Value {
    if value.is_null() { "null".into() } else { value.clone() }
}

fn invalid(path: &Path, value: &Value, why: &str) -> FieldError {
    FieldError::invalid(path.field(), &nullable(value), &format!("{path} in body {why}"))
}

fn wrong_type(path: &Path, wanted: &str, actual: &str) -> FieldError {
    let message = format!("{path} in body must be of type {wanted}: {actual:?}");
    type_invalid(path, &actual.into(), &message)
}

fn type_invalid(path: &Path, value: &Value, message: &str) -> FieldError {
    FieldError {
        kind: FieldErrorKind::TypeInvalid,
        ..FieldError::invalid(path.field(), value, message)
    }
}

fn too_many(path: &Path, actual: usize, max: u64) -> FieldError {
    FieldError::too_many(path.field(), actual, usize::try_from(max).unwrap_or(usize::MAX))
}

/// Of the object as a whole, as upstream reports what is not about one field.
fn composite(message: &str) -> FieldError {
    FieldError::invalid("<nil>", &"".into(), message)
}
