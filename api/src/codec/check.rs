//! Makes a decoded tree what Go's typed decoder would have made of it: refuses
//! wrong types in Go's words, drops unknown fields (and reports them), drops
//! nulls and the zero values that Go's JSON omits, and brings quantities and
//! times into their canonical form.

use super::MAX_DEPTH;
use crate::quantity;
use crate::schema::{Field, Kind, Shape, Type};
use crate::time;
use crate::{ApiError, FieldError, Value};
use serde_json::Map;
use std::fmt::Write;

/// The `fieldValidation` query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// An absent or empty parameter means `Warn`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let error = FieldError::not_supported("fieldValidation", &other.into(), &["Ignore", "Strict", "Warn"]);
                Err(ApiError::invalid("meta.k8s.io", "CreateOptions", "", &[error]))
            }
        }
    }
}

/// What the check removed from the tree, by path.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Fields the type does not have.
    pub unknown: Vec<String>,
    /// Fields given more than once; filled in by whoever decoded the text.
    pub duplicates: Vec<String>,
    /// Keys given more than once in YAML, each as a line that says where.
    pub yaml: Vec<String>,
    /// Paths of the fields as the text had them; empty where that is not known.
    pub order: Vec<String>,
}

/// Strict decoding reports no more faults than this, as upstream.
const MAX_REPORTED: usize = 100;

