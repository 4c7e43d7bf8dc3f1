//! Admission policies, through the API.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Caller, config_map, fixture};

const BASE: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn constraints(resource: &str) -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": [resource]}]})
}

/// A policy over config maps and its binding; what `spec` and `bound` say comes on top.
async fn policy(admin: &Caller, name: &str, spec: Value, bound: Value) {
    let (code, answer) = try_policy(admin, name, spec).await;
    assert_eq!(code, 201, "{answer}");
    let mut binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": format!("{name}-b")}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    for (key, value) in bound.as_object().unwrap() {
        binding["spec"][key] = value.clone();
    }
    let (code, answer) = admin
        .post(&format!("{BASE}/validatingadmissionpolicybindings"), binding)
        .await;
    assert_eq!(code, 201, "{answer}");
}

async fn try_policy(admin: &Caller, name: &str, spec: Value) -> (u16, Value) {
    let mut object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": {"matchConstraints": constraints("configmaps")}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    admin.post(&format!("{BASE}/validatingadmissionpolicies"), object).await
}

async fn drop_policy(admin: &Caller, name: &str) {
    for plural in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
        let name = if plural.ends_with("bindings") {
            format!("{name}-b")
        } else {
            name.to_string()
        };
        assert_eq!(admin.delete(&format!("{BASE}/{plural}/{name}"), json!({})).await.0, 200);
    }
}

