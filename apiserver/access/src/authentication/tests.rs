use super::impersonation::{ImpersonationRequest, plan};
use super::*;
use crate::fake::Fake;
use crate::{Access, AccessConfig, BoundKind, BoundObject, Credentials, TokenIssue};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn access() -> Access {
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    Access::new(AccessConfig {
        service_account_keys: vec![ServiceAccountKey::from_pem(&pem).unwrap()],
        issuer: ISSUER.into(),
        api_audiences: vec![ISSUER.into()],
        client_ca_pem: String::new(),
        front_proxy_ca_pem: String::new(),
    })
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn objects() -> Fake {
    let object = |kind: &str, name: &str, uid: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "dev", "uid": uid}});
    Fake::with(vec![
        object("ServiceAccount", "bot", "sa-uid"),
        object("Pod", "web", "pod-uid"),
    ])
}

fn issue(seconds: i64) -> TokenIssue {
    TokenIssue {
        namespace: "dev".into(),
        service_account: "bot".into(),
        service_account_uid: "sa-uid".into(),
        expiration_seconds: seconds,
        bound: Some(BoundObject {
            kind: BoundKind::Pod,
            name: "web".into(),
            uid: "pod-uid".into(),
        }),
        node: Some(("n1".into(), "node-uid".into())),
        ..TokenIssue::default()
    }
}

fn user(access: &Access, token: &str, objects: &Fake, now: Timestamp) -> Option<UserInfo> {
    let credentials = Credentials {
        peer_certificate: None,
        bearer_token: Some(token),
        ..Credentials::default()
    };
    match access.authenticate(&credentials, objects, now) {
        Ok(user) => Some(user.expect("a token was presented")),
        Err(error) => {
            assert_eq!(error.code, 401);
            None
        }
    }
}

#[test]
fn a_token_names_its_service_account() {
    let (access, objects) = (access(), objects());
    let issued = access.issue_token(&issue(600), at(0)).unwrap();
    assert_eq!(issued.expiration, at(600));
    // Twice: the second time from the cache.
    for _ in 0..2 {
        let user = user(&access, &issued.token, &objects, at(1)).unwrap();
        assert_eq!(
            (user.name.as_str(), user.uid.as_str()),
            ("system:serviceaccount:dev:bot", "sa-uid")
        );
        assert_eq!(
            user.groups,
            [
                "system:authenticated",
                "system:serviceaccounts",
                "system:serviceaccounts:dev"
            ]
        );
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["web"]);
        assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("JTI="));
    }
}

#[test]
fn time_and_objects_end_a_token() {
    let access = access();
    let mut objects = objects();
    let token = access.issue_token(&issue(600), at(0)).unwrap().token;
    assert!(user(&access, &token, &objects, at(-60)).is_none(), "not yet");
    assert!(user(&access, &token, &objects, at(599)).is_some());
    assert!(user(&access, &token, &objects, at(700)).is_none(), "expired");
    objects.delete("", "pods", "dev", "web");
    assert!(user(&access, &token, &objects, at(1)).is_none(), "pod gone");
    objects.put(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "dev", "uid": "another"}}),
    );
    assert!(user(&access, &token, &objects, at(1)).is_none(), "pod replaced");
    let mut unbound = issue(600);
    unbound.bound = None;
    let token = access.issue_token(&unbound, at(0)).unwrap().token;
    assert!(user(&access, &token, &objects, at(1)).is_some());
    objects.delete("", "serviceaccounts", "dev", "bot");
    assert!(user(&access, &token, &objects, at(1)).is_none(), "account gone");
}

#[test]
fn the_default_volumes_token_outlives_its_announcement() {
    let (access, objects) = (access(), objects());
    let issued = access.issue_token(&issue(3607), at(0)).unwrap();
    assert_eq!(issued.expiration, at(3607));
    assert!(user(&access, &issued.token, &objects, at(7200)).is_some());
    assert!(user(&access, &issued.token, &objects, at(366 * 24 * 3600)).is_none());
}

