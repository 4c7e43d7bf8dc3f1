//! What Go's JSON shows of members for which nothing was given: structs are values
//! in Go and always there, and some members are written even when they are zero.

use super::{Field, Kind, Shape, Type};
use crate::Value;
use serde_json::Map;

/// Works out the zero of every member of the built-in types.
pub(super) fn fill(types: &mut [Type]) {
    let zeros: Vec<Vec<Option<Value>>> = types
        .iter()
        .map(|ty| ty.fields.iter().map(|field| of(types, field)).collect())
        .collect();
    for (ty, zeros) in types.iter_mut().zip(zeros) {
        for (field, zero) in ty.fields.iter_mut().zip(zeros) {
            field.zero = zero;
        }
        ty.never_missing = (0..ty.fields.len() as u16)
            .filter(|i| ty.fields[usize::from(*i)].zero.is_some())
            .collect();
    }
}

/// Ends, because in Go no struct contains itself as a value.
fn of(types: &[Type], field: &Field) -> Option<Value> {
    let when_written = |zero: Value| field.always.then_some(zero);
    if field.shape != Shape::One || field.pointer {
        return when_written(Value::Null);
    }
    match &field.kind {
        Kind::String => when_written("".into()),
        Kind::Bool => when_written(false.into()),
        Kind::Int32 | Kind::Int64 => when_written(0.into()),
        Kind::Double => when_written(0.into()),
        Kind::Bytes => when_written(Value::Null),
        _ if field.omit_zero => None,
        Kind::Quantity => Some("0".into()),
        Kind::IntOrString => Some(0.into()),
        Kind::Duration => Some("0s".into()),
        Kind::Time | Kind::MicroTime | Kind::RawExtension | Kind::Json => Some(Value::Null),
        Kind::Object(id) => {
            let members = types[usize::from(id.0)].fields.iter();
            let members = members.filter_map(|f| Some((f.name.to_string(), of(types, f)?)));
            Some(Value::Object(members.collect::<Map<_, _>>()))
        }
        Kind::FieldsV1 | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings | Kind::Owned(_) => None,
    }
}