fn with_data(name: &str, data: Value) -> Value {
    let mut map = config_map(name, json!({}));
    map["data"] = data;
    map
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_refuses_in_upstreams_words() {
    let f = fixture().await;
    let admin = f.admin();
    let dry = format!("{MAPS}?dryRun=All");
    let cases = [
        (
            json!([{"expression": "object.data.size() < 2"}]),
            422,
            "Invalid",
            "failed expression: object.data.size() < 2",
        ),
        (
            json!([{"expression": "object.data.size() < 2", "message": "too much", "reason": "Forbidden"}]),
            403,
            "Forbidden",
            "too much",
        ),
        (
            json!([{"expression": "object.data.size() < 2", "message": "no", "messageExpression": "'has ' + string(object.data.size()) + ' by ' + request.userInfo.username"}]),
            422,
            "Invalid",
            "has 2 by admin",
        ),
        (
            json!([{"expression": "object.data.nothing == 'x'"}]),
            422,
            "Invalid",
            "expression 'object.data.nothing == 'x'' resulted in error: no such key: nothing",
        ),
        (
            json!([{"expression": "namespaceObject.metadata.name != 'default' || oldObject != null", "message": "not here"}]),
            422,
            "Invalid",
            "not here",
        ),
        (
            json!([{"expression": "!authorizer.group('').resource('pods').namespace('default').check('delete').allowed()", "message": "masters"}]),
            422,
            "Invalid",
            "masters",
        ),
        (
            json!([{"expression": "!authorizer.requestResource.check('create').allowed()", "message": "may create"}]),
            422,
            "Invalid",
            "may create",
        ),
    ];
    for (validations, code, reason, why) in cases {
        policy(&admin, "p", json!({"validations": validations}), json!({})).await;
        let (got, answer) = admin.post(&dry, with_data("m", json!({"a": "1", "b": "2"}))).await;
        let message = format!(
            "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p-b' denied request: {why}"
        );
        assert_eq!(
            (got, answer["reason"].as_str(), answer["message"].as_str()),
            (code, Some(reason), Some(message.as_str()))
        );
        assert_eq!(answer["details"]["name"], "m");
        drop_policy(&admin, "p").await;
        assert_eq!(
            admin.post(&dry, with_data("m", json!({"a": "1", "b": "2"}))).await.0,
            201
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_conditions_and_actions() {
    let f = fixture().await;
    let admin = f.admin();
    let spec = json!({
        "matchConditions": [{"name": "not-free", "expression": "!('free' in object.metadata.?labels.orValue({}))"}],
        "variables": [{"name": "keys", "expression": "object.data.map(k, k)"},
            {"name": "many", "expression": "variables.keys.size() > 1"}],
        "validations": [{"expression": "!variables.many", "messageExpression": "'keys: ' + variables.keys.join(',')"}]});
    policy(&admin, "p", spec, json!({"validationActions": ["Warn", "Audit"]})).await;
    let request = http::Request::post(MAPS)
        .header("content-type", "application/json")
        .body(http_body_util::Full::new(
            with_data("m", json!({"a": "1", "b": "2"})).to_string().into(),
        ))
        .unwrap();
    let response = admin.raw(request).await;
    assert_eq!(response.status(), 201);
    let warning = response.headers()["warning"].to_str().unwrap();
    let why = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-b': keys: a,b";
    assert_eq!(warning, format!("299 - \"{why}\""));
    let path = format!("{BASE}/validatingadmissionpolicybindings/p-b");
    let patch = json!({"spec": {"validationActions": ["Deny"]}});
    assert_eq!(admin.patch("merge-patch+json", &path, patch).await.0, 200);
    assert_eq!(
        admin.post(MAPS, with_data("n", json!({"a": "1", "b": "2"}))).await.0,
        422
    );
    let mut free = with_data("n", json!({"a": "1", "b": "2"}));
    free["metadata"]["labels"] = json!({"free": "yes"});
    assert_eq!(admin.post(MAPS, free).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters() {
    let f = fixture().await;
    let admin = f.admin();
    let spec = |kind: &str| {
        json!({"paramKind": {"apiVersion": "v1", "kind": kind}, "matchConstraints": constraints("secrets"),
        "validations": [{"expression": "params != null && object.metadata.name.startsWith(params.data.prefix)",
            "messageExpression": "'not ' + params.data.prefix"}]})
    };
    let secrets = "/api/v1/namespaces/default/secrets?dryRun=All";
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let denied = |answer: &Value| {
        answer["message"]
            .as_str()
            .unwrap()
            .split("denied request: ")
            .nth(1)
            .unwrap_or("")
            .to_string()
    };
    let named = |action: &str| json!({"paramRef": {"name": "limits", "parameterNotFoundAction": action}});
    policy(&admin, "p", spec("ConfigMap"), named("Deny")).await;
    let (code, answer) = admin.post(secrets, secret("x")).await;
    assert_eq!(
        (code, denied(&answer).as_str()),
        (
            422,
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        )
    );
    drop_policy(&admin, "p").await;
    policy(&admin, "p", spec("ConfigMap"), named("Allow")).await;
    assert_eq!(admin.post(secrets, secret("x")).await.0, 201);
    let mut limits = with_data("limits", json!({"prefix": "ok-"}));
    limits["metadata"]["labels"] = json!({"params": "yes"});
    assert_eq!(admin.post(MAPS, limits).await.0, 201);
    let (code, answer) = admin.post(secrets, secret("x")).await;
    assert_eq!((code, denied(&answer).as_str()), (422, "not ok-"));
    assert_eq!(admin.post(secrets, secret("ok-x")).await.0, 201);
    drop_policy(&admin, "p").await;
    let selected = json!({"paramRef": {"selector": {"matchLabels": {"params": "yes"}}, "namespace": "default", "parameterNotFoundAction": "Deny"}});
    policy(&admin, "p", spec("ConfigMap"), selected).await;
    assert_eq!(admin.post(secrets, secret("x")).await.0, 422);
    assert_eq!(admin.post(secrets, secret("ok-x")).await.0, 201);
    drop_policy(&admin, "p").await;
    policy(&admin, "p", spec("Nothing"), named("Allow")).await;
    let (code, answer) = admin.post(secrets, secret("ok-x")).await;
    assert_eq!(
        (code, denied(&answer).as_str()),
        (
            422,
            "failed to configure policy: failed to find resource referenced by paramKind: 'v1, Kind=Nothing'"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_cannot_work_are_refused() {
    let f = fixture().await;
    let admin = f.admin();
    let cases = [
        (
            json!({"validations": [{"expression": "object.x = 1"}]}),
            "spec.validations[0].expression",
            "Invalid value: \"object.x = 1\": compilation failed: ERROR: <input>:1:10: Syntax error",
        ),
        (
            json!({"validations": [{"expression": "object.x"}]}),
            "spec.validations[0].expression",
            "Invalid value: \"object.x\": must evaluate to bool but got dyn",
        ),
        (
            json!({"validations": [{"expression": "params == null"}]}),
            "spec.validations[0].expression",
            "Invalid value: \"params == null\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')",
        ),
        (
            json!({"validations": [{"expression": "true", "messageExpression": "1"}]}),
            "spec.validations[0].messageExpression",
            "Invalid value: \"1\": must evaluate to string but got int",
        ),
        (
            json!({"validations": [{"expression": "true"}], "variables": [{"name": "a-b", "expression": "1"}]}),
            "spec.variables[0].name",
            "Invalid value: \"a-b\": name is not a valid CEL identifier",
        ),
        (
            json!({"validations": [{"expression": "true"}], "matchConditions": [{"name": "n", "expression": "object.x"}]}),
            "spec.matchConditions[0].expression",
            "Invalid value: \"object.x\": must evaluate to bool but got dyn",
        ),
        (
            json!({"validations": [], "auditAnnotations": [{"key": "k", "valueExpression": "1"}]}),
            "spec.auditAnnotations[0].valueExpression",
            "Invalid value: \"1\": must evaluate to one of [string null_type] but got int",
        ),
        (
            json!({"validations": [{"expression": "true", "reason": "Gone"}]}),
            "spec.validations[0].reason",
            "Unsupported value: \"Gone\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ),
    ];
    for (spec, field, message) in cases {
        let (code, answer) = try_policy(&admin, "p", spec.clone()).await;
        assert_eq!(code, 422, "{spec}: {answer}");
        let causes = answer["details"]["causes"].as_array().unwrap();
        assert!(
            causes
                .iter()
                .any(|c| c["field"] == field && c["message"].as_str().unwrap().starts_with(message)),
            "{spec}: {answer}"
        );
    }
}

async fn mutation(admin: &Caller, name: &str, spec: Value) {
    let mut object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": {"matchConstraints": constraints("configmaps")}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    let (code, answer) = admin.post(&format!("{BASE}/mutatingadmissionpolicies"), object).await;
    assert_eq!(code, 201, "{answer}");
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": format!("{name}-b")}, "spec": {"policyName": name}});
    let (code, answer) = admin
        .post(&format!("{BASE}/mutatingadmissionpolicybindings"), binding)
        .await;
    assert_eq!(code, 201, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_policies_apply_and_patch() {
    let f = fixture().await;
    let admin = f.admin();
    let apply = "Object{metadata: Object.metadata{labels: {'by': 'policy', 'keys': variables.keys}}}";
    let patch = "[JSONPatch{op: 'test', path: '/data/a', value: '1'}, \
        JSONPatch{op: 'add', path: '/metadata/annotations', value: {'k': object.metadata.labels.keys}}]";
    mutation(
        &admin,
        "m",
        json!({"variables": [{"name": "keys", "expression": "string(object.data.size())"}],
        "matchConditions": [{"name": "c", "expression": "object.metadata.name != 'free'"}],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}]}),
    )
    .await;
    let (code, made) = admin.post(MAPS, with_data("m", json!({"a": "1", "b": "2"}))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["labels"], json!({"by": "policy", "keys": "2"}));
    assert_eq!(made["metadata"]["annotations"], json!({"k": "2"}));
    let (code, made) = admin.post(MAPS, with_data("free", json!({"a": "1"}))).await;
    assert_eq!((code, made["metadata"].get("annotations")), (201, None));
    // The test of the patch fails.
    let (code, answer) = admin.post(MAPS, with_data("x", json!({"a": "2"}))).await;
    assert_eq!((code, &answer["reason"]), (403, &json!("Invalid")));
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.starts_with("policy 'm' with binding 'm-b' denied request: JSON Patch: "),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mutating_policies_see_what_others_made() {
    let f = fixture().await;
    let admin = f.admin();
    let step = |mark: &str| {
        let expression = format!("Object{{data: {{'trail': object.data.?trail.orValue('') + '{mark}'}}}}");
        json!({"reinvocationPolicy": "IfNeeded",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]})
    };
    mutation(&admin, "a", step("a")).await;
    mutation(&admin, "b", step("b")).await;
    let (_, made) = admin.post(MAPS, with_data("m", json!({"k": "v"}))).await;
    assert_eq!(made["data"]["trail"], "abab", "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mutations_that_cannot_work_are_refused() {
    let f = fixture().await;
    let admin = f.admin();
    let cases = [
        (
            json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "{'a': 1}"}}),
            "applyConfiguration.expression",
            "Invalid value: \"{'a': 1}\": must evaluate to Object but got map(string, int)",
        ),
        (
            json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[1]"}}),
            "jsonPatch.expression",
            "Invalid value: \"[1]\": must evaluate to list(JSONPatch) but got list(int)",
        ),
        (
            json!({"patchType": "Merge"}),
            "patchType",
            "Unsupported value: \"Merge\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
        ),
    ];
    for (mutation, field, message) in cases {
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": "m"}, "spec": {"matchConstraints": constraints("configmaps"), "mutations": [mutation]}});
        let (code, answer) = admin.post(&format!("{BASE}/mutatingadmissionpolicies"), object).await;
        assert_eq!(code, 422, "{answer}");
        let cause = &answer["details"]["causes"][0];
        assert_eq!(
            (cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap()),
            (format!("spec.mutations[0].{field}").as_str(), message)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_checked_after_the_write() {
    let f = fixture().await;
    let admin = f.admin();
    let path = format!("{BASE}/validatingadmissionpolicies");
    let mut events = admin.watch(&format!("{path}?watch=1"), "application/json").await;
    let spec = json!({"validations": [{"expression": "object.data > 1"}]});
    assert_eq!(try_policy(&admin, "p", spec).await.0, 201);
    let policy = loop {
        let event = events.next().await.unwrap();
        if event["object"]["status"].get("typeChecking").is_some() {
            break event["object"].clone();
        }
    };
    assert_eq!(policy["status"]["observedGeneration"], 1);
    let warning = &policy["status"]["typeChecking"]["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
    let text = warning["warning"].as_str().unwrap();
    assert!(
        text.starts_with(
            "/v1, Kind=ConfigMap: ERROR: <input>:1:13: found no matching overload for '_>_' applied to '(map(string, string), int)'"
        ),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_raises_the_level_of_a_namespace_learns_of_its_pods() {
    let f = fixture().await;
    let admin = f.admin();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    admin.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    for name in ["b", "a"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"hostPID": true, "containers": [{"name": "c", "image": "i"}]}});
        let (code, answer) = admin.post("/api/v1/namespaces/default/pods", pod).await;
        assert_eq!(code, 201, "{answer}");
    }
    let patch = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let request = http::Request::patch("/api/v1/namespaces/default")
        .header("content-type", "application/merge-patch+json")
        .body(http_body_util::Full::new(patch.to_string().into()))
        .unwrap();
    let response = admin.raw(request).await;
    assert_eq!(response.status(), 200);
    let warnings: Vec<&str> = response
        .headers()
        .get_all("warning")
        .iter()
        .map(|w| w.to_str().unwrap())
        .collect();
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \\\"default\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"a (and 1 other pod): host namespaces\"",
        ]
    );
}
