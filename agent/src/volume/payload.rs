//! The files of configMap, secret, downwardAPI and projected volumes. Pure.

use crate::pod::environment::{Facts, Lookup, field_value, resource_value};
use crate::pod::spec;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// The owner; root if nobody is named.
    pub user: Option<u32>,
}

pub type Files = BTreeMap<String, File>;

/// One token that a projected volume wants; the shell asks the API for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenRequest {
    pub audience: String,
    pub expiration_s: i64,
    pub path: String,
}

const MODE: u32 = 0o644;

fn mode(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|m| u32::try_from(m).ok()).unwrap_or(default)
}

/// `None` when the volume is not made of files.
pub fn files(
    pod: &Pod,
    volume: &Volume,
    lookup: &dyn Lookup,
    facts: &Facts,
    tokens: &BTreeMap<TokenRequest, String>,
) -> Option<Result<Files, String>> {
    let namespace = spec::key(pod).0;
    if let Some(source) = &volume.config_map {
        let default = mode(source.default_mode, MODE);
        return Some(config_map(
            &namespace,
            &source.name,
            source.items.as_deref(),
            source.optional,
            default,
            lookup,
        ));
    }
    if let Some(source) = &volume.secret {
        let default = mode(source.default_mode, MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        return Some(secret(
            &namespace,
            name,
            source.items.as_deref(),
            source.optional,
            default,
            lookup,
        ));
    }
    if let Some(source) = &volume.downward_api {
        let default = mode(source.default_mode, MODE);
        return Some(downward(
            pod,
            source.items.as_deref().unwrap_or_default(),
            default,
            facts,
        ));
    }
    let projected = volume.projected.as_ref()?;
    let default = mode(projected.default_mode, MODE);
    let (mut all, mut errors) = (Files::new(), Vec::new());
    for source in projected.sources.iter().flatten() {
        let part = if let Some(s) = &source.config_map {
            config_map(&namespace, &s.name, s.items.as_deref(), s.optional, default, lookup)
        } else if let Some(s) = &source.secret {
            secret(&namespace, &s.name, s.items.as_deref(), s.optional, default, lookup)
        } else if let Some(s) = &source.downward_api {
            downward(pod, s.items.as_deref().unwrap_or_default(), default, facts)
        } else if let Some(wanted) = source.service_account_token.as_ref().map(token_request) {
            match tokens.get(&wanted) {
                None => Err("token not yet issued".into()),
                Some(token) => Ok(Files::from([(wanted.path, token_file(pod, token, default))])),
            }
        } else if let Some(bundle) = &source.cluster_trust_bundle {
            // The kind is not served yet, so no bundle exists.
            if bundle.optional == Some(true) {
                Ok(Files::from([(bundle.path.clone(), file(Vec::new(), default))]))
            } else {
                let name = bundle.name.as_deref().or(bundle.signer_name.as_deref());
                Err(format!("clustertrustbundle {:?} not found", name.unwrap_or_default()))
            }
        } else {
            Err("this kind of projected volume source is not supported".into())
        };
        match part {
            Ok(part) => all.extend(part),
            Err(error) => errors.push(error),
        }
    }
    Some(match errors.as_slice() {
        [] => Ok(all),
        [only] => Err(only.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    })
}

fn file(bytes: Vec<u8>, mode: u32) -> File {
    File {
        bytes,
        mode,
        user: None,
    }
}

/// Where the pod says whose the token is, nobody else may read it.
fn token_file(pod: &Pod, token: &str, default: u32) -> File {
    let user = only_user(pod);
    let security = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let grouped = security.is_some_and(|s| s.fs_group.is_some());
    File {
        bytes: token.as_bytes().to_vec(),
        mode: if user.is_some() || grouped { 0o600 } else { default },
        user,
    }
}

/// The user that all containers run as.
fn only_user(pod: &Pod) -> Option<u32> {
    let pod_spec = pod.spec.as_ref()?;
    let all = pod_spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users =
        spec::containers(pod_spec).map(|(c, _)| c.security_context.as_ref().and_then(|s| s.run_as_user).or(all));
    let first = users.next()??;
    let only = users.all(|user| user == Some(first));
    u32::try_from(first).ok().filter(|_| only)
}

/// Whether a change of the pod's labels or annotations changes a file.
pub fn follows_metadata(pod: &Pod) -> bool {
    let volumes = || pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let mut projected = volumes()
        .filter_map(|v| v.projected.as_ref())
        .flat_map(|p| p.sources.iter().flatten());
    volumes().any(|v| v.downward_api.is_some()) || projected.any(|s| s.downward_api.is_some())
}

fn token_request(source: &k8s_openapi::api::core::v1::ServiceAccountTokenProjection) -> TokenRequest {
    TokenRequest {
        audience: source.audience.clone().unwrap_or_default(),
        expiration_s: source.expiration_seconds.unwrap_or(3_600),
        path: source.path.clone(),
    }
}

pub fn token_requests(pod: &Pod) -> Vec<TokenRequest> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|v| v.projected.as_ref())
        .flat_map(|p| p.sources.iter().flatten())
        .filter_map(|s| s.service_account_token.as_ref())
        .map(token_request)
        .collect()
}

fn pick(
    data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: u32,
    missing: &str,
) -> Result<Files, String> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data
            .into_iter()
            .map(|(path, bytes)| (path, file(bytes, default)))
            .collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                files.insert(safe(&item.path)?, file(bytes.clone(), mode(item.mode, default)));
            }
            None if optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(files)
}

/// A path of the pod's author must stay inside the volume.
fn safe(path: &str) -> Result<String, String> {
    let bad = path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == ".." || part.is_empty());
    if bad {
        Err(format!("invalid path {path:?}: must be relative and without '..'"))
    } else {
        Ok(path.to_owned())
    }
}

fn config_map(
    namespace: &str,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: u32,
    lookup: &dyn Lookup,
) -> Result<Files, String> {
    let optional = optional.unwrap_or(false);
    let Some(map) = lookup.config_map(namespace, name) else {
        return if optional {
            Ok(Files::new())
        } else {
            Err(format!("configmap \"{name}\" not found"))
        };
    };
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
    pick(
        text.chain(binary).collect(),
        items,
        optional,
        default,
        "configmap references non-existent config key",
    )
}

fn secret(
    namespace: &str,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    default: u32,
    lookup: &dyn Lookup,
) -> Result<Files, String> {
    let optional = optional.unwrap_or(false);
    let Some(secret) = lookup.secret(namespace, name) else {
        return if optional {
            Ok(Files::new())
        } else {
            Err(format!("secret \"{name}\" not found"))
        };
    };
    let data = secret
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()))
        .collect();
    pick(data, items, optional, default, "references non-existent secret key")
}

fn downward(pod: &Pod, items: &[DownwardAPIVolumeFile], default: u32, facts: &Facts) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_value(pod, &field.field_path, facts)?
        } else if let Some(field) = &item.resource_field_ref {
            let name = field.container_name.as_deref().unwrap_or_default();
            let found = pod.spec.as_ref().and_then(|s| spec::find(s, name));
            resource_value(
                pod,
                found.ok_or_else(|| format!("container {name} not found"))?.0,
                field,
                facts,
            )?
        } else {
            String::new()
        };
        files.insert(safe(&item.path)?, file(text.into_bytes(), mode(item.mode, default)));
    }
    Ok(files)
}

#[cfg(test)]
#[path = "payload_test.rs"]
mod tests;
