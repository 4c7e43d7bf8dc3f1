//! What kubectl makes of two objects, a strategic merge patch that leads from one to
//! the other, leads there: an oracle's differences, applied, over random pairs.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use skiff_api::patch::strategic_merge;
use skiff_api::schema;

/// A pod with containers and their variables (lists by key), finalizers (a set), labels
/// (a map), tolerations (a list that is replaced) and plain members.
fn pod() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    let word = prop::option::of("[xy]");
    let env = prop::collection::btree_map(key.clone(), "[12]", 0..4);
    let containers = prop::collection::btree_map(key.clone(), (word.clone(), env), 0..5);
    let shuffled = containers.prop_flat_map(|map| Just(map.into_iter().collect::<Vec<_>>()).prop_shuffle());
    let labels = prop::collection::btree_map(key.clone(), "[xy]", 0..4);
    let set = prop::collection::btree_set(key.clone(), 0..4)
        .prop_flat_map(|set| Just(set.into_iter().collect::<Vec<_>>()).prop_shuffle());
    let tolerations = prop::collection::vec(key, 0..3);
    (shuffled, labels, set, tolerations, word).prop_map(|(containers, labels, finalizers, tolerations, host)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, (image, env))| {
                let env: Vec<Value> = env.into_iter().map(|(k, v)| json!({"name": k, "value": v})).collect();
                let mut made = json!({"name": name, "env": env});
                if let Some(image) = image {
                    made["image"] = image.into();
                }
                made
            })
            .collect();
        let tolerations: Vec<Value> = tolerations.into_iter().map(|key| json!({"key": key})).collect();
        let mut made = json!({"metadata": {"labels": labels, "finalizers": finalizers},
            "spec": {"containers": containers, "tolerations": tolerations}});
        if let Some(host) = host {
            made["spec"]["hostname"] = host.into();
        }
        made
    })
}

/// The patch that leads from one object to another.
fn difference(from: &Value, to: &Value) -> Map<String, Value> {
    let (from, to) = (from.as_object().expect("an object"), to.as_object().expect("an object"));
    let mut patch = Map::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in to {
        match (from.get(key), new) {
            (Some(old), new) if old == new => {}
            (Some(old @ Value::Object(_)), Value::Object(_)) => {
                patch.insert(key.clone(), Value::Object(difference(old, new)));
            }
            (Some(Value::Array(old)), Value::Array(new)) => list_difference(key, old, new, &mut patch),
            _ => drop(patch.insert(key.clone(), new.clone())),
        }
    }
    patch
}

fn list_difference(key: &str, old: &[Value], new: &[Value], patch: &mut Map<String, Value>) {
    let mut put = |prefix: &str, list: Vec<Value>| {
        if !list.is_empty() || prefix.starts_with("$setElementOrder") {
            patch.insert(format!("{prefix}{key}"), list.into());
        }
    };
    match key {
        "finalizers" => {
            put("$setElementOrder/", new.to_vec());
            put(
                "$deleteFromPrimitiveList/",
                old.iter().filter(|v| !new.contains(v)).cloned().collect(),
            );
            put("", new.iter().filter(|v| !old.contains(v)).cloned().collect());
        }
        "containers" | "env" => {
            let find = |list: &[Value], item: &Value| list.iter().find(|other| other["name"] == item["name"]).cloned();
            put(
                "$setElementOrder/",
                new.iter().map(|item| json!({"name": item["name"]})).collect(),
            );
            let mut items: Vec<Value> = Vec::new();
            for item in new {
                match find(old, item) {
                    Some(old) if old == *item => {}
                    Some(old) => {
                        let mut changed = Value::Object(difference(&old, item));
                        changed["name"] = item["name"].clone();
                        items.push(changed);
                    }
                    None => items.push(item.clone()),
                }
            }
            let gone = old.iter().filter(|item| find(new, item).is_none());
            items.extend(gone.map(|item| json!({"name": item["name"], "$patch": "delete"})));
            put("", items);
        }
        _ => drop(patch.insert(key.into(), new.to_vec().into())),
    }
}

proptest! {
    #[test]
    fn differences_lead_there(from in pod(), to in pod()) {
        let ty = schema::lookup("io.k8s.api.core.v1.Pod").expect("Pod");
        let patch = Value::Object(difference(&from, &to));
        let mut made = from.clone();
        strategic_merge(ty, &mut made, patch.clone()).map_err(|e| TestCaseError::fail(format!("{e} {patch}")))?;
        prop_assert_eq!(&made, &to, "{}", patch);
        // Once there, the same patch changes nothing.
        strategic_merge(ty, &mut made, patch.clone()).map_err(|e| TestCaseError::fail(format!("{e} {patch}")))?;
        prop_assert_eq!(&made, &to, "again: {}", patch);
    }

    /// Two who change different things do not get in each other's way.
    #[test]
    fn patches_of_different_things_commute(live in pod(), labels in pod(), spec in pod()) {
        let ty = schema::lookup("io.k8s.api.core.v1.Pod").expect("Pod");
        let mut one = live.clone();
        one["metadata"] = labels["metadata"].clone();
        let mut other = live.clone();
        other["spec"] = spec["spec"].clone();
        let patches = [difference(&live, &one), difference(&live, &other)].map(Value::Object);
        let apply = |order: [usize; 2]| {
            let mut made = live.clone();
            for at in order {
                strategic_merge(ty, &mut made, patches[at].clone()).expect("applies");
            }
            made
        };
        prop_assert_eq!(apply([0, 1]), apply([1, 0]));
        prop_assert_eq!(apply([0, 1]), json!({"metadata": one["metadata"], "spec": other["spec"]}));
    }
}
