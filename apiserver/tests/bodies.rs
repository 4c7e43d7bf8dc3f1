//! Bodies in every encoding, faults in them by `fieldValidation`, and documents of the API.
#![allow(clippy::unwrap_used)]

mod support;

use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use skiff_api::codec;
use skiff_api::schema::lookup_gvk;
use skiff_apiserver::ApiBody;
use support::{Caller, fixture};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn call(
    caller: &Caller,
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<bytes::Bytes>,
) -> Response<ApiBody> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    caller.raw(request.body(Full::new(body.into())).unwrap()).await
}

fn warnings(response: &Response<ApiBody>) -> Vec<String> {
    let all = response.headers().get_all(header::WARNING);
    all.iter().map(|w| w.to_str().unwrap().to_string()).collect()
}

async fn body(response: Response<ApiBody>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn yaml_and_protobuf_say_what_json_says() {
    let admin = fixture().await.admin();
    let (code, _) = admin.post(DEPLOYMENTS, deployment("web")).await;
    assert_eq!(code, 201);
    let (_, json) = admin.get(&format!("{DEPLOYMENTS}/web")).await;
    // What Go never leaves out is there.
    assert_eq!(json["status"], json!({}));
    assert_eq!(
        json["spec"]["template"]["spec"]["containers"][0]["resources"],
        json!({})
    );
    let get = format!("GET {DEPLOYMENTS}/web");
    let yaml = call(&admin, &get, &[("accept", "application/yaml")], "").await;
    assert_eq!(yaml.headers()[header::CONTENT_TYPE], "application/yaml");
    let yaml = body(yaml).await;
    assert!(yaml.starts_with(b"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  creationTimestamp: \""));
    assert_eq!(codec::decode_yaml(&yaml).unwrap(), json);
    let ty = lookup_gvk("apps", "v1", "Deployment").unwrap();
    let proto = call(&admin, &get, &[("accept", "application/vnd.kubernetes.protobuf")], "").await;
    let mut value = codec::decode_proto(ty, &body(proto).await).unwrap();
    codec::check(ty, &mut value, codec::FieldValidation::Strict).unwrap();
    assert_eq!(value, json);
    // And each of them may be sent.
    let encodings = [
        ("application/yaml", yaml),
        (
            "application/vnd.kubernetes.protobuf",
            codec::encode_proto(ty, &json).unwrap(),
        ),
    ];
    for (media_type, bytes) in encodings {
        let put = format!("PUT {DEPLOYMENTS}/web");
        let answer = call(&admin, &put, &[("content-type", media_type)], bytes).await;
        assert_eq!(answer.status(), 200, "{media_type}");
        let same: Value = serde_json::from_slice(&body(answer).await).unwrap();
        assert_eq!(same, json, "{media_type}: nothing was changed");
    }
}

#[tokio::test]
async fn faults_of_yaml_are_told_by_their_lines() {
    let admin = fixture().await.admin();
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: b}\ndata: {a: c}\nfoo: 1\n";
    let headers = [("content-type", "application/yaml")];
    let strict = call(&admin, &format!("POST {MAPS}?fieldValidation=Strict"), &headers, text).await;
    assert_eq!(strict.status(), 400);
    let status: Value = serde_json::from_slice(&body(strict).await).unwrap();
    assert_eq!(
        status["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         yaml: unmarshal errors:\n  line 5: key \"data\" already set in map, unknown field \"foo\""
    );
    let warned = call(&admin, &format!("POST {MAPS}"), &headers, text).await;
    assert_eq!(
        warnings(&warned),
        [
            r#"299 - "line 5: key \"data\" already set in map""#,
            r#"299 - "unknown field \"foo\"""#
        ]
    );
    let apply = [("content-type", "application/apply-patch+yaml")];
    let text = "apiVersion: v1\nkind: ConfigMap\ndata: {a: d}\ndata: {a: c}\n";
    let path = format!("PATCH {MAPS}/m?fieldManager=me&force=true");
    let strict = call(&admin, &format!("{path}&fieldValidation=Strict"), &apply, text).await;
    assert_eq!(strict.status(), 400);
    let status: Value = serde_json::from_slice(&body(strict).await).unwrap();
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .ends_with("\n  line 4: key \"data\" already set in map"),
        "{status}"
    );
    let warned = call(&admin, &path, &apply, text).await;
    assert_eq!((warned.status().as_u16(), warnings(&warned).len()), (200, 1));
}

