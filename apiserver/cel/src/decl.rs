//! Declared types of data: what a schema says about a JSON value. Beyond the
//! language's types they know sizes (for the cost estimate), how text is to be read
//! (dates, durations, bytes) and how lists compare.

use crate::types::Type;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Largest request body: the bound of every size that no schema bounds.
pub const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// The declared type of a JSON value.
#[derive(Debug, Clone)]
pub struct DeclType {
    pub shape: Shape,
    /// The most characters, bytes, items or entries; 0 for what has no size.
    pub max_elements: u64,
    /// The fewest bytes of its JSON.
    pub min_serialized_size: u64,
}

#[derive(Debug, Clone)]
pub enum Shape {
    /// Neither list, map nor object.
    Scalar(Type),
    List {
        items: Arc<DeclType>,
        semantics: ListSemantics,
    },
    /// Keys are strings.
    Map {
        values: Arc<DeclType>,
    },
    Object(Arc<ObjectType>),
}

/// `x-kubernetes-list-type`: how lists compare and add up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListSemantics {
    #[default]
    Atomic,
    /// Equal whatever the order; `+` adds what is missing.
    Set,
    /// The keys of an item. Equal whatever the order; `+` replaces items of the same keys.
    Map(Vec<String>),
}

/// An object type: a name and fields.
#[derive(Debug)]
pub struct ObjectType {
    name: String,
    /// By the name that expressions use.
    fields: BTreeMap<String, Field>,
    /// Fields come from a built-in type, made when asked for: such types may be recursive.
    builtin: Option<&'static skiff_api::schema::Type>,
    /// Any field may be set, to anything.
    open: bool,
}

#[derive(Debug, Clone)]
pub struct Field {
    /// The JSON name; expressions use [`escape`] of it.
    pub name: String,
    pub decl: DeclType,
    pub required: bool,
}

impl DeclType {
    /// A type without a size of its own: numbers, booleans, Kubernetes types, `dyn`.
    pub fn scalar(ty: Type) -> Self {
        let min_serialized_size = match ty {
            Type::Bool => 4,
            Type::String | Type::Bytes => 2,
            Type::Timestamp => 21,
            Type::Duration => 3,
            _ => 1,
        };
        Self {
            shape: Shape::Scalar(ty),
            max_elements: 0,
            min_serialized_size,
        }
    }

    /// A value of any type and any size that a request can have.
    pub fn dynamic() -> Self {
        Self {
            max_elements: REQUEST_BYTES_MAX - 2,
            ..Self::scalar(Type::Dyn)
        }
    }

    pub fn string(max_chars: Option<u64>) -> Self {
        Self {
            max_elements: max_chars.unwrap_or(REQUEST_BYTES_MAX - 2),
            ..Self::scalar(Type::String)
        }
    }

    /// Without `max_items`, as many as fit into a request.
    pub fn list(items: DeclType, max_items: Option<u64>, semantics: ListSemantics) -> Self {
        let max_elements = max_items.unwrap_or((REQUEST_BYTES_MAX - 2) / (items.min_serialized_size + 1));
        Self {
            shape: Shape::List {
                items: Arc::new(items),
                semantics,
            },
            max_elements,
            min_serialized_size: 2,
        }
    }

    /// Without `max_properties`, as many as fit into a request.
    pub fn map(values: DeclType, max_properties: Option<u64>) -> Self {
        // The shortest entry: two quotes, a one-letter key, colon, comma and the value.
        let max_elements = max_properties.unwrap_or((REQUEST_BYTES_MAX - 2) / (values.min_serialized_size + 6));
        Self {
            shape: Shape::Map {
                values: Arc::new(values),
            },
            max_elements,
            min_serialized_size: 2,
        }
    }

    pub fn object(object: ObjectType) -> Self {
        Self {
            shape: Shape::Object(Arc::new(object)),
            max_elements: 0,
            min_serialized_size: 2,
        }
    }

