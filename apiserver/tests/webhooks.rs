//! Admission webhooks over real HTTPS servers.
#![allow(clippy::unwrap_used)]

mod support;
#[path = "support/webhook.rs"]
mod webhook;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use support::{Caller, config_map, fixture};
use webhook::{WebhookServer, patched};

const HTTP1: &[&str] = &["http/1.1"];
const HTTP2: &[&str] = &["h2", "http/1.1"];
const BASE: &str = "/apis/admissionregistration.k8s.io/v1";

/// A webhook of a configuration; what `more` says comes over the usual.
fn hook(name: &str, client: Value, rules: Value, more: Value) -> Value {
    let mut hook = json!({"name": name, "clientConfig": client, "rules": rules, "sideEffects": "None",
        "admissionReviewVersions": ["v1"]});
    for (key, value) in more.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

fn rule(operations: &[&str], group: &str, version: &str, resource: &str) -> Value {
    json!([{"operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": [resource]}])
}

async fn configure(admin: &Caller, kind: &str, name: &str, hooks: Value) {
    let (plural, kind) = match kind {
        "mutating" => ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
        _ => ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
    };
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "webhooks": hooks});
    let (code, answer) = admin.post(&format!("{BASE}/{plural}"), object).await;
    assert_eq!(code, 201, "{answer}");
}

