//! Whatever a client may send, in bounded form: random and mutated input to every
//! decoder, selector, patch and apply. Nothing may panic, and nothing that was refused
//! may have been half done. `PROPTEST_CASES` raises the number of cases.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use skiff_api::apply::{self, Tracking, Writer};
use skiff_api::codec::{self, Encoding, FieldValidation};
use skiff_api::quantity::{self, Quantity};
use skiff_api::schema::{self, Type};
use skiff_api::selector::{FieldSelector, LabelSelector};
use skiff_api::{duration, patch, time};

const WRITER: Writer<'_> = Writer {
    manager: "me",
    api_version: "v1",
    subresource: "",
    now: "2024-05-01T10:00:00Z",
};

fn ty(name: &str) -> &'static Type {
    schema::lookup(name).expect(name)
}

fn kinds() -> Vec<&'static Type> {
    schema::all().iter().filter(|ty| ty.is_kind).collect()
}

/// Names that mean something, so that random trees reach deep into types and directives.
fn name() -> impl Strategy<Value = String> {
    let known = vec![
        "metadata",
        "spec",
        "status",
        "containers",
        "name",
        "env",
        "ports",
        "containerPort",
        "protocol",
        "volumes",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "uid",
        "resources",
        "limits",
        "cpu",
        "template",
        "selector",
        "matchLabels",
        "conditions",
        "type",
        "strategy",
        "managedFields",
        "fieldsV1",
        "f:spec",
        "k:{\"name\":\"a\"}",
        "v:1",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$setElementOrder/finalizers",
        "$deleteFromPrimitiveList/finalizers",
        "apiVersion",
        "kind",
        "data",
        "items",
    ];
    prop_oneof![9 => prop::sample::select(known).prop_map(str::to_string), 1 => any::<String>()]
}

