use super::*;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};
use std::sync::Arc;

struct Objects;
impl Lookup for Objects {
    fn config_map(&self, _: &str, name: &str) -> Option<Arc<ConfigMap>> {
        let map = json!({"data": {"k": "v"}, "binaryData": {"b": "AP8="}});
        (name == "m").then(|| Arc::new(serde_json::from_value(map).expect("valid")))
    }
    fn secret(&self, _: &str, name: &str) -> Option<Arc<Secret>> {
        (name == "s").then(|| Arc::new(serde_json::from_value(json!({"data": {"p": "cHc="}})).expect("valid")))
    }
}

/// `path mode owner bytes` of each file, or the error.
fn made(security: Value, container: Value, mut volume: Value) -> Result<Vec<String>, String> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
        "spec": {"securityContext": security, "containers": [{"name": "c", "securityContext": container,
            "resources": {"limits": {"memory": "1Mi"}}}]}
    }))
    .expect("valid");
    volume["name"] = json!("v");
    let volume: Volume = serde_json::from_value(volume).expect("valid");
    let wanted = TokenRequest {
        audience: String::new(),
        expiration_s: 3_600,
        path: "token".into(),
    };
    let tokens = BTreeMap::from([(wanted, "secret".to_owned())]);
    let files = files(&pod, &volume, &Objects, &Facts::default(), &tokens).expect("made of files")?;
    Ok(files
        .iter()
        .map(|(path, f)| {
            let owner = f.user.map_or("-".into(), |u| u.to_string());
            format!("{path} {:o} {owner} {}", f.mode, f.bytes.escape_ascii())
        })
        .collect())
}

#[test]
fn sources() {
    for (volume, expected) in [
        (
            json!({"configMap": {"name": "m"}}),
            Ok(vec![r"b 644 - \x00\xff", "k 644 - v"]),
        ),
        (
            json!({"configMap": {"name": "m", "defaultMode": 0o400, "items": [{"key": "k", "path": "d/x", "mode": 0o440}]}}),
            Ok(vec!["d/x 440 - v"]),
        ),
        (
            json!({"configMap": {"name": "gone"}}),
            Err("configmap \"gone\" not found"),
        ),
        (json!({"configMap": {"name": "gone", "optional": true}}), Ok(vec![])),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "no", "path": "x"}]}}),
            Err("configmap references non-existent config key: no"),
        ),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "../x"}]}}),
            Err("invalid path \"../x\": must be relative and without '..'"),
        ),
        (
            json!({"secret": {"secretName": "s", "items": [{"key": "no", "path": "x"}]}}),
            Err("references non-existent secret key: no"),
        ),
        (
            json!({"secret": {"secretName": "s", "defaultMode": 0o400}}),
            Ok(vec!["p 400 - pw"]),
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "m", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Ki"}}]}}),
            Ok(vec![r#"l 644 - a=\"b\""#, "m 644 - 1024"]),
        ),
        (
            json!({"projected": {"sources": [{"clusterTrustBundle": {"name": "x", "path": "ca"}}]}}),
            Err("clustertrustbundle \"x\" not found"),
        ),
    ] {
        let found = made(json!({}), json!({}), volume.clone());
        let expected = expected
            .map(|list| list.into_iter().map(str::to_owned).collect())
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{volume}");
    }
}

#[test]
fn tokens_belong_to_the_only_user() {
    let token = json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
    for (pod, container, expected) in [
        (json!({}), json!({}), "token 644 - secret"),
        (json!({"runAsUser": 7}), json!({}), "token 600 7 secret"),
        (json!({}), json!({"runAsUser": 8}), "token 600 8 secret"),
        (json!({"fsGroup": 9}), json!({}), "token 600 - secret"),
    ] {
        assert_eq!(made(pod, container, token.clone()).expect("made"), [expected]);
    }
}
