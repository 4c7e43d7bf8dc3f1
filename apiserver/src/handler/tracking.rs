//! managedFields of what is written: who the writer is, which fields a
//! subresource can set, and the kind's other versions. The rules of ownership
//! are skiff-api's.

use super::identity::ServerCall;
use crate::codec;
use crate::respond;
use http::header;
use serde_json::Value;
use skiff_access::UserInfo;
use skiff_api::apply::{self, Tracking, Versions, Writer};
use skiff_api::schema::{self, Type};
use skiff_api::{ApiError, FieldError};
use skiff_kinds::Kind;

/// Longest name of a field manager, as upstream.
const MANAGER_BYTES_MAX: usize = 128;

/// One write, as managedFields record it.
#[derive(Clone, Copy)]
pub(crate) struct FieldWriter<'a> {
    pub kind: &'a Kind,
    pub version: &'a str,
    /// The subresource through which the object is written; empty for the object itself.
    pub subresource: &'a str,
    pub manager: &'a str,
}

impl<'a> FieldWriter<'a> {
    /// Tracks a create (`live` is none) or update of trees in the storage version.
    pub fn track(&self, live: Option<&Value>, new: &mut Value) -> Result<(), ApiError> {
        let (version, storage) = self.versions();
        let ty = self.ty()?;
        let now = respond::now_text();
        let (versions, ignored) = (KindVersions(self.kind), self.ignored());
        let tracking = tracking(ty, &ignored, &versions);
        let who = self.writer(&version, &now);
        if version == storage {
            apply::track_update(&tracking, live, new, &who);
            return Ok(());
        }
        let live = live.map(|live| codec::to_version(live.clone(), self.kind, self.version));
        let mut seen = codec::to_version(new.clone(), self.kind, self.version);
        apply::track_update(&tracking, live.as_ref(), &mut seen, &who);
        let tracked = seen["metadata"]["managedFields"].take();
        if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
            if tracked.is_null() {
                metadata.remove("managedFields");
            } else {
                metadata.insert("managedFields".into(), tracked);
            }
        }
        Ok(())
    }

    /// Applies a configuration to a live object; both and the answer are in the writer's version.
    pub fn apply(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, ApiError> {
        let ty = self.ty()?;
        let (version, _) = self.versions();
        let now = respond::now_text();
        let (versions, ignored) = (KindVersions(self.kind), self.ignored());
        let tracking = tracking(ty, &ignored, &versions);
        apply::apply(&tracking, live, config, &self.writer(&version, &now), force)
    }

    fn ty(&self) -> Result<&'a Type, ApiError> {
        self.kind
            .type_in(self.version)
            .ok_or_else(|| ApiError::internal(format!("no description of the type {}", self.kind.kind)))
    }

    fn versions(&self) -> (String, String) {
        (
            schema::api_version(self.kind.group, self.version),
            skiff_kinds::storage_api_version(self.kind),
        )
    }

    fn writer<'w>(&'w self, version: &'w str, now: &'w str) -> Writer<'w> {
        Writer {
            manager: self.manager,
            api_version: version,
            subresource: self.subresource,
            now,
        }
    }

    /// Paths that a write through this subresource does not reach.
    fn ignored(&self) -> Vec<&'static [&'static str]> {
        let has_status = self.kind.subresources.iter().any(|sub| sub.name == "status");
        match self.subresource {
            "status" => vec![
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ],
            "approval" => vec![&["spec"]],
            _ if has_status => vec![&["status"]],
            _ => Vec::new(),
        }
    }
}

fn tracking<'a>(ty: &'a Type, ignored: &'a [&'a [&'a str]], versions: &'a KindVersions<'a>) -> Tracking<'a> {
    Tracking {
        ty,
        ignored,
        versions: Some(versions),
    }
}

struct KindVersions<'a>(&'a Kind);

impl Versions for KindVersions<'_> {
    fn in_version(&self, object: &Value, api_version: &str) -> Option<(Value, &Type)> {
        let (_, version) = schema::split_api_version(api_version);
        let ty = self.0.type_in(version)?;
        let mut object = object.clone();
        if let Some(custom) = self
            .0
            .custom
            .as_ref()
            .filter(|c| !c.converts_here(&object, api_version))
        {
            // Nobody is asked for the sake of entries: fields are taken to be where they were.
            object["apiVersion"] = api_version.into();
            return custom.type_in(version).map(|ty| (object, ty));
        }
        let from = object["apiVersion"].as_str().unwrap_or("").to_string();
        let storage = skiff_kinds::storage_api_version(self.0);
        // Every version converts to the stored one and back, not each to each.
        for (from, to) in [(from.as_str(), storage.as_str()), (storage.as_str(), api_version)] {
            skiff_kinds::convert(self.0, from, to, &mut object).ok()?;
        }
        Some((object, ty))
    }
}

/// The name a write is tracked under: what the request says, else the part of its
/// user agent before the slash, else the component that the user is.
pub(crate) fn manager_of(call: &ServerCall) -> Result<String, ApiError> {
    let asked = &call.options.field_manager;
    if !asked.is_empty() {
        return Ok(asked.clone());
    }
    let agent = call.header(header::USER_AGENT);
    let prefix = agent.split('/').next().unwrap_or("");
    let mut name = String::new();
    for c in prefix.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MANAGER_BYTES_MAX {
            break;
        }
        name.push(c);
    }
    if name.is_empty() {
        name = component(&call.user).to_string();
    }
    Ok(name)
}

/// Components in this process send no user agent; upstream's programs would.
fn component(user: &UserInfo) -> &'static str {
    let name = user.name.as_str();
    if name.starts_with("system:node:") {
        "kubelet"
    } else if name == "system:kube-scheduler" {
        "kube-scheduler"
    } else if name == "system:apiserver" {
        "kube-apiserver"
    } else if name == "system:kube-controller-manager" || name.starts_with("system:serviceaccount:kube-system:") {
        "kube-controller-manager"
    } else {
        "unknown"
    }
}

/// 422 about the query's options.
pub(crate) fn bad_options(call: &ServerCall, error: &FieldError) -> ApiError {
    let kind = match call.info.verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        _ => "PatchOptions",
    };
    ApiError::invalid("meta.k8s.io", kind, "", std::slice::from_ref(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_have_upstreams_names() {
        let named = |name: &str| {
            component(&UserInfo {
                name: name.into(),
                ..UserInfo::default()
            })
        };
        assert_eq!(named("system:node:a"), "kubelet");
        assert_eq!(
            named("system:serviceaccount:kube-system:deployment-controller"),
            "kube-controller-manager"
        );
        assert_eq!(named("system:serviceaccount:default:deployer"), "unknown");
    }
}
