use super::*;
use serde_json::json;

#[test]
fn open_objects_take_any_field() {
    let env = Env::new().open_object("Object").dynamic("object");
    let source = "Object{metadata: Object.metadata{__namespace__: 'x', labels: {'a': object.b}}, spec: Object.spec{list: [Object.spec.list{n: 1}]}}";
    let program = env.compile(source).unwrap();
    assert_eq!(program.output().to_string(), "Object");
    let object = json!({"b": "c"});
    let mut bindings = Bindings::new();
    bindings.json("object", &object);
    let value = program.evaluate(&bindings, Limits::default()).value.unwrap();
    value.check_places("Object").unwrap();
    assert_eq!(
        value.to_json().unwrap(),
        json!({"metadata": {"namespace": "x", "labels": {"a": "c"}}, "spec": {"list": [{"n": 1}]}})
    );
    let wrong = env.compile("Object{spec: Object.status{n: 1}}").unwrap();
    let value = wrong.evaluate(&bindings, Limits::default()).value.unwrap();
    assert_eq!(
        value.check_places("Object").unwrap_err(),
        "unexpected type name \"Object.status\", expected \"Object.spec\", which matches field name path from root Object type"
    );
    assert!(env.compile("Objects{a: 1}").is_err());
}
