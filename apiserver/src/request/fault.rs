//! What is wrong with the options of a request, in upstream's words
//! (`apimachinery/pkg/apis/meta/v1/validation`). Pure.

use skiff_api::{ApiError, FieldError, FieldErrorKind};
use std::num::{IntErrorKind, ParseIntError};

/// Longest name of a field manager, as upstream.
const MANAGER_BYTES_MAX: usize = 128;

/// The options type that a verb reads. `Write` stands for the three that share their members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    List,
    Create,
    Update,
    Patch,
    Write,
    Delete,
}

impl OptionKind {
    pub fn is_write(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Patch | Self::Write)
    }

    /// Whether an option of this kind is one of `asked`'s.
    pub fn is(self, asked: Self) -> bool {
        self == asked || (self == Self::Write && asked.is_write())
    }

    fn name(self) -> &'static str {
        match self {
            Self::List => "ListOptions",
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch | Self::Write => "PatchOptions",
            Self::Delete => "DeleteOptions",
        }
    }

    /// 422 if there are errors.
    pub fn invalid(self, errors: &[FieldError]) -> Result<(), ApiError> {
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid("meta.k8s.io", self.name(), "", errors))
    }
}

/// One option that is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Not of its type: the whole query is refused.
    Unreadable {
        key: &'static str,
        text: String,
    },
    Refused(FieldError),
}

impl Fault {
    pub fn key(&self) -> &str {
        match self {
            Self::Unreadable { key, .. } => key,
            Self::Refused(error) => &error.field,
        }
    }

    pub fn unreadable(&self) -> Option<ApiError> {
        match self {
            Self::Unreadable { text, .. } => Some(ApiError::bad_request(text)),
            Self::Refused(_) => None,
        }
    }

    pub fn refused(&self) -> Option<FieldError> {
        match self {
            Self::Refused(error) => Some(error.clone()),
            Self::Unreadable { .. } => None,
        }
    }

    /// This fault as the whole answer.
    pub fn alone(&self, kind: OptionKind) -> ApiError {
        match self {
            Self::Unreadable { text, .. } => ApiError::bad_request(text),
            Self::Refused(error) => ApiError::invalid("meta.k8s.io", kind.name(), "", std::slice::from_ref(error)),
        }
    }

    pub fn number(key: &'static str, value: &str, error: &ParseIntError) -> Self {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Self::Unreadable {
            key,
            text: format!("strconv.ParseInt: parsing {value:?}: {why}"),
        }
    }

    pub fn not_supported(field: &str, value: &str, supported: &[&str]) -> Self {
        Self::Refused(FieldError::not_supported(field, &value.into(), supported))
    }

    pub fn propagation(value: &str) -> Self {
        Self::not_supported(
            "propagationPolicy",
            value,
            &["Foreground", "Background", "Orphan", "nil"],
        )
    }

    /// `None` if all values are known; they are shown as Go prints a slice.
    pub fn dry_run(values: &[&str]) -> Option<Self> {
        if values.iter().all(|value| *value == "All") {
            return None;
        }
        let shown: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        Some(Self::Refused(FieldError {
            field: "dryRun".into(),
            kind: FieldErrorKind::NotSupported,
            detail: format!(
                "Unsupported value: []string{{{}}}: supported values: \"All\"",
                shown.join(", ")
            ),
        }))
    }
}

/// A field manager's name is short and printable.
pub(super) fn manager(name: &str) -> Vec<FieldError> {
    let path = "fieldManager";
    let mut errors = Vec::new();
    if name.len() > MANAGER_BYTES_MAX {
        errors.push(FieldError::too_long(path, MANAGER_BYTES_MAX));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| !printable(*c)) {
        errors.push(FieldError {
            field: path.into(),
            kind: FieldErrorKind::Invalid,
            detail: format!(
                "Invalid value: {}: invalid character {} (at position {at})",
                quoted(name),
                code_point(c)
            ),
        });
    }
    errors
}

/// Go's `unicode.IsPrint`, as far as it matters: of all spaces only U+0020.
fn printable(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace() || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{feff}'))
}

/// Go's `%#U`: the character is shown too if it can be.
fn code_point(c: char) -> String {
    let number = u32::from(c);
    if printable(c) {
        format!("U+{number:04X} '{c}'")
    } else {
        format!("U+{number:04X}")
    }
}

/// Go's `%q`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if printable(c) => out.push(c),
            c if c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}