impl Report {
    pub fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.duplicates.is_empty() && self.yaml.is_empty()
    }

    /// `unknown field "spec.foo"`, one line a fault, in the order of the text. What
    /// lies in an unknown field is not looked at.
    pub fn lines(&self) -> Vec<String> {
        let place = |path: &String, nth: usize| {
            let mut found = self.order.iter().enumerate().filter(|(_, p)| *p == path);
            found.nth(nth).map_or(usize::MAX, |(i, _)| i)
        };
        let in_unknown = |path: &str| {
            self.unknown.iter().any(|u| {
                path.strip_prefix(u.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        let unknown = self.unknown.iter();
        let mut lines: Vec<(usize, String)> = unknown
            .take(MAX_REPORTED)
            .map(|path| (place(path, 0), format!("unknown field {path:?}")))
            .collect();
        let duplicates = self.duplicates.iter().filter(|path| !in_unknown(path));
        lines.extend(duplicates.map(|path| (place(path, 1), format!("duplicate field {path:?}"))));
        lines.sort_by_key(|(place, _)| *place);
        lines.into_iter().take(MAX_REPORTED).map(|(_, line)| line).collect()
    }

    /// Turns the report into warnings, or into the error that `Strict` asks for.
    pub fn settle(&self, ty: &Type, validation: FieldValidation) -> Result<Vec<String>, ApiError> {
        match validation {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Warn => Ok(self.yaml.iter().cloned().chain(self.lines()).collect()),
            FieldValidation::Strict => {
                let mut lines = self.lines();
                if !self.yaml.is_empty() {
                    lines.insert(0, format!("yaml: unmarshal errors:\n  {}", self.yaml.join("\n  ")));
                }
                if lines.is_empty() {
                    Ok(lines)
                } else {
                    Err(cannot_handle(
                        ty,
                        &format!("strict decoding error: {}", lines.join(", ")),
                    ))
                }
            }
        }
    }
}

/// `Pod in version "v1" cannot be handled as a Pod: ...`
pub fn cannot_handle(ty: &Type, why: &str) -> ApiError {
    let kind = ty.short();
    ApiError::bad_request(format!(
        "{kind} in version {:?} cannot be handled as a {kind}: {why}",
        ty.version
    ))
}

/// Checks and normalises `value` in place. A wrong type is always an error; what
/// becomes of unknown fields is for [`Report::settle`], `validation` only says whether
/// to collect their paths.
pub fn check(ty: &Type, value: &mut Value, validation: FieldValidation) -> Result<Report, ApiError> {
    check_raw(ty, value, validation).map_err(|why| cannot_handle(ty, &why))
}

/// Like [`check`], with Go's bare message for the caller to wrap.
pub fn check_raw(ty: &Type, value: &mut Value, validation: FieldValidation) -> Result<Report, String> {
    let mut walk = Walk {
        path: String::new(),
        depth: 0,
        collect: validation != FieldValidation::Ignore,
        unknown: Vec::new(),
    };
    if !value.is_object() {
        return Err(format!(
            "json: cannot unmarshal {} into Go value of type {}",
            go_word(value),
            ty.go_name()
        ));
    }
    walk.object(ty, value)?;
    Ok(Report {
        unknown: walk.unknown,
        ..Report::default()
    })
}

struct Walk {
    path: String,
    depth: usize,
    collect: bool,
    unknown: Vec<String>,
}

/// Whether the value stays or is dropped, as Go's `omitempty` would.
type Keep = bool;

impl Walk {
    fn object(&mut self, ty: &Type, value: &mut Value) -> Result<(), String> {
        let Value::Object(map) = value else { return Ok(()) };
        if self.depth >= MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
        self.depth += 1;
        let mut dropped: Vec<String> = Vec::new();
        for (key, child) in map.iter_mut() {
            let Some(field) = ty.field(key) else {
                if self.collect && self.unknown.len() < MAX_REPORTED {
                    let at = self.enter_key(key);
                    self.unknown.push(self.path.clone());
                    self.path.truncate(at);
                }
                dropped.push(key.clone());
                continue;
            };
            if child.is_null() {
                if field.zero() != Some(child) {
                    dropped.push(key.clone());
                }
                continue;
            }
            let at = self.enter_key(key);
            let keep = self.field(ty, field, child)?;
            self.path.truncate(at);
            if !keep {
                dropped.push(key.clone());
            }
        }
        for key in dropped {
            map.remove(&key);
        }
        add_missing(ty, map);
        self.depth -= 1;
        Ok(())
    }

    fn enter_key(&mut self, key: &str) -> usize {
        let at = self.path.len();
        if at > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        at
    }

    fn field(&mut self, owner: &Type, field: &Field, value: &mut Value) -> Result<Keep, String> {
        match field.shape {
            Shape::One => self.one(owner, field, value),
            Shape::List => {
                let Value::Array(items) = value else {
                    return Err(self.mismatch(owner, field, &field.go_type(), go_word(value)));
                };
                self.items(owner, field, items)?;
                Ok(field.always || !items.is_empty())
            }
            Shape::Map | Shape::MapOfList => {
                let Value::Object(map) = value else {
                    return Err(self.mismatch(owner, field, &field.go_type(), go_word(value)));
                };
                self.entries(owner, field, map)?;
                Ok(field.always || !map.is_empty())
            }
        }
    }

    fn items(&mut self, owner: &Type, field: &Field, items: &mut [Value]) -> Result<(), String> {
        let at = self.path.len();
        for (i, item) in items.iter_mut().enumerate() {
            // Writing into a String cannot fail.
            let _ = write!(self.path, "[{i}]");
            if item.is_null() {
                *item = zero(&field.kind);
            }
            self.one(owner, field, item)?;
            self.path.truncate(at);
        }
        Ok(())
    }

    fn entries(&mut self, owner: &Type, field: &Field, map: &mut Map<String, Value>) -> Result<(), String> {
        for (key, value) in map.iter_mut() {
            let at = self.enter_key(key);
            if field.shape == Shape::MapOfList {
                match value {
                    Value::Null => {}
                    Value::Array(items) => self.items(owner, field, items)?,
                    other => {
                        return Err(self.mismatch(
                            owner,
                            field,
                            &format!("[]{}", field.kind.go_name()),
                            go_word(other),
                        ));
                    }
                }
            } else {
                if value.is_null() {
                    *value = zero(&field.kind);
                }
                self.one(owner, field, value)?;
            }
            self.path.truncate(at);
        }
        Ok(())
    }

    /// One value, element or map value.
    fn one(&mut self, owner: &Type, field: &Field, value: &mut Value) -> Result<Keep, String> {
        let omit_zero = field.shape == Shape::One && field.drops_zero();
        match &field.kind {
            Kind::String => match value {
                Value::String(text) => Ok(!(omit_zero && text.is_empty())),
                other => Err(self.mismatch(owner, field, "string", go_word(other))),
            },
            Kind::Bool => match value {
                Value::Bool(b) => Ok(!omit_zero || *b),
                other => Err(self.mismatch(owner, field, "bool", go_word(other))),
            },
            Kind::Int32 | Kind::Int64 => {
                let fits = value
                    .as_i64()
                    .filter(|n| matches!(field.kind, Kind::Int64) || i32::try_from(*n).is_ok());
                match fits {
                    Some(n) => Ok(!omit_zero || n != 0),
                    None => {
                        let word = if value.is_number() {
                            format!("number {value}")
                        } else {
                            go_word(value).to_string()
                        };
                        Err(self.mismatch(owner, field, &field.kind.go_name(), &word))
                    }
                }
            }
            Kind::Double if value.is_number() => Ok(!omit_zero || value.as_f64() != Some(0.0)),
            Kind::Double => Err(self.mismatch(owner, field, "float64", go_word(value))),
            Kind::Bytes => match value {
                Value::String(text) => base64_fault(text).map_or(Ok(!(omit_zero && text.is_empty())), Err),
                other => Err(self.mismatch(owner, field, "[]uint8", go_word(other))),
            },
            Kind::Quantity => normal_quantity(value),
            Kind::IntOrString => self.int_or_string(owner, field, value),
            Kind::Time | Kind::MicroTime => normal_time(value, matches!(field.kind, Kind::MicroTime)),
            Kind::Duration if value.is_string() => Ok(true),
            Kind::Duration => Err(format!(
                "json: cannot unmarshal {} into Go value of type string",
                go_word(value)
            )),
            Kind::RawExtension | Kind::Json | Kind::FieldsV1 => Ok(true),
            Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => {
                self.schema_or(value)?;
                Ok(true)
            }
            Kind::Object(_) | Kind::Owned(_) => {
                let Some(ty) = field.as_type() else { return Ok(true) };
                if !value.is_object() {
                    return Err(self.mismatch(owner, field, &ty.go_name(), go_word(value)));
                }
                self.object(ty, value)?;
                Ok(true)
            }
        }
    }

    fn int_or_string(&self, owner: &Type, field: &Field, value: &Value) -> Result<Keep, String> {
        match value {
            Value::String(_) => Ok(true),
            Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(true),
            Value::Number(n) => Err(format!("json: cannot unmarshal number {n} into Go value of type int32")),
            other => Err(self.mismatch(owner, field, "intstr.IntOrString", go_word(other))),
        }
    }

    fn schema_or(&mut self, value: &mut Value) -> Result<(), String> {
        let Some(ty) = super::json_schema_type() else {
            return Ok(());
        };
        match value {
            Value::Object(_) => self.object(ty, value),
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.object(ty, item)),
            _ => Ok(()),
        }
    }

    /// Go names the struct, then the path without list indices.
    fn mismatch(&self, owner: &Type, field: &Field, want: &str, got: &str) -> String {
        let mut path = String::with_capacity(self.path.len());
        let mut inside = false;
        for c in self.path.chars() {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                c if !inside => path.push(c),
                _ => {}
            }
        }
        if matches!(field.shape, Shape::Map | Shape::MapOfList)
            && let Some(end) = path.find(&format!("{}.", field.name)).map(|at| at + field.name.len())
        {
            path.truncate(end);
        }
        format!(
            "json: cannot unmarshal {got} into Go struct field {}.{path} of type {want}",
            owner.short()
        )
    }
}

/// Puts in what Go's JSON never lacks.
fn add_missing(ty: &Type, map: &mut Map<String, Value>) {
    for field in ty.never_missing() {
        if let Some(zero) = field.zero()
            && !map.contains_key(field.name.as_ref())
        {
            map.insert(field.name.to_string(), zero.clone());
        }
    }
}

/// What a null element of a list or map decodes to.
fn zero(kind: &Kind) -> Value {
    match kind {
        Kind::String | Kind::Bytes => "".into(),
        Kind::Bool => false.into(),
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString => 0.into(),
        Kind::Quantity => "0".into(),
        Kind::Object(_) | Kind::Owned(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

/// Go's word for a JSON value.
fn go_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn normal_quantity(value: &mut Value) -> Result<Keep, String> {
    let text = match &*value {
        Value::Null => return Ok(true),
        Value::String(text) => text.trim().to_string(),
        other => other.to_string(),
    };
    let canonical = quantity::canonical(&text).map_err(|e| e.to_string())?;
    if value.as_str() != Some(canonical.as_str()) {
        *value = canonical.into();
    }
    Ok(true)
}

fn normal_time(value: &mut Value, micro: bool) -> Result<Keep, String> {
    let Value::String(text) = value else {
        return if value.is_null() {
            Ok(true)
        } else {
            Err(format!(
                "json: cannot unmarshal {} into Go value of type string",
                go_word(value)
            ))
        };
    };
    let at = time::parse(text).ok_or_else(|| time::parse_error(text, micro))?;
    let canonical = if micro {
        time::format_micro(at)
    } else {
        time::format_seconds(at)
    };
    if *text != canonical {
        *text = canonical;
    }
    Ok(true)
}

/// Go's message when the text is not base64; new lines are allowed in it.
fn base64_fault(text: &str) -> Option<String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let fault = |at: usize| Some(format!("illegal base64 data at input byte {at}"));
    let clean: std::borrow::Cow<'_, str> = if text.contains(['\n', '\r']) {
        text.replace(['\n', '\r'], "").into()
    } else {
        text.into()
    };
    match STANDARD.decode(clean.as_bytes()) {
        Ok(_) => None,
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol { offset: at, .. }) => {
            fault(at)
        }
        Err(_) => fault(clean.len() / 4 * 4),
    }
}