fn maps() -> Value {
    rule(&["CREATE", "UPDATE", "DELETE"], "", "v1", "configmaps")
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_sees_the_request_and_changes_the_object() {
    let f = fixture().await;
    let admin = f.admin();
    for protocols in [HTTP1, HTTP2] {
        let server = WebhookServer::start(protocols, |_, _| {
            let mut response = patched(json!([{"op": "add", "path": "/data/added", "value": "yes"},
                {"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}}]));
            response["warnings"] = json!(["be careful"]);
            response
        })
        .await;
        configure(
            &admin,
            "mutating",
            "m",
            json!([hook("m.example.com", server.client("/m"), maps(), json!({}))]),
        )
        .await;
        let (code, made) = admin
            .post(
                &format!("{MAPS}?fieldManager=me&dryRun=All"),
                config_map("one", json!({})),
            )
            .await;
        assert_eq!(
            (code, &made["data"]),
            (201, &json!({"k": "v", "added": "yes"})),
            "{made}"
        );
        let (_, made) = admin
            .post(
                MAPS,
                json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"},
            "metadata": {"generateName": "one-"}}),
            )
            .await;
        assert_eq!(made["metadata"]["labels"], json!({"by": "hook"}), "{made}");
        let asked = server.take();
        let request = &asked[0];
        assert_eq!(
            request["kind"],
            json!({"group": "", "version": "v1", "kind": "ConfigMap"})
        );
        assert_eq!(
            request["resource"],
            json!({"group": "", "version": "v1", "resource": "configmaps"})
        );
        assert_eq!(request["requestKind"], request["kind"]);
        assert_eq!(request["requestResource"], request["resource"]);
        assert_eq!(
            (&request["name"], &request["namespace"]),
            (&json!("one"), &json!("default"))
        );
        assert_eq!(
            (&request["operation"], &request["dryRun"]),
            (&json!("CREATE"), &json!(true))
        );
        assert_eq!(request["userInfo"]["username"], "admin");
        assert_eq!(
            request["options"],
            json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1",
            "dryRun": ["All"], "fieldManager": "me"})
        );
        assert_eq!(
            (&request["oldObject"], &request["object"]["data"]),
            (&Value::Null, &json!({"k": "v"}))
        );
        assert_eq!(request["object"]["metadata"].get("uid"), None, "{request}");
        // A name that is yet to be generated is not there.
        assert_eq!(
            (asked[1].get("name"), &asked[1]["object"]["metadata"]["generateName"]),
            (None, &json!("one-"))
        );
        if protocols == HTTP2 {
            assert_eq!(server.connections(), 1, "the connection is kept");
        }
        admin
            .delete(&format!("{BASE}/mutatingwebhookconfigurations/m"), json!({}))
            .await;
        let (_, made) = admin.post(MAPS, config_map("two", json!({}))).await;
        assert_eq!(
            made["data"],
            json!({"k": "v"}),
            "what is not configured any more is not asked"
        );
        admin.delete(&format!("{MAPS}/two"), json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_reach_the_client() {
    let f = fixture().await;
    let admin = f.admin();
    let server = WebhookServer::start(HTTP2, |path, request| match path {
        "/reason" => json!({"allowed": request["name"] != "bad", "status": {"reason": "NotNice"}}),
        "/full" => json!({"allowed": request["operation"] != "DELETE", "warnings": ["told you"],
            "status": {"message": "keep it", "code": 451, "reason": "Legal", "details": {"kind": "x"}}}),
        "/uid" => json!({"allowed": true, "uid": "another"}),
        "/patch" => patched(json!([{"op": "add", "path": "/x", "value": 1}])),
        "/fault" => json!({"raw": "out of order", "code": 500}),
        "/text" => json!({"raw": "hello"}),
        _ => json!({"allowed": false}),
    })
    .await;
    let call = |path: &str| format!("https://{}", server.url(path).trim_start_matches("https://"));
    let cases = [
        ("/reason", 400, "admission webhook \"v.example.com\" denied the request: NotNice".to_string()),
        ("/none", 400, "admission webhook \"v.example.com\" denied the request without explanation".to_string()),
        ("/fault", 500, format!("Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: an error on the server ({:?}) has prevented the request from succeeding", "out of order")),
        ("/patch", 500, "Internal error occurred: failed calling webhook \"v.example.com\": received invalid webhook response: validating webhook may not return response.patch".to_string()),
    ];
    for (path, code, message) in cases {
        configure(
            &admin,
            "validating",
            "v",
            json!([hook("v.example.com", server.client(path), maps(), json!({}))]),
        )
        .await;
        let (got, answer) = admin.post(MAPS, config_map("bad", json!({}))).await;
        assert_eq!(
            (got, answer["message"].as_str().unwrap()),
            (code, message.as_str()),
            "{}",
            call(path)
        );
        admin
            .delete(&format!("{BASE}/validatingwebhookconfigurations/v"), json!({}))
            .await;
    }
    let (_, metrics) = admin.get("/metrics").await;
    let counted = "apiserver_admission_webhook_rejection_count{error_type=\"no_error\",name=\"v.example.com\",operation=\"CREATE\",rejection_code=\"400\",type=\"validating\"} 2";
    assert!(metrics.as_str().unwrap().contains(counted), "{metrics}");
    configure(
        &admin,
        "validating",
        "v",
        json!([hook("v.example.com", server.client("/uid"), maps(), json!({}))]),
    )
    .await;
    let (got, answer) = admin.post(MAPS, config_map("bad", json!({}))).await;
    assert_eq!(got, 500);
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("received invalid webhook response: expected response.uid=\""),
        "{message}"
    );
    admin
        .delete(&format!("{BASE}/validatingwebhookconfigurations/v"), json!({}))
        .await;
    configure(
        &admin,
        "validating",
        "v",
        json!([hook("v.example.com", server.client("/full"), maps(), json!({}))]),
    )
    .await;
    let (got, _) = admin.post(MAPS, config_map("kept", json!({}))).await;
    assert_eq!(got, 201);
    for path in [format!("{MAPS}/kept"), MAPS.to_string()] {
        server.take();
        let (got, answer) = admin.delete(&path, json!({})).await;
        assert_eq!(got, 451);
        assert_eq!(answer["reason"], "Legal");
        assert_eq!(answer["details"], json!({"kind": "x"}));
        assert_eq!(
            answer["message"],
            "admission webhook \"v.example.com\" denied the request: keep it"
        );
        let again = Request::delete(&path).body(Full::default()).unwrap();
        let refused = admin.raw(again).await;
        assert_eq!(refused.headers()["warning"], "299 - \"told you\"", "{path}");
        let asked = server.take().split_off(1);
        assert_eq!(
            (asked.len(), &asked[0]["object"], &asked[0]["oldObject"]["data"]),
            (1, &Value::Null, &json!({"k": "v"}))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_fails_or_is_ignored() {
    let f = fixture().await;
    let admin = f.admin();
    let server = WebhookServer::start(HTTP1, |_, _| Value::Null).await;
    let stranger = WebhookServer::start(HTTP1, |_, _| json!({"allowed": true})).await;
    let mut wrong = stranger.client("/x");
    wrong["caBundle"] = server.client("/")["caBundle"].clone();
    let unserved = json!({"service": {"namespace": "default", "name": "nowhere", "path": "/p"}});
    let cases = [
        (
            server.client("/slow"),
            format!(
                "Post {:?}: context deadline exceeded",
                format!("{}?timeout=1s", server.url("/slow"))
            ),
        ),
        (
            wrong,
            format!(
                "Post {:?}: tls: failed to verify certificate: x509: certificate signed by unknown authority",
                format!("{}?timeout=1s", stranger.url("/x"))
            ),
        ),
        (
            unserved,
            "Post \"https://nowhere.default.svc:443/p?timeout=1s\": service \"nowhere\" not found".to_string(),
        ),
    ];
    for (client, why) in cases {
        let path = format!("{BASE}/validatingwebhookconfigurations/v");
        for policy in ["Fail", "Ignore"] {
            let more = json!({"failurePolicy": policy, "timeoutSeconds": 1});
            configure(
                &admin,
                "validating",
                "v",
                json!([hook("v.example.com", client.clone(), maps(), more)]),
            )
            .await;
            let (code, answer) = admin
                .post(&format!("{MAPS}?dryRun=All"), config_map("a", json!({})))
                .await;
            if policy == "Fail" {
                let want = format!(
                    "Internal error occurred: failed calling webhook \"v.example.com\": failed to call webhook: {why}"
                );
                assert_eq!((code, answer["message"].as_str().unwrap()), (500, want.as_str()));
                assert_eq!(answer["reason"], "InternalError");
            } else {
                assert_eq!(code, 201, "{answer}");
            }
            admin.delete(&path, json!({})).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_asked_in_turn_and_again_if_needed() {
    let f = fixture().await;
    let admin = f.admin();
    // Each appends its path to the trail.
    let server = WebhookServer::start(HTTP2, |path, request| {
        let trail = request["object"]["data"]["trail"].as_str().unwrap_or("").to_string();
        patched(
            json!([{"op": "add", "path": "/data/trail", "value": format!("{trail}{}", path.trim_start_matches('/'))}]),
        )
    })
    .await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    configure(
        &admin,
        "mutating",
        "b",
        json!([hook("c.example.com", server.client("/c"), maps(), json!({}))]),
    )
    .await;
    configure(
        &admin,
        "mutating",
        "a",
        json!([
            hook("a.example.com", server.client("/a"), maps(), again.clone()),
            hook("b.example.com", server.client("/b"), maps(), again)
        ]),
    )
    .await;
    let (_, made) = admin.post(MAPS, config_map("one", json!({}))).await;
    assert_eq!(made["data"]["trail"], "abcab", "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_and_exemptions() {
    let f = fixture().await;
    let admin = f.admin();
    let server = WebhookServer::start(HTTP2, |_, _| json!({"allowed": false})).await;
    let more = json!({"namespaceSelector": {"matchLabels": {"watched": "yes"}},
        "objectSelector": {"matchExpressions": [{"key": "free", "operator": "DoesNotExist"}]}});
    let all = rule(&["*"], "*", "*", "*/*");
    configure(
        &admin,
        "validating",
        "v",
        json!([hook("v.example.com", server.client("/"), all.clone(), more)]),
    )
    .await;
    let namespace = |name: &str, label: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"watched": label, "free": "yes"}}})
    };
    assert_eq!(admin.post("/api/v1/namespaces", namespace("w", "yes")).await.0, 201);
    assert_eq!(
        admin.post(MAPS, config_map("one", json!({}))).await.0,
        201,
        "not in that namespace"
    );
    let watched = "/api/v1/namespaces/w/configmaps";
    assert_eq!(admin.post(watched, config_map("one", json!({}))).await.0, 400);
    assert_eq!(
        admin.post(watched, config_map("one", json!({"free": "1"}))).await.0,
        201
    );
    // Taking the label away matters: the new object is selected.
    let patch = json!({"metadata": {"labels": {"free": null}}});
    assert_eq!(
        admin
            .patch("merge-patch+json", &format!("{watched}/one"), patch)
            .await
            .0,
        400
    );
    // What configures admission can always be mended.
    configure(
        &admin,
        "validating",
        "w",
        json!([hook("w.example.com", server.client("/"), all, json!({}))]),
    )
    .await;
    assert_eq!(admin.post(MAPS, config_map("two", json!({}))).await.0, 400);
    for name in ["v", "w"] {
        let (code, _) = admin
            .delete(&format!("{BASE}/validatingwebhookconfigurations/{name}"), json!({}))
            .await;
        assert_eq!(code, 200);
    }
    assert_eq!(admin.post(MAPS, config_map("two", json!({}))).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_versions_are_converted_for_the_webhook() {
    let f = fixture().await;
    let admin = f.admin();
    let server = WebhookServer::start(HTTP2, |_, _| {
        patched(json!([{"op": "replace", "path": "/spec/metrics/0/resource/target/averageUtilization", "value": 33}]))
    })
    .await;
    let rules = rule(&["CREATE"], "autoscaling", "v2", "horizontalpodautoscalers");
    configure(
        &admin,
        "mutating",
        "exact",
        json!([hook(
            "e.example.com",
            server.client("/e"),
            rules.clone(),
            json!({"matchPolicy": "Exact"})
        )]),
    )
    .await;
    configure(
        &admin,
        "mutating",
        "same",
        json!([hook("s.example.com", server.client("/s"), rules, json!({}))]),
    )
    .await;
    let scaler = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    let (code, made) = admin
        .post(
            "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
            scaler,
        )
        .await;
    assert_eq!(
        (code, &made["spec"]["targetCPUUtilizationPercentage"]),
        (201, &json!(33)),
        "{made}"
    );
    let asked = server.take();
    assert_eq!(asked.len(), 1, "only the one that takes equivalents");
    assert_eq!(asked[0]["kind"]["version"], "v2");
    assert_eq!(asked[0]["requestKind"]["version"], "v1");
    assert_eq!(asked[0]["object"]["apiVersion"], "autoscaling/v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_are_admitted_as_what_they_are() {
    let f = fixture().await;
    let admin = f.admin();
    let server = WebhookServer::start(HTTP2, |_, _| json!({"allowed": true})).await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(admin.post(deployments, deployment).await.0, 201);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    admin.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    let (code, answer) = admin.post(pods, pod).await;
    assert_eq!(code, 201, "{answer}");
    let rules = json!([{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale", "deployments/status"]},
        {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/*", "serviceaccounts/token"]}]);
    configure(
        &admin,
        "validating",
        "v",
        json!([hook("v.example.com", server.client("/"), rules, json!({}))]),
    )
    .await;
    let last = |what: &str| {
        let asked = server.take();
        assert_eq!(asked.len(), 1, "{what}: {asked:?}");
        let r = &asked[0];
        let text = |v: &Value| v.as_str().unwrap_or("-").to_string();
        format!(
            "{} {} {} {} {}",
            text(&r["operation"]),
            text(&r["resource"]["resource"]),
            text(&r["subResource"]),
            text(&r["kind"]["kind"]),
            text(&r["object"]["kind"])
        )
    };
    let patch = json!({"spec": {"replicas": 2}});
    assert_eq!(
        admin
            .patch("merge-patch+json", &format!("{deployments}/d/scale"), patch)
            .await
            .0,
        200
    );
    assert_eq!(last("scale"), "UPDATE deployments scale Scale Scale");
    let patch = json!({"status": {"replicas": 2}});
    assert_eq!(
        admin
            .patch("merge-patch+json", &format!("{deployments}/d/status"), patch)
            .await
            .0,
        200
    );
    assert_eq!(last("status"), "UPDATE deployments status Deployment Deployment");
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    assert_eq!(
        admin
            .post("/api/v1/namespaces/default/serviceaccounts/default/token", token)
            .await
            .0,
        201
    );
    assert_eq!(last("token"), "CREATE serviceaccounts token TokenRequest TokenRequest");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(admin.post(&format!("{pods}/p/binding"), binding).await.0, 201);
    assert_eq!(last("binding"), "CREATE pods binding Binding Binding");
    // There is no node to go on to; admission comes before.
    admin
        .post(&format!("{pods}/p/exec?command=ls&stdout=true"), json!({}))
        .await;
    assert_eq!(last("exec"), "CONNECT pods exec PodExecOptions PodExecOptions");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    assert_eq!(admin.post(&format!("{pods}/p/eviction"), eviction).await.0, 201);
    assert_eq!(last("eviction"), "CREATE pods eviction Eviction Eviction");
}

#[tokio::test(flavor = "multi_thread")]
async fn match_conditions_decide_who_is_asked() {
    let f = fixture().await;
    let admin = f.admin();
    let server = WebhookServer::start(HTTP2, |_, _| json!({"allowed": false})).await;
    let condition = |expression: &str| json!([{"name": "c", "expression": expression}]);
    let cases = [
        ("request.userInfo.username != 'admin'", "Fail", 201, ""),
        (
            "object.metadata.name == 'one'",
            "Fail",
            400,
            "admission webhook \"v.example.com\" denied the request without explanation",
        ),
        ("object.data.missing == 'x'", "Ignore", 201, ""),
        (
            "object.data.missing == 'x'",
            "Fail",
            403,
            "configmaps \"one\" is forbidden: expression 'object.data.missing == 'x'' resulted in error: no such key: missing",
        ),
        (
            "authorizer.group('').resource('configmaps').check('create').allowed()",
            "Fail",
            400,
            "admission webhook \"v.example.com\" denied the request without explanation",
        ),
    ];
    for (expression, policy, code, message) in cases {
        let more = json!({"matchConditions": condition(expression), "failurePolicy": policy});
        configure(
            &admin,
            "validating",
            "v",
            json!([hook("v.example.com", server.client("/"), maps(), more)]),
        )
        .await;
        let (got, answer) = admin
            .post(&format!("{MAPS}?dryRun=All"), config_map("one", json!({})))
            .await;
        assert_eq!(got, code, "{expression}: {answer}");
        if code != 201 {
            assert_eq!(answer["message"], message);
        }
        admin
            .delete(&format!("{BASE}/validatingwebhookconfigurations/v"), json!({}))
            .await;
    }
    let more = json!({"matchConditions": condition("object.x"), "rules": []});
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "v"}, "webhooks": [hook("v.example.com", server.client("/"), maps(), more)]});
    let (code, answer) = admin
        .post(&format!("{BASE}/validatingwebhookconfigurations"), object)
        .await;
    assert_eq!(code, 422);
    assert_eq!(
        answer["details"]["causes"][0],
        json!({"field": "webhooks[0].matchConditions[0].expression", "reason": "FieldValueInvalid",
            "message": "Invalid value: \"object.x\": must evaluate to bool but got dyn"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_are_converted_patched_and_pruned() {
    let f = fixture().await;
    let admin = f.admin();
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"size": {"type": "integer"}, "color": {"type": "string", "default": "red"}}}}}});
    let version =
        |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "boxes", "singular": "box", "kind": "Box", "listKind": "BoxList"},
        "versions": [version("v1", true), version("v2", false)]}});
    let (code, answer) = admin
        .post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        .await;
    assert_eq!(code, 201, "{answer}");
    let mut events = admin
        .watch(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?watch=1",
            "application/json",
        )
        .await;
    loop {
        let event = events.next().await.unwrap();
        let conditions = event["object"]["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if conditions
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
        {
            break;
        }
    }
    let server = WebhookServer::start(HTTP2, |_, _| {
        patched(
            json!([{"op": "add", "path": "/spec/size", "value": 7}, {"op": "add", "path": "/spec/other", "value": 1}]),
        )
    })
    .await;
    let rules = rule(&["*"], "example.com", "v2", "boxes");
    configure(
        &admin,
        "mutating",
        "m",
        json!([hook(
            "m.example.com",
            server.client("/"),
            rule(&["CREATE"], "example.com", "v2", "boxes"),
            json!({})
        )]),
    )
    .await;
    let checker = WebhookServer::start(HTTP2, |_, request| json!({"allowed": request["operation"] != "DELETE"})).await;
    configure(
        &admin,
        "validating",
        "v",
        json!([hook("v.example.com", checker.client("/"), rules, json!({}))]),
    )
    .await;
    let boxes = "/apis/example.com/v1/namespaces/default/boxes";
    let object = json!({"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {"size": 1}});
    let (code, made) = admin.post(boxes, object).await;
    assert_eq!((code, &made["apiVersion"]), (201, &json!("example.com/v1")), "{made}");
    assert_eq!(made["spec"], json!({"size": 7, "color": "red"}), "pruned and defaulted");
    let asked = server.take();
    assert_eq!(asked[0]["object"]["apiVersion"], "example.com/v2");
    assert_eq!(
        asked[0]["requestKind"],
        json!({"group": "example.com", "version": "v1", "kind": "Box"})
    );
    assert_eq!(checker.take()[0]["object"]["spec"], json!({"size": 7, "color": "red"}));
    let (code, answer) = admin.delete(&format!("{boxes}/b"), json!({})).await;
    assert_eq!(
        (code, checker.take()[0]["oldObject"]["apiVersion"].clone()),
        (400, json!("example.com/v2")),
        "{answer}"
    );
}