#[tokio::test]
async fn faults_of_patches_are_told() {
    let admin = fixture().await.admin();
    admin.post(DEPLOYMENTS, deployment("web")).await;
    let merge = r#"{"spec": {"replicas": 1, "replicas": 2, "foo": 1}}"#;
    let operations = r#"[{"op": "replace", "op": "add", "path": "/spec/replicas", "value": 2, "why": "so"}]"#;
    let twice = [r#"duplicate field "spec.replicas""#, r#"unknown field "spec.foo""#];
    let of_operations = [
        r#"json patch unknown field "[0].why""#,
        r#"json patch duplicate field "[0].op""#,
    ];
    let cases = [
        ("merge-patch+json", merge, twice),
        ("strategic-merge-patch+json", merge, twice),
        ("json-patch+json", operations, of_operations),
    ];
    for (kind, text, want) in cases {
        let media_type = format!("application/{kind}");
        let headers = [("content-type", media_type.as_str())];
        let strict = format!("PATCH {DEPLOYMENTS}/web?fieldValidation=Strict");
        let (code, status) = admin.send(&strict, &headers, text).await;
        assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{kind}: {status}");
        let message = status["message"].as_str().unwrap();
        assert!(
            message.ends_with(&format!("strict decoding error: {}", want.join(", "))),
            "{kind}: {message}"
        );
        let warned = call(&admin, &format!("PATCH {DEPLOYMENTS}/web"), &headers, text).await;
        let quoted = want.map(|w| format!("299 - \"{}\"", w.replace('"', "\\\"")));
        assert_eq!(
            (warned.status().as_u16(), warnings(&warned)),
            (200, quoted.to_vec()),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn openapi_is_cached_by_its_hash() {
    let admin = fixture().await.admin();
    let (_, index) = admin.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_string();
    let right = call(&admin, &format!("GET {url}"), &[], "").await;
    assert_eq!(right.status(), 200);
    assert!(
        right.headers()[header::CACHE_CONTROL]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    let etag = right.headers()[header::ETAG].to_str().unwrap().to_string();
    let document: Value = serde_json::from_slice(&body(right).await).unwrap();
    let image = "/components/schemas/io.k8s.api.core.v1.Container/properties/imagePullPolicy";
    let image = document.pointer(image).unwrap();
    assert_eq!(image["enum"], json!(["Always", "IfNotPresent", "Never"]));
    assert!(image["description"].as_str().unwrap().contains("IfNotPresent"));
    let again = call(&admin, "GET /openapi/v3/apis/apps/v1", &[("if-none-match", &etag)], "").await;
    assert_eq!(again.status(), 304);
    let wrong = call(&admin, "GET /openapi/v3/apis/apps/v1?hash=00", &[], "").await;
    assert_eq!(
        (
            wrong.status().as_u16(),
            wrong.headers()[header::LOCATION].to_str().unwrap()
        ),
        (301, url.as_str())
    );
    let proto = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    let proto = body(call(&admin, "GET /openapi/v3/apis/apps/v1", &[("accept", proto)], "").await).await;
    assert!(proto.starts_with(b"\x0a\x053.0.0\x12"));
    for path in index["paths"].as_object().unwrap().keys() {
        let (code, document) = admin.get(&format!("/openapi/v3/{path}")).await;
        assert_eq!((code, &document["openapi"]), (200, &json!("3.0.0")), "{path}");
    }
    assert_eq!(admin.get("/openapi/v3/apis/nope/v1").await.0, 404);
}
