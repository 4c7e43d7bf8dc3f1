//! Paths, methods and options that are refused before any object is looked at.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use support::{Caller, fixture};

/// Code, media type and body of the answer.
async fn ask(caller: &Caller, line: &str) -> (u16, String, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = caller.raw(request).await;
    let code = response.status().as_u16();
    let media_type = response.headers()["content-type"].to_str().unwrap().to_string();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, media_type, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn what_is_not_served_is_told_as_upstream_tells_it() {
    let admin = fixture().await.admin();
    let resource = (404, "the server could not find the requested resource");
    let method = (405, "the server does not allow this method on the requested resource");
    let cases = [
        ("GET /api/v1/foos", resource),
        ("GET /apis/apps/v9/deployments", resource),
        ("GET /api/v1/pods/x", resource),
        ("GET /api/v1/namespaces/default/nodes", resource),
        ("GET /api/v1/namespaces/default/pods/x/nonsense", resource),
        ("POST /api/v1/pods", method),
        ("DELETE /api/v1/pods", method),
        ("DELETE /api/v1/namespaces", method),
        ("POST /api/v1/namespaces/default/pods/x", method),
        ("GET /apis/authorization.k8s.io/v1/subjectaccessreviews", method),
        ("FOO /api/v1/nodes", method),
        ("POST /version", method),
        ("DELETE /apis/apps", method),
    ];
    for (line, (code, message)) in cases {
        let (got, media_type, body) = ask(&admin, line).await;
        assert_eq!((got, media_type.as_str()), (code, "application/json"), "{line}: {body}");
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status["message"], message, "{line}");
        assert_eq!(status["details"], serde_json::json!({}), "{line}");
    }
    for line in [
        "GET /foo",
        "GET /apis/nobody.example/v1/things",
        "GET /apis/nobody.example/v1",
        "GET /apis/nobody.example",
        "POST /foo",
    ] {
        let got = ask(&admin, line).await;
        let text = "text/plain; charset=utf-8".to_string();
        assert_eq!(got, (404, text, "404 page not found\n".into()), "{line}");
    }
}

#[tokio::test]
async fn options_are_read_by_the_verbs_that_have_them() {
    let admin = fixture().await.admin();
    let maps = "/api/v1/namespaces/default/configmaps";
    let list = "ListOptions.meta.k8s.io \"\" is invalid: ";
    let cases = [
        (format!("GET {maps}?limit=x"), 400, r#"strconv.ParseInt: parsing "x": invalid syntax"#.to_string()),
        (
            format!("GET {maps}?resourceVersion=x"),
            400,
            r#"invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#.into(),
        ),
        (
            format!("GET {maps}?resourceVersionMatch=Exact"),
            422,
            format!("{list}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ),
        (
            format!("GET {maps}?resourceVersionMatch=Some&continue=x"),
            422,
            format!(
                "{list}[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, \
                 resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided, \
                 resourceVersionMatch: Unsupported value: \"Some\": supported values: \"Exact\", \"NotOlderThan\", \"\"]"
            ),
        ),
        (
            format!("GET {maps}?resourceVersion=0&resourceVersionMatch=Exact"),
            422,
            format!("{list}resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
        ),
        (
            format!("GET {maps}?sendInitialEvents=false"),
            422,
            format!("{list}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        ),
        (
            format!("GET {maps}?watch=1&resourceVersionMatch=NotOlderThan"),
            422,
            format!("{list}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"),
        ),
        (
            format!("GET {maps}?watch=1&sendInitialEvents=true"),
            422,
            format!("{list}resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ),
        (
            format!("GET {maps}?watch=1&sendInitialEvents=true&resourceVersionMatch=Exact"),
            422,
            format!(
                "{list}[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, \
                 resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"
            ),
        ),
        (
            format!("GET {maps}?continue=x"),
            400,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 0".into(),
        ),
        (
            format!("GET {maps}?fieldSelector=foo%3Dbar"),
            400,
            "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"".into(),
        ),
        (
            "GET /api/v1/namespaces/default/pods?fieldSelector=foo%3Dbar".into(),
            400,
            "field label not supported: foo".into(),
        ),
        (
            "GET /api/v1/watch/namespaces/default/pods/a?fieldSelector=metadata.name%3Db".into(),
            400,
            "fieldSelector metadata.name doesn't match requested name".into(),
        ),
        (
            "GET /api/v1/componentstatuses?watch=1".into(),
            405,
            "watch is not supported on resources of kind \"componentstatuses\"".into(),
        ),
    ];
    for (line, code, message) in cases {
        let (got, _, body) = ask(&admin, &line).await;
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (got, status["message"].as_str()),
            (code, Some(message.as_str())),
            "{line}"
        );
    }
    // Nobody asked for a limit here.
    let (code, _, _) = ask(&admin, "GET /api/v1/namespaces/default?limit=x&dryRun=x").await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn media_types_are_refused_where_upstream_refuses_them() {
    let admin = fixture().await.admin();
    let maps = "/api/v1/namespaces/default/configmaps";
    let objects = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let watches = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    let none = "406: Not Acceptable\n\nAvailable representations: ";
    let cases = [
        (
            format!("PATCH {maps}/a"),
            ("content-type", "application/json"),
            415,
            "415: Unsupported Media Type".to_string(),
        ),
        (
            format!("GET {maps}/a"),
            ("accept", "text/html"),
            406,
            format!("{none}{objects}"),
        ),
        (
            format!("GET {maps}"),
            ("accept", "text/html, image/png"),
            406,
            format!("{none}{objects}, {watches}"),
        ),
        (
            format!("GET {maps}"),
            ("accept", "application/json;as=Nonsense;v=v1;g=meta.k8s.io"),
            406,
            format!("only the following media types are accepted: {objects}"),
        ),
        (
            format!("POST {maps}"),
            ("content-type", "text/plain"),
            415,
            format!("the body of the request was in an unknown format - accepted media types include: {objects}"),
        ),
    ];
    for (line, header, code, message) in cases {
        let (got, status) = admin.send(&line, &[header], "{}").await;
        assert_eq!(
            (got, status["message"].as_str()),
            (code, Some(message.as_str())),
            "{line}"
        );
    }
}
