use super::*;
use serde_json::json;
use skiff_access::UserInfo;
use std::sync::Arc;

struct Cluster;

impl skiff_access::Objects for Cluster {
    fn get(&self, _: &str, resource: &str, _: &str, name: &str) -> Option<Arc<Value>> {
        (resource == "namespaces" && name != "gone")
            .then(|| Arc::new(json!({"metadata": {"name": name, "labels": {"name": name}}})))
    }

    fn list(&self, _: &str, _: &str, _: &str) -> Vec<Arc<Value>> {
        Vec::new()
    }

    fn generation(&self, _: &str, _: &str) -> u64 {
        0
    }
}

fn form<'a>(group: &'a str, version: &'a str, resource: &'a str) -> Form<'a> {
    let kind = crate::request::Gvk {
        group,
        version,
        kind: "Kind",
    };
    Form {
        resource: Gvr {
            group,
            version,
            resource,
        },
        kind,
    }
}

/// `OPERATION group/version/resource[/subresource] namespace/name`
fn meets(
    constraints: &Constraints,
    asked: &str,
    object: Value,
    old: Value,
    other: Option<Form<'_>>,
) -> Result<String, String> {
    let words: Vec<&str> = asked.split(' ').collect();
    let path: Vec<&str> = words[1].split('/').collect();
    let (namespace, name) = words[2].split_once('/').unwrap();
    let user = UserInfo::default();
    let equivalents: Vec<Form<'_>> = other.into_iter().collect();
    let request = Request {
        operation: match words[0] {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            _ => Operation::Connect,
        },
        user: &user,
        form: form(path[0], path[1], path[2]),
        equivalents: &equivalents,
        subresource: path.get(3).copied().unwrap_or(""),
        namespace,
        name,
        dry_run: false,
        options: &Value::Null,
    };
    let objects = Objects {
        object: &object,
        old: &old,
    };
    match constraints.meets(&request, objects, &Cluster) {
        Ok(Some(form)) => Ok(form.resource.version.to_string()),
        Ok(None) => Ok("no".into()),
        Err(error) => Err(error.message),
    }
}

#[test]
fn rules() {
    let cases = [
        // operations, groups, versions, resources, scope; the request; met?
        (
            json!([["CREATE"], [""], ["v1"], ["pods"], "*"]),
            "CREATE /v1/pods ns/p",
            true,
        ),
        (
            json!([["CREATE"], [""], ["v1"], ["pods"], "*"]),
            "UPDATE /v1/pods ns/p",
            false,
        ),
        (
            json!([["*"], ["*"], ["*"], ["*"], "*"]),
            "DELETE apps/v1/deployments ns/p",
            true,
        ),
        (
            json!([["*"], ["*"], ["*"], ["*"], "*"]),
            "UPDATE apps/v1/deployments/scale ns/p",
            false,
        ),
        (
            json!([["*"], ["*"], ["*"], ["*/*"], "*"]),
            "UPDATE apps/v1/deployments/scale ns/p",
            true,
        ),
        (
            json!([["*"], ["*"], ["*"], ["*/*"], "*"]),
            "UPDATE apps/v1/deployments ns/p",
            true,
        ),
        (
            json!([["*"], ["*"], ["*"], ["*/scale"], "*"]),
            "UPDATE apps/v1/deployments/scale ns/p",
            true,
        ),
        (
            json!([["*"], ["*"], ["*"], ["*/scale"], "*"]),
            "UPDATE apps/v1/deployments ns/p",
            false,
        ),
        (
            json!([["CONNECT"], [""], ["v1"], ["pods/*"], "*"]),
            "CONNECT /v1/pods/exec ns/p",
            true,
        ),
        (
            json!([["CONNECT"], [""], ["v1"], ["pods/*"], "*"]),
            "CONNECT /v1/services/proxy ns/p",
            false,
        ),
        (
            json!([["*"], ["apps"], ["v1beta1"], ["*"], "*"]),
            "CREATE apps/v1/deployments ns/p",
            false,
        ),
        (
            json!([["*"], [""], ["v1"], ["*"], "Namespaced"]),
            "CREATE /v1/namespaces ns/ns",
            false,
        ),
        (
            json!([["*"], [""], ["v1"], ["*"], "Cluster"]),
            "CREATE /v1/namespaces ns/ns",
            true,
        ),
        (
            json!([["*"], [""], ["v1"], ["*"], "Cluster"]),
            "CREATE /v1/nodes /n",
            true,
        ),
        (
            json!([["*"], [""], ["v1"], ["*"], "Namespaced"]),
            "CREATE /v1/pods ns/p",
            true,
        ),
        (
            json!([["*"], [""], ["v1"], ["*"], "Cluster"]),
            "CREATE /v1/pods ns/p",
            false,
        ),
    ];
    for (rule, asked, want) in cases {
        let rules = json!({"rules": [{"operations": rule[0], "apiGroups": rule[1], "apiVersions": rule[2],
            "resources": rule[3], "scope": rule[4]}]});
        let met = meets(&Constraints::of_webhook(&rules), asked, Value::Null, Value::Null, None).unwrap();
        assert_eq!(met != "no", want, "{rule} {asked}");
    }
    let none = meets(
        &Constraints::of_webhook(&json!({})),
        "CREATE /v1/pods ns/p",
        Value::Null,
        Value::Null,
        None,
    );
    assert_eq!(none.unwrap(), "no", "a webhook without rules");
    let all = meets(
        &Constraints::of_resources(&json!({})),
        "CREATE /v1/pods ns/p",
        Value::Null,
        Value::Null,
        None,
    );
    assert_eq!(all.unwrap(), "v1", "a binding without rules");
}

