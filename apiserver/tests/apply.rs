//! Server-side apply and managedFields through the real handler.

mod support;

use serde_json::{Value, json};
use support::{Caller, fixture, user};

/// Creates and status patches a second, printed for comparison over time.
#[tokio::test]
async fn write_rates() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let pod = |n: usize| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{n}"), "labels": {"app": "web"}},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "a", "image": "i:1", "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 80}], "resources": {"requests": {"cpu": "1m"}}}]}})
    };
    const ROUNDS: usize = 200;
    admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        )
        .await;
    let begin = std::time::Instant::now();
    for n in 0..ROUNDS {
        let (code, body) = admin.post("/api/v1/namespaces/default/pods", pod(n)).await;
        assert_eq!(code, 201, "{body}");
    }
    let create = begin.elapsed() / ROUNDS as u32;
    let begin = std::time::Instant::now();
    for n in 0..ROUNDS {
        let status = json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": if n % 2 == 0 { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [{"name": "a", "ready": true, "restartCount": n, "image": "i:1", "imageID": "x", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}});
        let (code, body) = admin
            .patch(
                "strategic-merge-patch+json",
                "/api/v1/namespaces/default/pods/p0/status",
                status,
            )
            .await;
        assert_eq!(code, 200, "{body}");
    }
    let patch = begin.elapsed() / ROUNDS as u32;
    println!("create {create:?}, status patch {patch:?}");
}

const APPLY: &str = "application/apply-patch+yaml";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn apply(caller: &Caller, path: &str, body: &Value) -> (u16, Value) {
    caller
        .send(&format!("PATCH {path}"), &[("content-type", APPLY)], body.to_string())
        .await
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
}

/// `manager operation subresource` of each entry.
fn owners(object: &Value) -> Vec<String> {
    let list = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    list.iter()
        .map(|e| {
            let text = |key: &str| e[key].as_str().unwrap_or("").to_string();
            format!("{} {} {}", text("manager"), text("operation"), text("subresource"))
                .trim()
                .to_string()
        })
        .collect()
}

#[tokio::test]
async fn applies_create_merge_and_conflict() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let at = format!("{DEPLOYMENTS}/web");
    let mut config = deployment("web");
    let (code, error) = apply(&admin, &at, &config).await;
    assert_eq!(code, 422);
    assert_eq!(
        error["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let mine = format!("{at}?fieldManager=me");
    let (code, dry) = apply(&admin, &format!("{mine}&dryRun=All"), &config).await;
    assert_eq!((code, &dry["spec"]["replicas"]), (201, &json!(2)), "{dry}");
    assert_eq!(admin.get(&at).await.0, 404);
    let (code, made) = apply(&admin, &mine, &config).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(owners(&made), ["me Apply"]);
    // The same again is no write.
    let (code, again) = apply(&admin, &mine, &config).await;
    assert_eq!((code, &again), (200, &made));
    // YAML is what the media type promises.
    let yaml = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 5\n";
    let path = format!("PATCH {at}?fieldManager=you");
    let (code, error) = admin.send(&path, &[("content-type", APPLY)], yaml).await;
    assert_eq!(
        (code, error["message"].as_str().unwrap()),
        (
            409,
            "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas"
        )
    );
    assert_eq!(error["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let (code, forced) = admin
        .send(&format!("{path}&force=true"), &[("content-type", APPLY)], yaml)
        .await;
    assert_eq!((code, &forced["spec"]["replicas"]), (200, &json!(5)));
    assert_eq!(forced["metadata"]["generation"], 2);
    assert_eq!(owners(&forced), ["me Apply", "you Apply"]);
    // A resourceVersion is a precondition.
    config["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let (code, error) = apply(&admin, &format!("{mine}&force=true"), &config).await;
    assert_eq!((code, &error["reason"]), (409, &json!("Conflict")));
    config["metadata"]["resourceVersion"] = forced["metadata"]["resourceVersion"].clone();
    assert_eq!(apply(&admin, &format!("{mine}&force=true"), &config).await.0, 200);
    // Not for other patches, not into other objects, not with fields that are not there.
    let (code, error) = admin
        .patch("merge-patch+json", &format!("{at}?force=true"), json!({}))
        .await;
    assert_eq!(code, 422, "{error}");
    let (code, error) = apply(&admin, &mine, &deployment("other")).await;
    assert_eq!(code, 400, "{error}");
    let (code, error) = apply(
        &admin,
        &mine,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"nope": 1}}),
    )
    .await;
    assert_eq!(code, 500);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .ends_with(".spec.nope: field not declared in schema"),
        "{error}"
    );
    let (code, error) = apply(
        &admin,
        &mine,
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}),
    )
    .await;
    assert_eq!(code, 400, "{error}");
}

