//! Built-in kinds as declared types, from the API's own descriptors: what the type
//! check of an admission policy sees.

use crate::decl::{DeclType, Field, ListSemantics, ObjectType, escape};
use crate::types::Type;
use skiff_api::schema::{self, Kind, ListType, Shape};

impl DeclType {
    /// The type of a built-in kind; `None` where there is no such kind. Its fields are
    /// made when asked for.
    pub fn of_builtin(group: &str, version: &str, kind: &str) -> Option<Self> {
        let builtin = schema::lookup_gvk(group, version, kind)?;
        Some(Self::object(ObjectType::of_builtin(builtin.name.to_string(), builtin)))
    }
}

/// The field that an expression calls `name`, escaped or, where that is no keyword, as it stands.
pub(crate) fn field(builtin: &'static schema::Type, name: &str) -> Option<Field> {
    let found = builtin.field(name).or_else(|| {
        builtin
            .fields()
            .iter()
            .find(|field| escape(&field.name).as_deref() == Some(name))
    })?;
    Some(Field {
        name: found.name.to_string(),
        decl: declare(found),
        required: found.required,
    })
}

fn declare(field: &'static schema::Field) -> DeclType {
    let one = of_kind(&field.kind);
    let semantics = || match field.list {
        ListType::Set => ListSemantics::Set,
        ListType::Map => ListSemantics::Map(field.keys.iter().map(|key| key.to_string()).collect()),
        ListType::Unset | ListType::Atomic => ListSemantics::Atomic,
    };
    match field.shape {
        Shape::One => one,
        Shape::List => DeclType::list(one, None, semantics()),
        Shape::Map => DeclType::map(one, None),
        Shape::MapOfList => DeclType::map(DeclType::list(one, None, semantics()), None),
    }
}

fn of_kind(kind: &'static Kind) -> DeclType {
    match kind {
        Kind::String | Kind::Quantity => DeclType::string(None),
        Kind::Bool => DeclType::scalar(Type::Bool),
        Kind::Int32 | Kind::Int64 => DeclType::scalar(Type::Int),
        Kind::Double => DeclType::scalar(Type::Double),
        Kind::Bytes => DeclType::scalar(Type::Bytes),
        Kind::Time | Kind::MicroTime => DeclType::scalar(Type::Timestamp),
        Kind::Duration => DeclType::string(None),
        Kind::Object(_) => match kind.as_type() {
            Some(builtin) => DeclType::object(ObjectType::of_builtin(builtin.name.to_string(), builtin)),
            None => DeclType::dynamic(),
        },
        _ => DeclType::dynamic(),
    }
}