#[test]
fn tampered_tokens_are_refused() {
    let (access, objects) = (access(), objects());
    let token = access.issue_token(&issue(600), at(0)).unwrap().token;
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    claims["sub"] = "system:serviceaccount:kube-system:admin".into();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = json!({"alg": "none"});
    let hmac = json!({"alg": "HS256"});
    let other = self::access().issue_token(&issue(600), at(0)).unwrap().token;
    for bad in [
        format!("{}.{}.{}", parts[0], encode(&claims), parts[2]),
        format!("{}.{}.", encode(&none), parts[1]),
        format!("{}.{}.{}", encode(&hmac), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{}.{}", parts[0], parts[1]),
        other,
        String::new(),
        "x".repeat(100_000),
    ] {
        assert!(user(&access, &bad, &objects, at(1)).is_none(), "{bad:.80}");
    }
}

#[test]
fn audiences() {
    let (access, objects) = (access(), objects());
    let mut vault = issue(600);
    vault.audiences = vec!["vault".into()];
    let token = access.issue_token(&vault, at(0)).unwrap().token;
    assert!(user(&access, &token, &objects, at(1)).is_none());
    let review = access.review_token(&token, &["vault".into(), "x".into()], &objects, at(1));
    assert_eq!(
        (&review["authenticated"], &review["audiences"]),
        (&json!(true), &json!(["vault"]))
    );
    assert_eq!(review["user"]["username"], "system:serviceaccount:dev:bot");
    let review = access.review_token(&token, &[], &objects, at(1));
    assert_eq!(
        review,
        json!({"user": {}, "error": format!(
            "[invalid bearer token, token audiences [\"vault\"] is invalid for the target audiences [{ISSUER:?}]]"
        )})
    );
}

#[test]
fn a_legacy_token_is_what_its_secret_holds() {
    let access = access();
    let mut objects = objects();
    let token = access.issue_legacy_token("dev", "bot-token", "bot", "sa-uid").unwrap();
    let secret = |token: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bot-token", "namespace": "dev"},
               "data": {"token": STANDARD.encode(token)}})
    };
    assert!(user(&access, &token, &objects, at(0)).is_none());
    objects.put(secret(&token));
    assert_eq!(
        user(&access, &token, &objects, at(0)).unwrap().name,
        "system:serviceaccount:dev:bot"
    );
    objects.put(secret("another"));
    assert!(user(&access, &token, &objects, at(0)).is_none());
}

#[test]
fn nothing_presented_is_nobody() {
    assert_eq!(
        access().authenticate(&Credentials::default(), &objects(), at(0)),
        Ok(None)
    );
    let garbage = Credentials {
        peer_certificate: Some(b"x"),
        bearer_token: None,
        ..Credentials::default()
    };
    assert!(access().authenticate(&garbage, &objects(), at(0)).is_err());
}

#[test]
fn discovery_documents_hold_the_public_key_only() {
    let access = access();
    let keys = access.jwks();
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    assert!(keys["keys"][0].get("d").is_none());
    let configuration = access.openid_configuration("https://10.0.0.1:6443/openid/v1/jwks");
    assert_eq!(configuration["issuer"], ISSUER);
}

#[test]
fn impersonation_asks_for_each_thing() {
    let request = ImpersonationRequest {
        user: "ann".into(),
        uid: "7".into(),
        groups: vec!["dev".into()],
        extra: [("scopes".to_string(), vec!["view".to_string()])].into(),
    };
    let planned = plan(&request).unwrap().unwrap();
    let asked: Vec<String> = planned
        .checks
        .iter()
        .map(|c| {
            format!(
                "{}/{}/{} {}/{}",
                c.group, c.resource, c.subresource, c.namespace, c.name
            )
        })
        .collect();
    assert_eq!(
        asked,
        [
            "/users/ /ann",
            "/groups/ /dev",
            "authentication.k8s.io/userextras/scopes /view",
            "authentication.k8s.io/uids/ /7",
        ]
    );
    assert_eq!(planned.user.groups, ["dev", AUTHENTICATED]);

    let account = ImpersonationRequest {
        user: "system:serviceaccount:dev:bot".into(),
        ..Default::default()
    };
    let planned = plan(&account).unwrap().unwrap();
    assert_eq!(
        (planned.checks[0].resource, planned.checks[0].namespace.as_str()),
        ("serviceaccounts", "dev")
    );
    assert_eq!(
        planned.user.groups,
        [AUTHENTICATED, "system:serviceaccounts", "system:serviceaccounts:dev"]
    );

    let nobody = ImpersonationRequest {
        user: ANONYMOUS.into(),
        ..Default::default()
    };
    assert_eq!(plan(&nobody).unwrap().unwrap().user.groups, [UNAUTHENTICATED]);
    assert!(
        plan(&ImpersonationRequest {
            groups: vec!["x".into()],
            ..Default::default()
        })
        .is_err()
    );
    assert_eq!(plan(&ImpersonationRequest::default()).unwrap(), None);
}
