//! Pods and Services: binding, graceful deletion, eviction, addresses.

#![allow(clippy::unwrap_used)]

mod support;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use support::{Caller, fixture};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn with_account(admin: &Caller) {
    admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_pod_is_bound_then_deleted_in_two_phases() {
    let admin = fixture().await.admin();
    with_account(&admin).await;
    let (code, made) = admin.post(PODS, pod("p")).await;
    assert_eq!(
        (code, made["status"]["phase"].as_str()),
        (201, Some("Pending")),
        "{made}"
    );
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let (code, answer) = admin.post(&format!("{PODS}/p/binding"), binding.clone()).await;
    assert_eq!((code, answer["status"].as_str()), (201, Some("Success")), "{answer}");
    assert_eq!(admin.post(&format!("{PODS}/p/binding"), binding).await.0, 409);
    let (_, selected) = admin.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn").await;
    assert_eq!(selected["items"][0]["status"]["conditions"][0]["type"], "PodScheduled");
    let (code, going) = admin.delete(&format!("{PODS}/p"), json!({})).await;
    assert_eq!(
        (code, going["metadata"]["deletionGracePeriodSeconds"].as_i64()),
        (200, Some(30))
    );
    assert_eq!(admin.get(&format!("{PODS}/p")).await.0, 200);
    let (code, gone) = admin
        .delete(&format!("{PODS}/p"), json!({"gracePeriodSeconds": 0}))
        .await;
    assert_eq!((code, gone["kind"].as_str()), (200, Some("Pod")));
    assert_eq!(admin.get(&format!("{PODS}/p")).await.0, 404);
    // Exec and logs of a pod without a node.
    admin.post(PODS, pod("q")).await;
    assert_eq!(
        admin.get(&format!("{PODS}/q/log")).await,
        (200, Value::String(String::new()))
    );
    let (code, status) = admin.get(&format!("{PODS}/q/exec?command=ls")).await;
    assert_eq!(
        (code, status["message"].as_str()),
        (400, Some("pod q does not have a host assigned"))
    );
}

#[tokio::test]
async fn evictions_respect_budgets() {
    let admin = fixture().await.admin();
    with_account(&admin).await;
    admin.post(PODS, pod("p")).await;
    admin
        .patch(
            "merge-patch+json",
            &format!("{PODS}/p/status"),
            json!({"status": {"phase": "Running"}}),
        )
        .await;
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    let (code, answer) = admin
        .post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget)
        .await;
    assert_eq!(code, 201, "{answer}");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let (code, answer) = admin.post(&format!("{PODS}/p/eviction"), eviction.clone()).await;
    assert_eq!(
        (code, answer["reason"].as_str()),
        (429, Some("TooManyRequests")),
        "{answer}"
    );
    admin
        .delete("/apis/policy/v1/namespaces/default/poddisruptionbudgets/b", json!({}))
        .await;
    let mut events = admin.watch(&format!("{PODS}?watch=1"), "application/json").await;
    let dry = format!("{PODS}/p/eviction?dryRun=All");
    assert_eq!(admin.post(&dry, eviction.clone()).await.0, 201);
    let mut another = eviction.clone();
    another["deleteOptions"] = json!({"preconditions": {"uid": "another"}});
    assert_eq!(admin.post(&format!("{PODS}/p/eviction"), another).await.0, 409);
    let (_, seen) = admin.get(&format!("{PODS}/p")).await;
    assert_eq!(
        seen["status"].get("conditions"),
        None,
        "what did not happen leaves no mark"
    );
    let mut seen_by_them = eviction;
    seen_by_them["deleteOptions"] = json!({"preconditions": {"resourceVersion": seen["metadata"]["resourceVersion"]}});
    assert_eq!(admin.post(&format!("{PODS}/p/eviction"), seen_by_them).await.0, 201);
    assert_eq!(admin.get(&format!("{PODS}/p")).await.0, 404);
    let event = loop {
        let event = events.next().await.expect("an event");
        if event["type"] == "DELETED" {
            break event;
        }
    };
    let condition = &event["object"]["status"]["conditions"][0];
    assert_eq!(
        (
            &condition["type"],
            &condition["status"],
            &condition["reason"],
            &condition["message"]
        ),
        (
            &json!("DisruptionTarget"),
            &json!("True"),
            &json!("EvictionByEvictionAPI"),
            &json!("Eviction API: evicting")
        )
    );
}

