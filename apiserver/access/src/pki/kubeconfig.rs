//! Kubeconfig text with everything embedded, as `kubectl` reads it.

use super::ca::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// A kubeconfig of one cluster and one user. JSON is YAML, but people read this
/// file: it is written as YAML. `cluster` and `user` are plain names.
pub fn kubeconfig(cluster: &str, user: &str, server: &str, ca_pem: &str, identity: &Identity) -> String {
    // A JSON string is a valid double-quoted YAML scalar.
    let quoted = |text: &str| json!(text).to_string();
    let encoded = |text: &str| STANDARD.encode(text);
    let context = quoted(&format!("{user}@{cluster}"));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {cluster}\n  cluster:\n    certificate-authority-data: {ca}\n    \
         server: {server}\ncontexts:\n- name: {context}\n  context:\n    cluster: {cluster}\n    user: {user}\n\
         current-context: {context}\npreferences: {{}}\nusers:\n- name: {user}\n  user:\n    \
         client-certificate-data: {certificate}\n    client-key-data: {key}\n",
        cluster = quoted(cluster),
        ca = encoded(ca_pem),
        server = quoted(server),
        user = quoted(user),
        certificate = encoded(&identity.certificate_pem),
        key = encoded(&identity.key_pem),
    )
}