    /// The type the checker works with.
    pub fn cel_type(&self) -> Type {
        match &self.shape {
            Shape::Scalar(ty) => ty.clone(),
            Shape::List { items, .. } => Type::list(items.cel_type()),
            Shape::Map { values } => Type::map(Type::String, values.cel_type()),
            Shape::Object(object) => Type::Object(object.clone()),
        }
    }

    pub(crate) fn items(&self) -> Option<&DeclType> {
        match &self.shape {
            Shape::List { items, .. } => Some(items),
            Shape::Map { values } => Some(values),
            _ => None,
        }
    }
}

impl ObjectType {
    /// Fields whose names cannot be written in an expression are left out.
    pub fn new(name: impl Into<String>, fields: impl IntoIterator<Item = Field>) -> Self {
        Self {
            name: name.into(),
            fields: fields
                .into_iter()
                .filter_map(|field| Some((escape(&field.name)?, field)))
                .collect(),
            builtin: None,
            open: false,
        }
    }

    /// A type without declared fields, of which any may be set.
    pub(crate) fn open(name: impl Into<String>) -> Self {
        Self {
            open: true,
            ..Self::new(name, [])
        }
    }

    pub(crate) fn of_builtin(name: String, builtin: &'static skiff_api::schema::Type) -> Self {
        Self {
            name,
            fields: BTreeMap::new(),
            builtin: Some(builtin),
            open: false,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The field that an expression calls `name`.
    pub fn field(&self, name: &str) -> Option<Cow<'_, Field>> {
        match self.builtin {
            None if self.open => Some(Cow::Owned(Field {
                name: unescape(name),
                decl: DeclType::dynamic(),
                required: false,
            })),
            None => self.own_field(name).map(Cow::Borrowed),
            Some(builtin) => crate::builtin::field(builtin, name).map(Cow::Owned),
        }
    }

    /// The same for types that hold their fields, which those of data always do.
    pub(crate) fn own_field(&self, name: &str) -> Option<&Field> {
        // A keyword may be written as it stands where a field is named.
        self.fields.get(name).or_else(|| {
            let escaped = RESERVED.contains(&name).then(|| escape(name))?;
            self.fields.get(&escaped?)
        })
    }

    pub(crate) fn by_json_name(&self, name: &str) -> Option<&DeclType> {
        self.own_field(&escape(name)?).map(|field| &field.decl)
    }

    pub(crate) fn own_fields(&self) -> &BTreeMap<String, Field> {
        &self.fields
    }
}

/// Words that are no names in expressions.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
];

/// A property's name as expressions write it; `None` where it cannot be written.
/// Source: <https://kubernetes.io/docs/reference/using-api/cel/#escaping>.
pub fn escape(name: &str) -> Option<String> {
    let first = name.chars().next()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if first.is_ascii_digit() || !name.chars().all(fits) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return Some(name.to_string());
    }
    let mut escaped = String::with_capacity(name.len() + 8);
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            escaped.push_str("__underscores__");
            rest = after;
            continue;
        }
        match c {
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            c => escaped.push(c),
        }
        rest = &rest[1..];
    }
    Some(escaped)
}

/// The JSON name of what an expression calls `name`: the way back from [`escape`].
fn unescape(name: &str) -> String {
    if let Some(word) = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && RESERVED.contains(&word)
    {
        return word.to_string();
    }
    const MARKS: [(&str, &str); 4] = [
        ("__underscores__", "__"),
        ("__dot__", "."),
        ("__dash__", "-"),
        ("__slash__", "/"),
    ];
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let mark = MARKS.iter().find(|(mark, _)| rest.starts_with(mark));
        if let Some((mark, meant)) = mark {
            plain.push_str(meant);
            rest = &rest[mark.len()..];
        } else {
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_names() {
        for (name, want) in [
            ("spec", Some("spec")),
            ("namespace", Some("__namespace__")),
            ("x-prop", Some("x__dash__prop")),
            ("redact__d", Some("redact__underscores__d")),
            ("a.b/c", Some("a__dot__b__slash__c")),
            ("_x", Some("_x")),
            ("1x", None),
            ("", None),
            ("ü", None),
            ("a b", None),
        ] {
            assert_eq!(escape(name).as_deref(), want, "{name}");
        }
    }
}