#[tokio::test]
async fn services_hold_their_addresses_until_they_go() {
    let admin = fixture().await.admin();
    let (_, kubernetes) = admin.get(&format!("{SERVICES}/kubernetes")).await;
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    let (_, dns) = admin.get("/api/v1/namespaces/kube-system/services/kube-dns").await;
    assert_eq!(dns["spec"]["clusterIP"], "10.96.0.10");
    let service = |name: &str, extra: Value| {
        let mut spec = json!({"ports": [{"port": 80}], "selector": {"a": "b"}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let (code, made) = admin.post(SERVICES, service("a", json!({"type": "NodePort"}))).await;
    assert_eq!(code, 201, "{made}");
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_string();
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let (code, taken) = admin.post(SERVICES, service("b", json!({"clusterIP": ip}))).await;
    assert_eq!((code, taken["reason"].as_str()), (422, Some("Invalid")), "{taken}");
    let (code, taken) = admin
        .post(
            SERVICES,
            service(
                "b",
                json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}),
            ),
        )
        .await;
    assert_eq!(code, 422, "{taken}");
    assert_eq!(
        admin
            .get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{ip}"))
            .await
            .0,
        200
    );
    // A patch keeps them; becoming headless is refused; deletion frees them.
    let (code, patched) = admin
        .patch(
            "strategic-merge-patch+json",
            &format!("{SERVICES}/a"),
            json!({"spec": {"selector": {"c": "d"}}}),
        )
        .await;
    assert_eq!(
        (code, &patched["spec"]["clusterIP"], &patched["spec"]["ports"]),
        (200, &made["spec"]["clusterIP"], &made["spec"]["ports"])
    );
    admin.delete(&format!("{SERVICES}/a"), json!({})).await;
    assert_eq!(
        admin
            .get(&format!("/apis/networking.k8s.io/v1/ipaddresses/{ip}"))
            .await
            .0,
        404
    );
    let (code, _) = admin
        .post(
            SERVICES,
            service(
                "b",
                json!({"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": port}]}),
            ),
        )
        .await;
    assert_eq!(code, 201);
    let (code, headless) = admin.post(SERVICES, service("h", json!({"clusterIP": "None"}))).await;
    assert_eq!((code, &headless["spec"]["clusterIPs"]), (201, &json!(["None"])));
    let (code, external) = admin
        .post(
            SERVICES,
            json!({"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}),
        )
        .await;
    assert_eq!((code, external["spec"].get("clusterIP")), (201, None), "{external}");
}

#[tokio::test]
async fn typed_clients_in_process() {
    let fixture = fixture().await;
    let client = fixture.kube();
    assert_eq!(client.apiserver_version().await.unwrap().git_version, "v1.36.0+skiff");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"a": "b"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(maps.delete("m", &DeleteParams::default()).await.unwrap().is_right());
    let error = maps.get("m").await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.reason == "NotFound" && status.code == 404));
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    assert_eq!(
        services
            .get("kubernetes")
            .await
            .unwrap()
            .spec
            .unwrap()
            .cluster_ip
            .as_deref(),
        Some("10.96.0.1")
    );
    let pods: Api<Pod> = Api::all(client);
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn the_server_s_own_services_come_back() {
    let admin = fixture().await.admin();
    let (_, before) = admin.get(&format!("{SERVICES}/kubernetes")).await;
    let version = before["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = admin
        .watch(
            &format!("{SERVICES}?watch=true&fieldSelector=metadata.name%3Dkubernetes&resourceVersion={version}"),
            "application/json",
        )
        .await;
    let (code, gone) = admin.delete(&format!("{SERVICES}/kubernetes"), json!({})).await;
    assert_eq!(code, 200, "{gone}");
    assert_eq!(watch.line().await, "DELETED kubernetes");
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["spec"]["clusterIP"], before["spec"]["clusterIP"]);
}
