//! Properties over generated objects of every kind: checking is idempotent, and an
//! object survives protobuf and JSON unchanged.

use super::*;
use crate::schema::{Field, Kind, Shape};
use proptest::prelude::*;
use serde_json::{Map, json};

/// A splittable stream of choices from one seed, so that a failing case is one number.
struct Choices(u64);

impl Choices {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.next(from.len() as u64) as usize].clone()
    }
}

fn object(ty: &Type, choices: &mut Choices, depth: u32) -> Value {
    let mut map = Map::new();
    for field in ty.fields().iter().filter(|f| !f.path().is_empty()) {
        // Ever fewer members further down, or a PodSpec would grow for ever.
        if choices.next(2 + u64::from(depth * depth)) == 0 {
            map.insert(field.name.to_string(), member(field, choices, depth));
        }
    }
    Value::Object(map)
}

fn member(field: &Field, choices: &mut Choices, depth: u32) -> Value {
    let many = |choices: &mut Choices| {
        (0..1 + choices.next(3))
            .map(|_| one(&field.kind, choices, depth))
            .collect::<Vec<_>>()
    };
    match field.shape {
        Shape::One => one(&field.kind, choices, depth),
        Shape::List => many(choices).into(),
        Shape::Map => many(choices)
            .into_iter()
            .zip(["a", "b/c", "ü"])
            .map(|(v, k)| (k.to_string(), v))
            .collect::<Map<_, _>>()
            .into(),
        Shape::MapOfList => json!({"k": many(choices), "none": []}),
    }
}

fn one(kind: &Kind, choices: &mut Choices, depth: u32) -> Value {
    match kind {
        Kind::String => choices.pick(&["", "x", "ünï", "a\nb", "0"]).into(),
        Kind::Bool => (choices.next(2) == 0).into(),
        Kind::Int32 => choices.pick(&[0, 1, -1, 300, i32::MIN, i32::MAX]).into(),
        Kind::Int64 => choices.pick(&[0, 1, -1, 1 << 40, i64::MIN, i64::MAX]).into(),
        Kind::Double => choices.pick(&[0.5, -2.25, 1e9]).into(),
        Kind::Bytes => choices.pick(&["aGk=", "/w==", "AAAA"]).into(),
        Kind::Quantity => choices.pick(&["0", "100m", "1Gi", "12e6", "1500M", "1Ki"]).into(),
        Kind::IntOrString => choices.pick(&[json!(0), json!(-5), json!("25%"), json!("")]),
        Kind::Time => choices.pick(&["2024-05-01T10:00:00Z", "1969-12-31T23:59:59Z"]).into(),
        Kind::MicroTime => choices
            .pick(&["2024-05-01T10:00:00.000001Z", "1969-12-31T23:59:59.500000Z"])
            .into(),
        Kind::Duration => choices.pick(&["1m0s", "0s", "-1.5s"]).into(),
        Kind::RawExtension | Kind::FieldsV1 => {
            choices.pick(&[json!({}), json!({"f:a": {".": {}}, "n": [1, null, "x"]})])
        }
        Kind::Json => choices.pick(&[json!(1), json!("a"), json!([{}]), json!({"b": null}), json!(false)]),
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => {
            let ty = json_schema_type().expect("JSONSchemaProps");
            let nested = object(ty, choices, depth + 3);
            match kind {
                Kind::SchemaOrArray => choices.pick(&[nested.clone(), json!([nested])]),
                Kind::SchemaOrBool => choices.pick(&[nested, json!(true), json!(false)]),
                _ => choices.pick(&[nested, json!(["a", "b"])]),
            }
        }
        Kind::Object(_) | Kind::Owned(_) => kind.as_type().map_or(Value::Null, |ty| object(ty, choices, depth + 1)),
    }
}

fn kinds() -> Vec<&'static Type> {
    let made = |ty: &&Type| ty.is_kind && ty.short() != "Table";
    crate::schema::all().iter().filter(made).collect()
}