fn leaf() -> impl Strategy<Value = Value> {
    let words = vec![
        "a",
        "b",
        "delete",
        "replace",
        "merge",
        "",
        "100m",
        "1Gi",
        "TCP",
        "v1",
        "Pod",
        "2024-05-01T10:00:00Z",
        "aGk=",
        "25%",
        "1h",
    ];
    prop_oneof![
        3 => prop::sample::select(words).prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (0i64..3).prop_map(Value::from),
        1 => any::<f64>().prop_map(|f| serde_json::Number::from_f64(f).map_or(Value::Null, Value::Number)),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 64, 5, |inner| {
        prop_oneof![
            3 => prop::collection::btree_map(name(), inner.clone(), 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(name(), tree(), 0..6)
        .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>()))
}

/// A pod that is right, to be damaged.
fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {"containers": [{"name": "a", "image": "i", "env": [{"name": "E", "value": "1"}], "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "500m"}}}], "volumes": [{"name": "v", "emptyDir": {}}]}})
}

/// Bytes cut, flipped, doubled and stuffed with others.
fn damaged(bytes: &[u8], damage: &[(u16, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, how, with) in damage {
        if bytes.is_empty() {
            break;
        }
        let at = usize::from(*at) % bytes.len();
        match how % 5 {
            0 => bytes[at] = *with,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, *with),
            3 => bytes.extend_from_within(at..),
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}

fn decode_every_way(ty: &Type, bytes: &[u8]) {
    for encoding in [Encoding::Json, Encoding::Yaml, Encoding::Protobuf] {
        for validation in [FieldValidation::Ignore, FieldValidation::Warn, FieldValidation::Strict] {
            let Ok((value, warnings)) = codec::decode_object(ty, bytes, encoding, validation) else {
                continue;
            };
            assert!(warnings.len() <= 300);
            // What was taken can be written in every encoding and is taken again.
            codec::encode_proto(ty, &value).expect("writes");
            let text = codec::encode_yaml(&value);
            let again = codec::decode_object(ty, &text, Encoding::Yaml, FieldValidation::Strict);
            let (again, _) = again.unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(&text)));
            assert_eq!(again, value);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_decode_or_are_refused(which in 0..kinds().len(), bytes: Vec<u8>) {
        decode_every_way(kinds()[which], &bytes);
    }

    #[test]
    fn damaged_bodies_decode_or_are_refused(damage in prop::collection::vec(any::<(u16, u8, u8)>(), 1..4)) {
        let pod_type = ty("io.k8s.api.core.v1.Pod");
        let proto = codec::encode_proto(pod_type, &pod()).expect("writes");
        for bytes in [codec::encode_json(&pod()), codec::encode_yaml(&pod()), proto] {
            decode_every_way(pod_type, &damaged(&bytes, &damage));
        }
    }

    #[test]
    fn random_objects_are_checked(which in 0..kinds().len(), value in object()) {
        decode_every_way(kinds()[which], &codec::encode_json(&value));
    }

    #[test]
    fn label_selectors_print_what_they_mean(text in "[a-c=!<>(),/ .\\-]{0,24}|[ainot, ()=!x]{0,24}|\\PC{0,16}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            let shown = selector.to_string();
            let again = LabelSelector::parse(&shown).map_err(|e| TestCaseError::fail(format!("{shown:?}: {e:?}")))?;
            prop_assert_eq!(again.to_string(), shown);
            selector.matches(|_| Some("5"));
        }
    }

    #[test]
    fn field_selectors_print_what_they_mean(text in "[ab.=!\\\\,]{0,24}|\\PC{0,16}") {
        if let Ok(selector) = FieldSelector::parse(&text) {
            let again = FieldSelector::parse(&selector.to_string());
            prop_assert_eq!(again.expect("parses"), selector);
        }
    }

    #[test]
    fn selector_objects_are_read(value in tree()) {
        let _ = LabelSelector::from_object(Some(&value));
    }

    #[test]
    fn quantities_have_one_canonical_form(text in "[-+]?[0-9.]{0,30}([numkKMGTPEi]{0,2}|[eE][-+]?[0-9]{0,12})|\\PC{0,8}") {
        if let Ok(canonical) = quantity::canonical(&text) {
            prop_assert_eq!(quantity::canonical(&canonical).expect("canonical"), canonical.clone());
            let (a, b): (Quantity, Quantity) = (canonical.parse().expect("parses"), text.parse().expect("parses"));
            prop_assert_eq!(a, b);
            let _ = (a + b, a - b, a.value(), a.milli_value(), a.sign(), (a - b).to_string());
            prop_assert!((a - b).is_zero());
        }
    }

    #[test]
    fn times_and_durations_are_read(text in "[-0-9T:.Z+hmsun]{0,30}|\\PC{0,12}") {
        let shown = time::parse(&text).map(time::format_micro);
        if let Some(shown) = shown {
            prop_assert_eq!(time::parse(&shown).map(time::format_micro), Some(shown));
        }
        let _ = time::parse_error(&text, true);
        if let Some(nanos) = duration::parse_go(&text) {
            prop_assert_eq!(duration::parse_go(&duration::format_go(nanos)), Some(nanos));
        }
    }

    #[test]
    fn strategic_and_merge_patches_apply_or_are_refused(live in object(), change in tree()) {
        for name in ["io.k8s.api.core.v1.Pod", "io.k8s.api.apps.v1.Deployment", "io.k8s.api.core.v1.PodSpec"] {
            let mut made = live.clone();
            let _ = patch::strategic_merge(ty(name), &mut made, change.clone());
        }
        let mut made = live.clone();
        if patch::merge_patch(&mut made, &change).is_ok() {
            let mut again = made.clone();
            patch::merge_patch(&mut again, &change).expect("applied before");
            prop_assert_eq!(again, made, "merging twice is merging once");
        }
    }

    #[test]
    fn json_patches_apply_whole_or_not_at_all(live in object(), operations in prop::collection::vec(
        (prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test", "burn"]), "(/(metadata|spec|labels|a|0|1|-|~0|~2|x)){0,4}",
            "(/(metadata|spec|labels|a|0|-)){0,3}", tree()), 0..6)) {
        let operations: Vec<Value> = operations
            .into_iter()
            .map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
            .collect();
        let mut made = live.clone();
        if let Err(error) = patch::json_patch(&mut made, &codec::encode_json(&operations.into())) {
            prop_assert!(matches!(error.code, 400 | 413 | 422));
            prop_assert_eq!(made, live, "nothing happened");
        }
    }

    #[test]
    fn anything_may_be_applied(live in object(), config in object(), entries in tree()) {
        let tracking = Tracking { ty: ty("io.k8s.api.core.v1.Pod"), ignored: &[&["status"]], versions: None };
        let mut config = config;
        (config["apiVersion"], config["kind"]) = ("v1".into(), "Pod".into());
        if config["metadata"].is_object() {
            config["metadata"].as_object_mut().expect("an object").remove("managedFields");
        }
        let mut live = live;
        live["metadata"] = json!({"name": "p", "managedFields": entries});
        for force in [false, true] {
            let Ok(once) = apply::apply(&tracking, Some(&live), &config, &WRITER, force) else { continue };
            let twice = apply::apply(&tracking, Some(&once), &config, &WRITER, force);
            prop_assert!(!force || twice.is_ok(), "{:?}", twice);
        }
        let mut new = live.clone();
        apply::track_update(&tracking, Some(&live), &mut new, &WRITER);
        let mut new = config.clone();
        apply::track_update(&tracking, Some(&live), &mut new, &WRITER);
    }

    /// What the server makes of an applied object (zero values, canonical quantities) is no
    /// change to the one who applies it again.
    #[test]
    fn what_the_server_adds_is_no_change(image in "[a-c]", cpu in prop::sample::select(vec!["1", "500m", "0.5", "1000m"]), more: bool) {
        let pod_type = ty("io.k8s.api.core.v1.Pod");
        let tracking = Tracking { ty: pod_type, ignored: &[], versions: None };
        let mut config = pod();
        config["spec"]["containers"][0]["image"] = image.into();
        config["spec"]["containers"][0]["resources"]["limits"]["cpu"] = cpu.into();
        if more {
            config["spec"]["containers"].as_array_mut().expect("a list").push(json!({"name": "b", "env": [], "args": null}));
        }
        let checked = |live: Option<&Value>| {
            let mut made = apply::apply(&tracking, live, &config, &WRITER, true).expect("applies");
            codec::check(pod_type, &mut made, FieldValidation::Strict).expect("valid");
            made
        };
        let once = checked(None);
        prop_assert_eq!(&checked(Some(&once)), &once);
    }
}

/// Long and strange selectors take no longer than their length suggests.
#[test]
fn long_selectors_are_read_soon() {
    let started = std::time::Instant::now();
    let many = |part: &str| part.repeat((1 << 20) / part.len());
    for text in [
        many("a,"),
        many("!a,"),
        format!("a in ({})", many("b,")),
        many("("),
        many("="),
        many("a="),
        many(" "),
        "x".repeat(1 << 20),
    ] {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