#[tokio::test]
async fn writers_are_named_and_subresources_apart() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let at = format!("{DEPLOYMENTS}/web");
    let agent = [
        ("content-type", "application/json"),
        ("user-agent", "kubectl/v1.32 (linux)"),
    ];
    let (code, made) = admin
        .send(&format!("POST {DEPLOYMENTS}"), &agent, deployment("web").to_string())
        .await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(owners(&made), ["kubectl Update"]);
    // Status, through its subresource, by a component of this process.
    let controller = fixture.caller(
        "system:serviceaccount:kube-system:deployment-controller",
        &["system:masters"],
    );
    let (code, body) = controller
        .patch(
            "merge-patch+json",
            &format!("{at}/status"),
            json!({"status": {"replicas": 2}, "spec": {"replicas": 9}}),
        )
        .await;
    assert_eq!(code, 200, "{body}");
    // Which comes first is a matter of the second in which each was written.
    let mut all = owners(&body);
    all.sort();
    assert_eq!(all, ["kube-controller-manager Update status", "kubectl Update"]);
    let entries = body["metadata"]["managedFields"].as_array().unwrap();
    let status = entries.iter().find(|entry| entry["subresource"] == "status").unwrap();
    assert_eq!(status["fieldsV1"], json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(body["spec"]["replicas"], 2);
    // Applied status.
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "status": {"readyReplicas": 1}});
    let (code, body) = apply(&admin, &format!("{at}/status?fieldManager=s"), &status).await;
    assert_eq!(
        (code, &body["status"]["readyReplicas"], &body["status"]["replicas"]),
        (200, &json!(1), &json!(2)),
        "{body}"
    );
    assert!(
        owners(&body).contains(&"s Apply status".to_string()),
        "{:?}",
        owners(&body)
    );
    let (code, _) = apply(&admin, &format!("{DEPLOYMENTS}/none/status?fieldManager=s"), &status).await;
    assert_eq!(code, 404);
    // Scale: by update, then by apply.
    let scale = |n: u32| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": n}});
    assert_eq!(
        admin.put(&format!("{at}/scale?fieldManager=hpa"), &scale(4)).await.0,
        200
    );
    let (code, error) = apply(&admin, &format!("{at}/scale?fieldManager=x"), &scale(6)).await;
    assert_eq!(
        (code, error["message"].as_str().unwrap()),
        (
            409,
            "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas"
        )
    );
    let (code, body) = apply(&admin, &format!("{at}/scale?fieldManager=x&force=true"), &scale(6)).await;
    assert_eq!(
        (code, &body["spec"]["replicas"], &body["kind"]),
        (200, &json!(6), &json!("Scale"))
    );
    let (_, web) = admin.get(&at).await;
    assert!(
        owners(&web).contains(&"x Apply scale".to_string()),
        "{:?}",
        owners(&web)
    );
    // A write that changes nothing is none, whoever writes.
    let (_, same) = admin
        .patch(
            "merge-patch+json",
            &format!("{at}?fieldManager=late"),
            json!({"spec": {"replicas": 6}}),
        )
        .await;
    assert_eq!(same, web);
    let (_, same) = admin.put(&format!("{at}?fieldManager=late"), &web).await;
    assert_eq!(same, web);
    // Entries can be moved by a patch, and forgotten.
    let (_, none) = admin
        .patch("merge-patch+json", &at, json!({"metadata": {"managedFields": [{}]}}))
        .await;
    assert_eq!(none["metadata"].get("managedFields"), None, "{none}");
    let (_, first) = apply(
        &admin,
        &format!("{at}?fieldManager=first"),
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": {"x": "y"}}}),
    )
    .await;
    assert_eq!(owners(&first), ["first Apply", "before-first-apply Update"]);
}