/// Checking what was generated gives the object as Go would hold it. Required lists and
/// empty elements stay as they are, so one pass is the fixed point.
fn survives(ty: &Type, seed: u64) {
    let mut value = object(ty, &mut Choices(seed), 0);
    value["apiVersion"] = crate::schema::api_version(&ty.group, &ty.version).into();
    value["kind"] = ty.short().into();
    let report = check(ty, &mut value, FieldValidation::Strict).expect("generated objects are valid");
    assert_eq!(report, Report::default(), "{}", ty.name);
    let mut again = value.clone();
    check(ty, &mut again, FieldValidation::Strict).expect("still valid");
    assert_eq!(again, value, "{}: checking is idempotent", ty.name);
    let bytes = encode_proto(ty, &value).expect("encodes");
    assert_eq!(
        as_go_holds_it(ty, decode_proto(ty, &bytes)),
        value,
        "{}: protobuf",
        ty.name
    );
    assert_eq!(
        decode_json(&encode_json(&value)).expect("decodes"),
        (value, vec![]),
        "{}: JSON",
        ty.name
    );
}

/// Protobuf carries no nulls and no empty structs: the check puts them in.
fn as_go_holds_it(ty: &Type, decoded: Result<Value, CodecError>) -> Value {
    let mut value = decoded.expect("decodes");
    check(ty, &mut value, FieldValidation::Strict).expect("what was decoded is valid");
    value
}

#[test]
fn every_kind_survives_its_encodings() {
    for (i, ty) in kinds().into_iter().enumerate() {
        for seed in 0..8 {
            survives(ty, seed * 1000 + i as u64);
        }
    }
}

#[test]
fn a_list_of_encoded_items_is_the_list() {
    let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7", "remainingItemCount": 3},
        "items": [{"metadata": {"name": "a"}, "data": {"k": "v"}}, {"metadata": {"name": "b"}}]});
    let ty = crate::schema::lookup_gvk("", "v1", "ConfigMapList").expect("ConfigMapList");
    let item = crate::schema::lookup_gvk("", "v1", "ConfigMap").expect("ConfigMap");
    let mut items = Vec::new();
    for value in list["items"].as_array().expect("items") {
        put_list_item(&mut items, &encode_proto_bare(item, value).expect("encodes"));
    }
    let (head, tail) = list_envelope("v1", "ConfigMapList", &list["metadata"], items.len()).expect("encodes");
    assert_eq!([head, items, tail].concat(), encode_proto(ty, &list).expect("encodes"));
}

/// Kinds rarely reach the types far below them: here every type is the outermost.
#[test]
fn every_type_survives_protobuf() {
    let mut total = 0;
    for (i, ty) in crate::schema::all().iter().enumerate() {
        for seed in 0..8 {
            let mut value = object(ty, &mut Choices(seed * 1000 + i as u64), 0);
            check(ty, &mut value, FieldValidation::Strict).expect("generated objects are valid");
            let bytes = encode_proto_bare(ty, &value).expect("encodes");
            let decoded = as_go_holds_it(ty, decode_proto_bare(ty, &bytes));
            assert_eq!(decoded, value, "{}", ty.name);
            let mut direct = Vec::new();
            transcode_proto(ty, &encode_json(&value), &mut direct).expect("transcodes");
            assert_eq!(direct.len(), bytes.len(), "{}: from text", ty.name);
            let decoded = as_go_holds_it(ty, decode_proto_bare(ty, &direct));
            assert_eq!(decoded, value, "{}: from text", ty.name);
            total += bytes.len();
        }
    }
    assert!(
        total > 100_000,
        "the objects are too small to test anything: {total} bytes"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_objects_survive(which in 0..kinds().len(), seed: u64) {
        survives(kinds()[which], seed);
    }

    #[test]
    fn random_bytes_never_panic(which in 0..kinds().len(), bytes: Vec<u8>) {
        let _ = decode_proto_bare(kinds()[which], &bytes);
        let _ = decode_json(&bytes);
        let _ = decode_yaml(&bytes);
    }

    /// A cut or flipped message is an error or another object, never a panic.
    #[test]
    fn damaged_messages_never_panic(seed: u64, cut: u16, flip: u8) {
        let ty = crate::schema::lookup_gvk("", "v1", "Pod").expect("Pod");
        let mut bytes = encode_proto_bare(ty, &object(ty, &mut Choices(seed), 0)).expect("encodes");
        let at = usize::from(cut) % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= flip;
        }
        let _ = decode_proto_bare(ty, &bytes);
        let _ = decode_proto_bare(ty, &bytes[..at.min(bytes.len())]);
    }
}
