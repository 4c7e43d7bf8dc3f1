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