#[tokio::test]
async fn who_may_patch_may_not_create_by_apply() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "patcher"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "patcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "patcher"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "pat"}]});
    for (plural, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let (code, body) = admin
            .post(&format!("/apis/rbac.authorization.k8s.io/v1/{plural}"), object)
            .await;
        assert_eq!(code, 201, "{body}");
    }
    let pat = fixture.caller("pat", &[]);
    let at = "/api/v1/namespaces/default/configmaps/m?fieldManager=pat";
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}});
    let (code, error) = apply(&pat, at, &config).await;
    assert_eq!(code, 403, "{error}");
    assert_eq!(apply(&admin, at, &config).await.0, 201);
    assert_eq!(apply(&pat, at, &config).await.0, 200);
}

#[tokio::test]
async fn versions_of_a_kind_share_their_entries() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let at = |version: &str| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/h?fieldManager=me")
    };
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 5, "minReplicas": 2, "targetCPUUtilizationPercentage": 50}});
    let (code, body) = apply(&admin, &at("v1"), &v1).await;
    assert_eq!(code, 201, "{body}");
    assert_eq!(body["spec"]["targetCPUUtilizationPercentage"], 50);
    let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 7, "metrics": [{"type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}]}});
    let (code, body) = apply(&admin, &at("v2"), &v2).await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(
        (&body["spec"]["maxReplicas"], &body["spec"]["minReplicas"]),
        (&json!(7), &json!(1)),
        "{body}"
    );
    assert_eq!(
        body["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        60
    );
    assert_eq!(owners(&body), ["me Apply"]);
    assert_eq!(body["metadata"]["managedFields"][0]["apiVersion"], "autoscaling/v2");
    let other = at("v1").replace("=me", "=other");
    let (code, error) = apply(&admin, &other, &v1).await;
    assert_eq!(code, 409, "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("conflicts with \"me\":"),
        "{error}"
    );
}

#[tokio::test]
async fn typed_clients_apply_and_replace() {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, Patch, PatchParams, PostParams};
    let fixture = fixture().await;
    let client = kube::Client::new(
        fixture
            .server
            .in_process(user("system:kube-scheduler", &["system:masters"])),
        "default",
    );
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}});
    let params = PatchParams::apply("rust");
    maps.patch("m", &params, &Patch::Apply(&config)).await.unwrap();
    let mut map = maps.get("m").await.unwrap();
    let version = map.metadata.resource_version.clone();
    // What was read goes back unchanged, entries included.
    let same = maps.replace("m", &PostParams::default(), &map).await.unwrap();
    assert_eq!(same.metadata.resource_version, version);
    map.data.as_mut().unwrap().insert("b".into(), "2".into());
    let next = maps.replace("m", &PostParams::default(), &map).await.unwrap();
    let managers: Vec<String> = next
        .metadata
        .managed_fields
        .unwrap()
        .into_iter()
        .filter_map(|e| e.manager)
        .collect();
    assert_eq!(managers, ["rust", "kube-scheduler"]);
}

/// Go clients read and write protobuf, entries included.
#[tokio::test]
async fn entries_survive_protobuf() {
    use http_body_util::BodyExt;
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    let fixture = fixture().await;
    let admin = fixture.admin();
    let at = format!("{DEPLOYMENTS}/web");
    let (_, made) = apply(&admin, &format!("{at}?fieldManager=me"), &deployment("web")).await;
    let request = http::Request::builder().uri(&at).header("accept", PROTOBUF);
    let response = admin.raw(request.body(Default::default()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let (code, same) = admin
        .send(&format!("PUT {at}"), &[("content-type", PROTOBUF)], bytes)
        .await;
    assert_eq!((code, &same), (200, &made), "{same}");
}
