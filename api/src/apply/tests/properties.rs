//! Properties of sets, comparisons and applies.

use super::*;
use proptest::prelude::*;

fn data() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec!["a", "b", "c", "d"]);
    let item = prop::sample::select(vec!["x", "y", "z"]);
    (
        prop::collection::btree_map(key.clone(), "[12]", 0..4),
        prop::collection::btree_map(key, ("[12]", prop::option::of("[12]")), 0..4),
        prop::collection::btree_set(item, 0..3),
    )
        .prop_map(|(labels, containers, finalizers)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, class))| match class {
                    Some(dir) => json!({"name": name, "image": image, "workingDir": dir}),
                    None => json!({"name": name, "image": image}),
                })
                .collect();
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels, "finalizers": finalizers},
                "spec": {"containers": containers}})
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn applying_twice_changes_nothing(live in data(), config in data()) {
        let live = created("Pod", live, &by("one"));
        let once = applied(Some(&live), &config, "me", true).unwrap();
        let mut later = who("me", "v1", T2);
        later.now = T2;
        let twice = apply(&tracking("Pod"), Some(&once), &config, &later, false).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn force_owns_all_that_was_applied(live in data(), config in data()) {
        let live = created("Pod", live, &by("one"));
        let forced = applied(Some(&live), &config, "me", true).unwrap();
        let own = field_set(ty("Pod"), &config);
        prop_assert_eq!(entry(&forced, "me")["fieldsV1"].as_object().cloned().unwrap_or_default(), own.0.clone());
        // The applied values are all there, and applying another's view of them is no conflict.
        prop_assert!(applied(Some(&forced), &config, "you", false).is_ok());
        let found = compare(ty("Pod"), &forced, &config);
        prop_assert!(found.added.is_empty(), "{:?}", found.added);
        prop_assert!(found.modified.intersection(&own).is_empty(), "{:?}", found.modified);
    }

    #[test]
    fn only_the_sole_owner_removes(first in data(), second in data(), other in data()) {
        let live = applied(None, &first, "me", true).unwrap();
        let live = applied(Some(&live), &other, "you", true).unwrap();
        let mine = set(fields(&live, "me").as_object().map_or(json!({}), |m| Value::Object(m.clone())));
        let next = applied(Some(&live), &second, "me", true).unwrap();
        let removed = compare(ty("Pod"), &live, &next).removed;
        let yours = field_set(ty("Pod"), &other);
        prop_assert!(removed.leaves().intersection(&yours).is_empty(), "{:?}", removed);
        // What was mine alone, and I no longer name, is gone.
        let mut gone = mine.clone();
        gone.subtract(&yours);
        gone.subtract(&field_set(ty("Pod"), &second));
        let left = field_set(ty("Pod"), &next).intersection(&gone);
        prop_assert!(left.leaves().is_empty(), "{:?}", left);
    }

    #[test]
    fn comparison_is_symmetric_and_exact(a in data(), b in data()) {
        let forth = compare(ty("Pod"), &a, &b);
        let back = compare(ty("Pod"), &b, &a);
        prop_assert_eq!(&forth.added, &back.removed);
        prop_assert_eq!(&forth.removed, &back.added);
        prop_assert_eq!(&forth.modified, &back.modified);
        prop_assert!(compare(ty("Pod"), &a, &a).is_same());
    }

    #[test]
    fn set_laws(a in data(), b in data()) {
        let (a, b) = (field_set(ty("Pod"), &a), field_set(ty("Pod"), &b));
        let mut union = a.clone();
        union.union(&b);
        prop_assert!(a.is_subset(&union) && b.is_subset(&union));
        let mut only = union.clone();
        only.subtract(&b);
        prop_assert!(only.is_subset(&a) && only.intersection(&b).is_empty());
        only.union(&b);
        prop_assert_eq!(&only, &union);
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(FieldSet::parse(&union.clone().into_value()), Some(union));
    }

    #[test]
    fn every_owned_leaf_is_there(live in data(), next in data(), config in data()) {
        let live = created("Pod", live, &by("one"));
        let new = updated("Pod", &live, &by("two"), |o| {
            o["metadata"]["labels"] = next["metadata"]["labels"].clone();
            o["spec"] = next["spec"].clone();
        });
        let new = applied(Some(&new), &config, "me", true).unwrap();
        let whole = compare(ty("Pod"), &Value::Null, &new).added;
        for entry in new["metadata"]["managedFields"].as_array().unwrap() {
            let leaves = set(entry["fieldsV1"].clone()).leaves();
            prop_assert!(leaves.is_subset(&whole) || entry["operation"] == "Apply", "{}", entry);
        }
    }
}

/// An object of a type with every field set, down to a depth.
fn sample(ty: &Type, depth: usize) -> Value {
    use crate::schema::{Kind, Shape};
    let mut object = serde_json::Map::new();
    for field in ty.fields() {
        let one = match &field.kind {
            Kind::Bool => json!(true),
            Kind::Int32 | Kind::Int64 | Kind::Double => json!(7),
            Kind::RawExtension => json!({"any": {"thing": [1]}}),
            Kind::FieldsV1 => json!({"f:x": {}}),
            Kind::Json | Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => json!({"x": 1}),
            kind => match kind.as_type() {
                Some(_) if depth == 0 => continue,
                Some(ty) => sample(ty, depth - 1),
                None => json!("text"),
            },
        };
        let value = match field.shape {
            Shape::One => one,
            Shape::List => json!([one]),
            Shape::Map => json!({"key": one}),
            Shape::MapOfList => json!({"key": [one]}),
        };
        object.insert(field.name.to_string(), value);
    }
    Value::Object(object)
}

#[test]
fn every_kind_can_be_applied_twice_and_taken_back() {
    let mut kinds = 0;
    for ty in crate::schema::all()
        .iter()
        .filter(|ty| ty.is_kind && ty.field("metadata").is_some())
    {
        let (group, version, kind) = ty.gvk();
        let api_version = crate::schema::api_version(group, version);
        if kind.ends_with("List") {
            continue;
        }
        let mut full = sample(ty, 6);
        full["apiVersion"] = api_version.clone().into();
        full["kind"] = kind.into();
        full["metadata"].as_object_mut().unwrap().remove("managedFields");
        let tracking = Tracking {
            ty,
            ignored: &[],
            versions: None,
        };
        let me = Writer {
            manager: "me",
            api_version: &api_version,
            subresource: "",
            now: T1,
        };
        let once = apply(&tracking, None, &full, &me, false).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let own = field_set(ty, &full);
        assert_eq!(fields(&once, "me"), own.clone().into_value(), "{kind}");
        assert_eq!(FieldSet::parse(&own.clone().into_value()), Some(own), "{kind}");
        let later = Writer { now: T2, ..me };
        assert_eq!(
            apply(&tracking, Some(&once), &full, &later, false).unwrap(),
            once,
            "{kind}"
        );
        assert!(compare(ty, &once, &full).is_same(), "{kind}");
        // A creator owns the same leaves, and updating with the same object changes nothing.
        let mut made = full.clone();
        track_update(&tracking, None, &mut made, &me);
        let mut again = full.clone();
        track_update(&tracking, Some(&made), &mut again, &later);
        assert_eq!(again, made, "{kind}");
        // Applying nothing takes everything back.
        let none = json!({"apiVersion": api_version, "kind": kind});
        let gone = apply(&tracking, Some(&once), &none, &later, false).unwrap();
        let left = field_set(ty, &gone);
        assert!(left.is_empty(), "{kind}: {left:?}");
        kinds += 1;
    }
    assert!(kinds > 70, "{kinds}");
}
