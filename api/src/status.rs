//! The one error type of the API: everything that can go wrong becomes a
//! Kubernetes `Status` object, because clients branch on its reason and code.
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>.

use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt;

/// Why one field of an object was refused; becomes a cause of a `422 Invalid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path as upstream words it: `spec.containers[0].name`.
    pub field: String,
    pub kind: FieldErrorKind,
    /// The full text after the path, e.g. `Invalid value: "x": must be ...`.
    pub detail: String,
}

/// The `reason` of a cause (`FieldValueRequired`, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    InternalError,
    TypeInvalid,
}

impl FieldErrorKind {
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::InternalError => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

impl FieldError {
    pub fn required(field: impl Into<String>, msg: &str) -> Self {
        let detail = if msg.is_empty() {
            "Required value".to_string()
        } else {
            format!("Required value: {msg}")
        };
        Self {
            field: field.into(),
            kind: FieldErrorKind::Required,
            detail,
        }
    }

    /// `value` is shown as upstream shows it: strings quoted, the rest as JSON.
    pub fn invalid(field: impl Into<String>, value: &Value, msg: &str) -> Self {
        Self {
            field: field.into(),
            kind: FieldErrorKind::Invalid,
            detail: format!("Invalid value: {}: {msg}", shown(value)),
        }
    }

    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            field: field.into(),
            kind: FieldErrorKind::Duplicate,
            detail: format!("Duplicate value: {}", shown(value)),
        }
    }

    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list = supported
            .iter()
            .map(|s| format!("{s:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        Self {
            field: field.into(),
            kind: FieldErrorKind::NotSupported,
            detail: format!("Unsupported value: {}: supported values: {list}", shown(value)),
        }
    }

    pub fn forbidden(field: impl Into<String>, msg: &str) -> Self {
        Self {
            field: field.into(),
            kind: FieldErrorKind::Forbidden,
            detail: format!("Forbidden: {msg}"),
        }
    }

    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self {
            field: field.into(),
            kind: FieldErrorKind::NotFound,
            detail: format!("Not found: {}", shown(value)),
        }
    }

    pub fn too_long(field: impl Into<String>, max_bytes: usize) -> Self {
        Self {
            field: field.into(),
            kind: FieldErrorKind::TooLong,
            detail: format!("Too long: may not be more than {max_bytes} bytes"),
        }
    }

    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        Self {
            field: field.into(),
            kind: FieldErrorKind::TooMany,
            detail: format!("Too many: {actual}: must have at most {max} items"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(s) => format!("{s:?}"),
        other => other.to_string(),
    }
}

/// An API failure, ready to be written as a `Status`.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    pub code: u16,
    /// Kubernetes' machine-readable reason (`NotFound`, `Conflict`, ...); empty if none fits.
    /// A webhook may give one of its own.
    pub reason: Cow<'static, str>,
    pub message: String,
    /// `details` of the Status: name, group, kind, uid, causes, retryAfterSeconds.
    pub details: Option<Value>,
}

impl ApiError {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, group: &str, resource: &str, name: &str) -> Self {
        let mut details = json!({});
        for (key, text) in [("name", name), ("group", group), ("kind", resource)] {
            if !text.is_empty() {
                details[key] = text.into();
            }
        }
        self.details = Some(details);
        self
    }

    /// `deployments.apps "web" not found`
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} {name:?} not found", qualified(group, resource)),
        )
        .about(group, resource, name)
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} {name:?} already exists", qualified(group, resource)),
        )
        .about(group, resource, name)
    }

    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} {name:?}: {why}",
                qualified(group, resource)
            ),
        )
        .about(group, resource, name)
    }

    /// The lost-update conflict, in upstream's words.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(
            group,
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let subject = match (resource, name) {
            ("", _) => String::new(),
            (_, "") => format!("{} is ", qualified(group, resource)),
            _ => format!("{} {name:?} is ", qualified(group, resource)),
        };
        Self::new(403, "Forbidden", format!("{subject}forbidden: {why}")).about(group, resource, name)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// `kind` is the object's kind, as upstream: `Pod "x" is invalid: ...`.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let joined = if texts.len() == 1 {
            texts[0].clone()
        } else {
            format!("[{}]", texts.join(", "))
        };
        let mut error = Self::new(
            422,
            "Invalid",
            format!("{} {name:?} is invalid: {joined}", qualified(group, kind)),
        )
        .about(group, kind, name);
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.kind.reason(), "message": e.detail, "field": e.field}))
            .collect();
        if let Some(details) = &mut error.details {
            details["causes"] = causes.into();
        }
        error
    }

    /// 404 of a path that no resource has.
    pub fn no_resource() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(json!({}));
        error
    }

    /// 405 of a method that a path does not have.
    pub fn no_method() -> Self {
        let text = "the server does not allow this method on the requested resource";
        let mut error = Self::new(405, "MethodNotAllowed", text);
        error.details = Some(json!({}));
        error
    }

    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            format!(
                "{verb} is not supported on resources of kind {:?}",
                qualified(group, resource)
            ),
        )
        .about(group, resource, "")
    }

    /// 410: the revision asked for was compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut error = Self::new(504, "Timeout", message);
        error.details = Some(json!({ "retryAfterSeconds": retry_after_seconds }));
        error
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut error = Self::new(429, "TooManyRequests", message);
        error.details = Some(json!({ "retryAfterSeconds": retry_after_seconds }));
        error
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 500, in upstream's words: `Internal error occurred: ...`.
    pub fn internal(message: impl fmt::Display) -> Self {
        let mut error = Self::new(500, "InternalError", format!("Internal error occurred: {message}"));
        error.details = Some(json!({"causes": [{"message": message.to_string()}]}));
        error
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.as_ref().into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

impl std::error::Error for ApiError {}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_string()
    } else {
        format!("{resource}.{group}")
    }
}
