//! Requests for certificates: the request itself, who decides, who signs.

use crate::groups::{Row, check, created, set, table, updated};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const CSRS: &str = "certificatesigningrequests.certificates.k8s.io";

/// A request for CN=jane, O=devs, signed with its own P-256 key.
const BODY: &str = "MIHaMIGAAgEAMB4xDTALBgNVBAMMBGphbmUxDTALBgNVBAoMBGRldnMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQvbVJ5a/1ig/oK4el+J8aLINHSzvBs8KqNaL5/ovoG6dHNLRoZdI4zJuAChq7CFSswxAkK6N4ulG747e2VVYcboAAwCgYIKoZIzj0EAwIDSQAwRgIhAIav7G+CiWX3ql8vjYQPE8cUk00KuhKVytKFpTT4H5mSAiEAzKuCyAjZ4M4Y+G9awW6wumYgqzZV00F4TJdOSFwC6dU=";

fn pem(label: &str, body: &str) -> String {
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|c| std::str::from_utf8(c).expect("ASCII"))
        .collect();
    STANDARD.encode(format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    ))
}

fn request() -> Value {
    json!({"metadata": {"name": "node:x"}, "spec": {
        "request": pem("CERTIFICATE REQUEST", BODY), "signerName": "example.com/s", "usages": ["client auth"],
    }})
}

fn with(conditions: Value) -> Value {
    set(&request(), "/status", json!({"conditions": conditions}))
}

#[test]
fn new_requests() {
    // `jane` became `jake`, so the signature is of another request.
    let forged = BODY.replace("MMBGphbmUx", "MMBGpha2Ux");
    assert_ne!(forged, BODY);
    let rows: &[Row] = &[
        (
            "/spec/request",
            json!("AAAA"),
            &["spec.request: Invalid value: \"AAAA\": PEM block type must be CERTIFICATE REQUEST"],
        ),
        (
            "/spec/request",
            json!(pem("CERTIFICATE", BODY)),
            &["PEM block type must be CERTIFICATE REQUEST"],
        ),
        (
            "/spec/request",
            json!(pem("CERTIFICATE REQUEST", "AAAA")),
            &["asn1: structure error"],
        ),
        (
            "/spec/request",
            json!(pem("CERTIFICATE REQUEST", &forged)),
            &["x509: signature verification error"],
        ),
        ("/spec/usages", json!([]), &["spec.usages: Required value"]),
        (
            "/spec/usages",
            json!(["any", "any", "x"]),
            &[
                "spec.usages[2]: Unsupported value: \"x\": supported values: \"any\", \"cert sign\"",
                "spec.usages[1]: Duplicate value: \"any\"",
            ],
        ),
        (
            "/spec/signerName",
            json!("kubernetes.io/legacy-unknown"),
            &["the legacy signerName is not allowed via this API version"],
        ),
        (
            "/spec/signerName",
            json!("a.b"),
            &["must be a fully qualified domain and path of the form 'example.com/signer-name'"],
        ),
        (
            "/spec/signerName",
            json!("com/A"),
            &[
                "spec.signerName: Invalid value: \"A\": validating label \"A\":",
                "should be a domain with at least two segments separated by dots",
            ],
        ),
        (
            "/spec/expirationSeconds",
            json!(599),
            &[
                "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
            ],
        ),
        (
            "/metadata/name",
            json!("a/b"),
            &["metadata.name: Invalid value: \"a/b\": may not contain '/'"],
        ),
    ];
    table(CSRS, &request(), rows);
    assert_eq!(created(CSRS, request()), Vec::<String>::new());
}

#[test]
fn decisions() {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    let approved = with(json!([condition("Approved", "True")]));
    let denied = condition("Denied", "True");
    let rows: Vec<(&str, Value, Value, &[&str])> = vec![
        ("approval", request(), approved.clone(), &[]),
        (
            "status",
            request(),
            approved.clone(),
            &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
        ),
        (
            "approval",
            request(),
            with(json!([condition("Approved", "False")])),
            &["status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""],
        ),
        (
            "approval",
            request(),
            with(json!([condition("", "")])),
            &[
                "conditions[0].type: Required value",
                "conditions[0].status: Required value",
            ],
        ),
        (
            "approval",
            approved.clone(),
            with(json!([condition("Approved", "True"), denied])),
            &[
                "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
            ],
        ),
        (
            "approval",
            approved.clone(),
            with(json!([])),
            &["updates may not remove a condition of type \"Approved\""],
        ),
        (
            "status",
            approved.clone(),
            with(json!([{"type": "Approved", "status": "True", "reason": "x"}])),
            &["updates may not modify a condition of type \"Approved\""],
        ),
        (
            "status",
            request(),
            with(json!([condition("Failed", "True"), condition("Failed", "True")])),
            &["status.conditions[1].type: Duplicate value: \"Failed\""],
        ),
    ];
    for (sub, old, new, want) in rows {
        check(&updated(CSRS, sub, &old, &new).0, want, &new);
    }
    // Empty lists do not reach the strategies.
    let want = "updates may not remove a condition of type \"Approved\"";
    check(&updated(CSRS, "approval", &approved, &request()).0, &[want], &approved);
}

#[test]
fn certificates() {
    let issued = |text: &str| set(&request(), "/status", json!({"certificate": text}));
    let (junk, wrong) = (STANDARD.encode("junk"), pem("CERTIFICATE REQUEST", BODY));
    let rows: Vec<(&str, Value, Value, &[&str])> = vec![
        (
            "status",
            request(),
            issued(&junk),
            &[
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
            ],
        ),
        (
            "status",
            request(),
            issued(&wrong),
            &["only CERTIFICATE PEM blocks are allowed, found \"CERTIFICATE REQUEST\""],
        ),
        ("status", issued(&wrong), issued(&wrong), &[]),
        (
            "status",
            issued(&wrong),
            issued(""),
            &["status.certificate: Forbidden: updates may not modify existing certificate content"],
        ),
    ];
    for (sub, old, new, want) in rows {
        check(&updated(CSRS, sub, &old, &new).0, want, &new);
    }
    // An approval changes conditions only.
    let (errors, made) = updated(CSRS, "approval", &request(), &issued(&junk));
    check(&errors, &[], &made);
    assert_eq!(made.pointer("/status/certificate"), None);
}
