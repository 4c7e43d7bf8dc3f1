//! Kubeconfig text with everything embedded, as `kubectl` reads it.

use super::ca::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// A kubeconfig of one cluster and one user. JSON is YAML, but people read this
/// file: it is written as YAML. `cluster`, `user` and `others` are plain names; the others, with
/// their servers' URLs, are further ways to the same cluster, each in a context of its own.
pub fn kubeconfig(
    cluster: &str,
    user: &str,
    server: &str,
    others: &[(String, String)],
    ca_pem: &str,
    identity: &Identity,
) -> String {
    // A JSON string is a valid double-quoted YAML scalar.
    let quoted = |text: &str| json!(text).to_string();
    let (ca, user_name) = (STANDARD.encode(ca_pem), quoted(user));
    let mut ways = vec![(cluster.to_owned(), server.to_owned())];
    ways.extend(
        others
            .iter()
            .map(|(name, url)| (format!("{cluster}-{name}"), url.clone())),
    );
    let mut text = "apiVersion: v1\nkind: Config\nclusters:\n".to_owned();
    for (name, url) in &ways {
        let (name, url) = (quoted(name), quoted(url));
        text += &format!("- name: {name}\n  cluster:\n    certificate-authority-data: {ca}\n    server: {url}\n");
    }
    text += "contexts:\n";
    for (name, _) in &ways {
        let (context, name) = (quoted(&format!("{user}@{name}")), quoted(name));
        text += &format!("- name: {context}\n  context:\n    cluster: {name}\n    user: {user_name}\n");
    }
    let current = quoted(&format!("{user}@{cluster}"));
    let encoded = |text: &str| STANDARD.encode(text);
    text += &format!(
        "current-context: {current}\npreferences: {{}}\nusers:\n- name: {user_name}\n  user:\n    \
         client-certificate-data: {certificate}\n    client-key-data: {key}\n",
        certificate = encoded(&identity.certificate_pem),
        key = encoded(&identity.key_pem),
    );
    text
}
