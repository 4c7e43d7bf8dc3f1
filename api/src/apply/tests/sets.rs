//! Field sets: their operations, what is owned, what differs.

use super::*;

#[test]
fn set_operations() {
    let a = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:d": {"f:e": {}}}));
    let b = set(json!({"f:b": {}, "f:d": {".": {}}, "k:{\"y\":1,\"x\":2}": {"f:z": {}}}));
    let mut union = a.clone();
    union.union(&b);
    assert_eq!(
        union,
        set(
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}, "f:d": {".": {}, "f:e": {}}, "k:{\"x\":2,\"y\":1}": {"f:z": {}}})
        )
    );
    assert_eq!(a.intersection(&b), set(json!({"f:b": {}})));
    let mut rest = a.clone();
    assert!(rest.subtract(&b));
    assert_eq!(rest, set(json!({"f:a": {}, "f:b": {"f:c": {}}, "f:d": {"f:e": {}}})));
    assert!(!rest.subtract(&b));
    assert!(a.is_subset(&union) && b.is_subset(&union) && !union.is_subset(&a));
    assert!(a.contains(&["f:b"]) && a.contains(&["f:b", "f:c"]) && !a.contains(&["f:d"]));
    assert_eq!(
        a.leaves(),
        set(json!({"f:a": {}, "f:b": {"f:c": {}}, "f:d": {"f:e": {}}}))
    );
    let mut made = FieldSet::default();
    made.insert(&["f:d", "f:e"]);
    assert!(made.is_subset(&a) && made.contains(&["f:d", "f:e"]));
    for bad in [
        json!([]),
        json!({"x:a": {}}),
        json!({"f:a": 1}),
        json!({"k:[]": {}}),
        json!({"a": {}}),
    ] {
        assert_eq!(FieldSet::parse(&bad), None, "{bad}");
    }
    assert_eq!(set(json!({"f:a": {".": {}}})), set(json!({"f:a": {}})));
}

#[test]
fn what_a_configuration_owns() {
    assert_eq!(
        field_set(ty("Deployment"), &deployment()).into_value(),
        json!({
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:command": {}, "f:image": {}, "f:name": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    "f:resources": {"f:limits": {"f:cpu": {}}}}}}}}
        })
    );
    // Sets, atomic maps, empty objects.
    let pod = json!({"metadata": {"finalizers": ["x/y"]}, "spec": {"nodeSelector": {"a": "b"}, "securityContext": {},
        "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"key": "k"}]}});
    assert_eq!(
        field_set(ty("Pod"), &pod).into_value(),
        json!({"f:metadata": {"f:finalizers": {"v:\"x/y\"": {}}},
            "f:spec": {"f:nodeSelector": {}, "f:securityContext": {}, "f:tolerations": {},
                "f:volumes": {"k:{\"name\":\"v\"}": {".": {}, "f:emptyDir": {}, "f:name": {}}}}})
    );
}

#[test]
fn what_a_creator_owns() {
    let made = created("Deployment", deployment(), &who("kubectl-create", "apps/v1", T1));
    let entry = entry(&made, "kubectl-create");
    assert_eq!(
        (
            &entry["operation"],
            &entry["time"],
            &entry["apiVersion"],
            &entry["fieldsType"]
        ),
        (&json!("Update"), &json!(T1), &json!("apps/v1"), &json!("FieldsV1"))
    );
    assert_eq!(
        entry["fieldsV1"],
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:command": {}, "f:image": {}, "f:name": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}}}}}}}
        })
    );
}

#[test]
fn comparisons() {
    let a = json!({"metadata": {"name": "p", "labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]},
        "spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "nodeSelector": {"a": "b"}}});
    let b = json!({"metadata": {"name": "q", "uid": "u", "labels": {"a": "3", "c": "2"}, "finalizers": ["y", "z"]},
        "spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "1"}], "nodeSelector": {"c": "d"}}});
    let found = compare(ty("Pod"), &a, &b);
    let show = |set: &FieldSet| set.clone().into_value();
    assert_eq!(
        show(&found.added),
        json!({"f:metadata": {"f:finalizers": {"v:\"z\"": {}}, "f:labels": {"f:c": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}}})
    );
    assert_eq!(
        show(&found.modified),
        json!({"f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"b\"}": {"f:image": {}}}, "f:nodeSelector": {}}})
    );
    assert_eq!(
        show(&found.removed),
        json!({"f:metadata": {"f:finalizers": {"v:\"x\"": {}}, "f:labels": {"f:b": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}}}}})
    );
    assert!(compare(ty("Pod"), &a, &a).is_same());
    // Env may hold one name twice; the pair is one item.
    let env = |v: &str| json!({"spec": {"containers": [{"name": "a", "env": [{"name": "E", "value": "1"}, {"name": "E", "value": v}, {"name": "F"}]}]}});
    let mut longer = env("2");
    longer["spec"]["containers"][0]["env"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "E", "value": "9"}));
    let found = compare(ty("Pod"), &env("2"), &longer);
    assert_eq!(
        show(&found.modified),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:env": {"k:{\"name\":\"E\"}": {}}}}}})
    );
    assert!(found.added.is_empty() && found.removed.is_empty());
}