#[test]
fn other_forms_and_exclusions() {
    let any =
        |version: &str| json!({"operations": ["*"], "apiGroups": ["g"], "apiVersions": [version], "resources": ["*"]});
    let met = |constraints: Value, asked: &str| {
        let constraints = Constraints::of_resources(&constraints);
        meets(
            &constraints,
            asked,
            Value::Null,
            Value::Null,
            Some(form("g", "v2", "things")),
        )
        .unwrap()
    };
    assert_eq!(
        met(json!({"resourceRules": [any("v2")]}), "CREATE g/v1/things ns/p"),
        "v2"
    );
    assert_eq!(
        met(
            json!({"resourceRules": [any("v2"), any("v1")]}),
            "CREATE g/v1/things ns/p"
        ),
        "v1"
    );
    assert_eq!(
        met(
            json!({"resourceRules": [any("v2")], "matchPolicy": "Exact"}),
            "CREATE g/v1/things ns/p"
        ),
        "no"
    );
    assert_eq!(
        met(json!({"excludeResourceRules": [any("v2")]}), "CREATE g/v1/things ns/p"),
        "no"
    );
    let mut named = any("v1");
    named["resourceNames"] = json!(["a"]);
    assert_eq!(
        met(json!({"resourceRules": [named.clone()]}), "CREATE g/v1/things ns/a"),
        "v1"
    );
    assert_eq!(met(json!({"resourceRules": [named]}), "CREATE g/v1/things ns/b"), "no");
}

#[test]
fn selectors() {
    let labels = |text: &str| json!({"metadata": {"labels": {"l": text}}});
    let by =
        |key: &str, label: &str, value: &str| Constraints::of_resources(&json!({key: {"matchLabels": {label: value}}}));
    let object = by("objectSelector", "l", "x");
    let met = |c: &Constraints, asked: &str, new: Value, old: Value| meets(c, asked, new, old, None);
    assert_eq!(
        met(&object, "UPDATE /v1/pods ns/p", labels("x"), labels("y")).unwrap(),
        "v1"
    );
    assert_eq!(
        met(&object, "UPDATE /v1/pods ns/p", labels("y"), labels("x")).unwrap(),
        "v1"
    );
    assert_eq!(
        met(&object, "DELETE /v1/pods ns/p", Value::Null, labels("y")).unwrap(),
        "no"
    );
    let options = json!({"kind": "PodExecOptions"});
    assert_eq!(
        met(&object, "CONNECT /v1/pods/exec ns/p", options, Value::Null).unwrap(),
        "no"
    );
    let namespace = by("namespaceSelector", "name", "ns");
    assert_eq!(
        met(&namespace, "CREATE /v1/pods ns/p", Value::Null, Value::Null).unwrap(),
        "v1"
    );
    assert_eq!(
        met(&namespace, "CREATE /v1/pods other/p", Value::Null, Value::Null).unwrap(),
        "no"
    );
    assert_eq!(
        met(&namespace, "CREATE /v1/nodes /p", Value::Null, Value::Null).unwrap(),
        "v1"
    );
    // A namespace that is written is what the request says of it.
    let written = json!({"metadata": {"labels": {"name": "ns"}}});
    assert_eq!(
        met(&namespace, "CREATE /v1/namespaces gone/gone", written, Value::Null).unwrap(),
        "v1"
    );
    assert_eq!(
        met(&namespace, "CREATE /v1/pods gone/p", Value::Null, Value::Null).unwrap_err(),
        "namespaces \"gone\" not found"
    );
    let other = Constraints::of_webhook(&json!({"namespaceSelector": {"matchLabels": {"a": "b"}}, "rules": []}));
    assert_eq!(
        met(&other, "CREATE /v1/pods gone/p", Value::Null, Value::Null).unwrap(),
        "no",
        "not concerned"
    );
}
