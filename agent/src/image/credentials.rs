//! What pull secrets hold, and which of it is for which image. Pure.
//!
//! Docker's configuration names registries in many ways: with and without a scheme,
//! with a path, with `*` in labels of the host.

use super::reference::{DEFAULT_REGISTRY, Reference};
use base64::Engine;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A name and a password, or a token that stands for them. Never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: String,
    pub identity_token: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// `base64(name:password)`, as Docker keeps it.
    pub fn from_auth(auth: &str) -> Option<Self> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Self {
            username: username.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
            identity_token: String::new(),
        })
    }
}

/// The secret that a login comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub login: Login,
    pub source: Source,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

/// The logins of these secrets that are for the image, the closest first. A secret that
/// cannot be read has none.
pub fn matching(secrets: &[impl AsRef<Secret>], image: &Reference) -> Vec<Found> {
    let mut by_key: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for secret in secrets {
        let secret = secret.as_ref();
        for (location, login) in entries(secret) {
            let meta = &secret.metadata;
            let source = Source {
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
                uid: meta.uid.clone().unwrap_or_default(),
            };
            by_key.entry(key(&location)).or_default().push(Found { login, source });
        }
    }
    let name = image.name();
    // Backwards by name, so that a longer path comes before its beginning.
    let found: Vec<Found> = by_key
        .iter()
        .rev()
        .filter(|(key, _)| covers(key, &name))
        .flat_map(|(_, list)| list.clone())
        .collect();
    if found.is_empty() && image.registry == DEFAULT_REGISTRY {
        return by_key.remove("index.docker.io").unwrap_or_default();
    }
    found
}

fn entries(secret: &Secret) -> Vec<(String, Login)> {
    let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice());
    let auths = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson")
            .and_then(|bytes| serde_json::from_slice::<Whole>(bytes).ok())
            .map(|whole| whole.auths),
        Some("kubernetes.io/dockercfg") => data(".dockercfg").and_then(|bytes| serde_json::from_slice(bytes).ok()),
        _ => None,
    };
    auths
        .into_iter()
        .flatten()
        .filter_map(|(location, entry)| login(entry).map(|login| (location, login)))
        .collect()
}

fn login(entry: Entry) -> Option<Login> {
    if entry.auth.is_empty() {
        return Some(Login {
            username: entry.username,
            password: entry.password,
            identity_token: entry.identity_token,
        });
    }
    let decoded = Login::from_auth(&entry.auth)?;
    Some(Login {
        identity_token: entry.identity_token,
        ..decoded
    })
}

/// Host and path of a location; the API's version is no path of it.
fn key(location: &str) -> String {
    let bare = location
        .strip_prefix("https://")
        .or_else(|| location.strip_prefix("http://"))
        .unwrap_or(location);
    let bare = bare.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let rest = path
        .strip_prefix("v1/")
        .or_else(|| path.strip_prefix("v2/"))
        .unwrap_or(path);
    if rest.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{rest}")
    }
}

/// Whether a location, with `*` and `?` within a label of the host, is for this name.
fn covers(key: &str, name: &str) -> bool {
    let (pattern, path) = key.split_once('/').map_or((key, ""), |(host, path)| (host, path));
    let (host, repository) = name.split_once('/').unwrap_or((name, ""));
    let (pattern, pattern_port) = port(pattern);
    let (host, host_port) = port(host);
    let labels = |text: &str| text.split('.').count();
    pattern_port == host_port
        && labels(pattern) == labels(host)
        && pattern
            .split('.')
            .zip(host.split('.'))
            .all(|(p, h)| glob(p.as_bytes(), h.as_bytes()))
        && repository.starts_with(path)
}

fn port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
        _ => (host, ""),
    }
}

/// `*` is any run of characters, `?` any one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn secret(name: &str, kind: &str, key: &str, value: &Value) -> Arc<Secret> {
        let text = base64::engine::general_purpose::STANDARD.encode(value.to_string());
        let secret =
            json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "type": kind, "data": {key: text}});
        Arc::new(serde_json::from_value(secret).expect("valid"))
    }

    fn docker(name: &str, auths: &Value) -> Arc<Secret> {
        secret(
            name,
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            &json!({"auths": auths}),
        )
    }

    fn users(secrets: &[Arc<Secret>], image: &str) -> Vec<String> {
        let image = Reference::parse(image).expect("valid");
        matching(secrets, &image)
            .into_iter()
            .map(|f| f.login.username)
            .collect()
    }

    #[test]
    fn locations_match_as_docker_and_kubernetes_have_them() {
        for (location, image, expected) in [
            ("r.io", "r.io/a/b", true),
            ("https://r.io", "r.io/a", true),
            ("https://r.io/v2/", "r.io/a", true),
            ("http://r.io/v1/", "r.io/a", true),
            ("r.io/a", "r.io/a/b", true),
            ("r.io/a", "r.io/b", false),
            ("r.io:5000", "r.io:5000/a", true),
            ("r.io", "r.io:5000/a", false),
            ("*.io", "r.io/a", true),
            ("*.r.io", "r.io/a", false),
            ("*.r.io", "x.r.io/a", true),
            ("*.io", "x.r.io/a", false),
            ("r*x.io", "rabx.io/a", true),
            ("https://index.docker.io/v1/", "web", true),
            ("https://index.docker.io/v1/", "me/web", true),
            ("docker.io", "web", true),
            ("https://index.docker.io/v1/", "r.io/web", false),
        ] {
            let secrets = [docker("s", &json!({location: {"username": "u", "password": "p"}}))];
            assert_eq!(!users(&secrets, image).is_empty(), expected, "{location} {image}");
        }
    }

    #[test]
    fn forms_of_secrets() {
        let auth = base64::engine::general_purpose::STANDARD.encode("me:a:b");
        let old = secret(
            "o",
            "kubernetes.io/dockercfg",
            ".dockercfg",
            &json!({"r.io": {"auth": auth}}),
        );
        let image = Reference::parse("r.io/a").expect("valid");
        let found = matching(std::slice::from_ref(&old), &image);
        assert_eq!(
            (found[0].login.username.as_str(), found[0].login.password.as_str()),
            ("me", "a:b")
        );
        assert_eq!(found[0].source.name, "o");
        assert!(!format!("{found:?}").contains("a:b"), "passwords are not printed");
        let near = docker(
            "x",
            &json!({"r.io": {"username": "far"}, "r.io/a": {"username": "near"}}),
        );
        assert_eq!(users(&[near.clone(), old], "r.io/a/b"), ["near", "far", "me"]);
        for bad in [
            docker("b", &json!({"r.io": {"auth": "%%%"}})),
            secret(
                "b",
                "Opaque",
                ".dockerconfigjson",
                &json!({"auths": {"r.io": {"username": "u"}}}),
            ),
            secret(
                "b",
                "kubernetes.io/dockerconfigjson",
                ".dockerconfigjson",
                &json!("text"),
            ),
        ] {
            assert_eq!(users(&[bad], "r.io/a"), Vec::<String>::new());
        }
    }
}
