//! Where an error is and how errors are gathered. A `Path` is a chain on the
//! stack and becomes text only when there is something to report, so that
//! validating a valid object allocates nothing.

use crate::tree::Tree;
use serde_json::Value;
use skiff_api::{FieldError, FieldErrorKind};
use std::fmt;

#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

/// `spec.containers[0].name`, as a chain of segments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

impl<'a> Path<'a> {
    /// Starts a path; `name` may itself be dotted.
    pub fn new(name: &'a str) -> Self {
        Self {
            parent: None,
            segment: Segment::Name(name),
        }
    }

    pub fn of(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Name(name),
        }
    }

    pub fn at(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Index(index),
        }
    }

    pub fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            segment: Segment::Key(key),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            // Upstream's way to name the whole object.
            Segment::Name("") => f.write_str("[]"),
            Segment::Name(name) if self.parent.is_some() => write!(f, ".{name}"),
            Segment::Name(name) => f.write_str(name),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// No object gets more errors than this reported: an object with a thousand bad
/// items is answered with enough to mend it, not with a megabyte.
const ERRORS_MAX: usize = 100;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Errors(pub Vec<FieldError>);

impl Errors {
    fn push(&mut self, error: impl FnOnce() -> FieldError) {
        if self.0.len() < ERRORS_MAX {
            self.0.push(error());
        }
    }

    /// What another collector found, as far as there is room.
    pub fn append(&mut self, other: Self) {
        for error in other.0 {
            self.push(|| error);
        }
    }

    pub fn required(&mut self, path: &Path, message: &str) {
        self.push(|| FieldError::required(path.to_string(), message));
    }

    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, message: &str) {
        self.push(|| FieldError::invalid(path.to_string(), &value.into(), message));
    }

    pub fn not_supported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        self.push(|| FieldError::not_supported(path.to_string(), &value.into(), supported));
    }

    /// As `not_supported`, for what is no text.
    pub fn not_supported_value(&mut self, path: &Path, value: &Value, supported: &[&str]) {
        self.push(|| FieldError::not_supported(path.to_string(), value, supported));
    }

    pub fn forbidden(&mut self, path: &Path, message: &str) {
        self.push(|| FieldError::forbidden(path.to_string(), message));
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(|| FieldError::duplicate(path.to_string(), &value.into()));
    }

    pub fn not_found(&mut self, path: &Path, value: &str) {
        self.push(|| FieldError::not_found(path.to_string(), &value.into()));
    }

    pub fn too_long(&mut self, path: &Path, max: usize) {
        self.push(|| FieldError::too_long(path.to_string(), max));
    }

    /// Something is wrong with a value that is not shown.
    pub fn invalid_unshown(&mut self, path: &Path, message: &str) {
        self.push(|| FieldError {
            field: path.to_string(),
            kind: FieldErrorKind::Invalid,
            detail: format!("Invalid value: {message}"),
        });
    }

    pub fn too_many(&mut self, path: &Path, actual: usize, max: usize) {
        self.push(|| FieldError::too_many(path.to_string(), actual, max));
    }

    /// A duplicate with a word on what must be unique.
    pub fn duplicate_because(&mut self, path: &Path, value: impl Into<Value>, why: &str) {
        self.push(|| {
            let mut error = FieldError::duplicate(path.to_string(), &value.into());
            error.detail = format!("{}: {why}", error.detail);
            error
        });
    }

    /// What is named is not there, with a word on what may be named.
    pub fn not_found_because(&mut self, path: &Path, value: &str, why: &str) {
        self.push(|| {
            let mut error = FieldError::not_found(path.to_string(), &value.into());
            error.detail = format!("{}: {why}", error.detail);
            error
        });
    }

    /// One error per message.
    pub fn all(&mut self, path: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(path, value, &message);
        }
    }

    /// The text at `key` must be there and be one of `allowed`.
    pub fn choice(&mut self, object: &Value, path: &Path, key: &str, allowed: &[&str]) {
        match object.text(key) {
            "" => self.required(&path.of(key), ""),
            text if allowed.contains(&text) => {}
            text => self.not_supported(&path.of(key), text, allowed),
        }
    }

    /// The text at `key`, if there, must be one of `allowed`.
    pub fn optional_choice(&mut self, object: &Value, path: &Path, key: &str, allowed: &[&str]) {
        if !object.text(key).is_empty() {
            self.choice(object, path, key, allowed);
        }
    }

    pub fn text_required(&mut self, object: &Value, path: &Path, key: &str) {
        if object.text(key).is_empty() {
            self.required(&path.of(key), "");
        }
    }

    /// The number at `key`, if there, must not be negative.
    pub fn non_negative(&mut self, object: &Value, path: &Path, key: &str) {
        if let Some(n) = object.int(key).filter(|n| *n < 0) {
            self.invalid(&path.of(key), n, "must be greater than or equal to 0");
        }
    }

    pub fn range(&mut self, object: &Value, path: &Path, key: &str, min: i64, max: i64) {
        if let Some(n) = object.int(key).filter(|n| *n < min || *n > max) {
            self.invalid(&path.of(key), n, &format!("must be between {min} and {max}, inclusive"));
        }
    }

    /// The texts at `keys` must be there.
    pub fn texts_required(&mut self, object: &Value, path: &Path, keys: &[&str]) {
        for key in keys {
            self.text_required(object, path, key);
        }
    }

    /// The text at `key`, if there, must be a name by the rule.
    pub fn name_at(&mut self, object: &Value, path: &Path, key: &str, rule: fn(&str) -> Vec<String>) {
        let name = object.text(key);
        if !name.is_empty() {
            self.all(&path.of(key), name, rule(name));
        }
    }

    pub fn port(&mut self, path: &Path, port: i64) {
        if !(1..=65535).contains(&port) {
            self.invalid(path, port, "must be between 1 and 65535, inclusive");
        }
    }

    /// What is at the dotted `at` may not change.
    pub fn immutable(&mut self, new: &Value, old: &Value, at: &str) {
        if !same(new.at(at), old.at(at)) {
            self.invalid(&Path::new(at), new.at(at).clone(), IMMUTABLE);
        }
    }
}

pub(crate) const IMMUTABLE: &str = "field is immutable";

/// Equal as Kubernetes sees it: absent, null, `{}`, `[]`, `""`, 0 and false are one.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    fn empty(v: &Value) -> bool {
        match v {
            Value::Null | Value::Bool(false) => true,
            Value::Bool(true) => false,
            Value::Number(n) => n.as_f64() == Some(0.0),
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.values().all(empty),
        }
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| same(v, y.get(k).unwrap_or(&Value::Null)))
                && y.iter().all(|(k, v)| x.contains_key(k) || empty(v))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        _ => a == b || (empty(a) && empty(b)),
    }
}
