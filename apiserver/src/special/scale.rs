//! The scale subresource: an autoscaling/v1 Scale seen through a workload.

use super::body_of;
use crate::admission::{Asked, write_options};
use crate::body::ApiBody;
use crate::codec::{self, Patch};
use crate::handler::{FieldWriter, ServerCall, Target, UpdateArgs, applier, manager_of};
use crate::registry::text_at;
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::{Value, json};
use skiff_access::Operation;
use skiff_api::{ApiError, FieldError};
use skiff_kinds::custom::ScalePaths;

impl ApiServer {
    pub(super) async fn get_scale(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let snapshot = self.read_snapshot(&call.options.resource_version).await?;
        let entry = self.entry(target, &*snapshot, &call.info.namespace, &call.info.name)?;
        let entry = self.shown(&target.kind, target.version, &entry).await?;
        let places = Places::of(target);
        let object = codec::stored(&entry)?;
        places.check(&object)?;
        respond::plain(200, call.header(http::header::ACCEPT), &places.scale_of(&object))
    }

    pub(super) async fn write_scale(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let kind = &*target.kind;
        let places = Places::of(target);
        let options = write_options(call, "UpdateOptions");
        let content_type = call.header(http::header::CONTENT_TYPE);
        let applied = if call.info.verb == "patch" && codec::is_apply(content_type) {
            applier(call)?;
            Some(places.applied_to_parent(call, target)?)
        } else {
            None
        };
        let manager = manager_of(call)?;
        let writer = FieldWriter {
            kind,
            version: target.version,
            subresource: "scale",
            manager: &manager,
        };
        let args = UpdateArgs {
            target: &target.main(),
            namespace: &call.info.namespace,
            name: &call.info.name,
            user: &call.user,
            dry_run: call.options.dry_run,
            options: &options,
            patch: true,
            tracked: applied.is_none().then_some((manager.as_str(), "scale")),
            admitted: true,
        };
        let asked = Asked {
            operation: Operation::Update,
            user: &call.user,
            kind,
            version: target.version,
            subresource: "scale",
            body: Some(("autoscaling", "v1", "Scale")),
            namespace: &call.info.namespace,
            name: &call.info.name,
            dry_run: call.options.dry_run,
            options: &options,
        };
        let patch = if call.info.verb == "patch" && applied.is_none() {
            Some(Patch::read(call.header(http::header::CONTENT_TYPE), &call.body)?)
        } else {
            None
        };
        let sent = if patch.is_none() && applied.is_none() {
            body_of(call, ("autoscaling", "v1", "Scale"))?
        } else {
            Value::Null
        };
        let mut warnings = Vec::new();
        let writing = self.modification(kind, args.namespace, args.name, args.dry_run);
        let mut writing = writing.in_version(target.version);
        let written = loop {
            warnings.clear();
            let (old, objects) = writing.read().await?;
            let mut new = match (&applied, &patch) {
                (Some(config), _) => {
                    let seen = codec::to_version(Value::clone(&old), kind, target.version);
                    let new = writer.apply(Some(&seen), config, call.options.force)?;
                    let validation = call.options.field_validation;
                    codec::check_object(new, kind, target.version, validation, &mut warnings)?
                }
                (None, Some(patch)) => {
                    let mut scale = places.scale_of(&old);
                    patch.apply_as(("autoscaling", "v1", "Scale"), &mut scale)?;
                    places.scaled(&old, &scale)?
                }
                (None, None) => places.scaled(&old, &sent)?,
            };
            let mut scale = places.scale_of(&new);
            self.admit(
                &asked,
                &mut scale,
                Some(&places.scale_of(&old)),
                &objects,
                &mut warnings,
            )
            .await?;
            places.set_replicas(&mut new, replicas(&scale, &call.info.name)?);
            let change = self.updated(&args, new, &old, &objects, &mut warnings).await?;
            if let Some(written) = writing.write(change).await? {
                break written;
            }
        };
        let entry = self.shown(kind, target.version, &written.entry).await?;
        let scale = places.scale_of(&codec::stored(&entry)?);
        respond::plain_warned(200, call.header(http::header::ACCEPT), &scale, &warnings)
    }
}

/// Where a workload keeps what a Scale shows.
struct Places<'a>(Option<&'a ScalePaths>);

impl<'a> Places<'a> {
    fn of(target: &'a Target) -> Self {
        let custom = target.kind.custom.as_ref();
        Self(custom.and_then(|custom| custom.scale(target.version)))
    }

    /// A custom object without replicas cannot be shown as a Scale.
    fn check(&self, object: &Value) -> Result<(), ApiError> {
        match self.0 {
            Some(paths) if at(object, &paths.spec_replicas).is_none() => Err(ApiError::internal(format!(
                "the spec replicas field {:?} does not exist",
                format!(".{}", paths.spec_replicas.join("."))
            ))),
            _ => Ok(()),
        }
    }

    fn spec_replicas(&self, object: &Value) -> i64 {
        match self.0 {
            Some(paths) => at(object, &paths.spec_replicas).and_then(Value::as_i64).unwrap_or(0),
            None => object["spec"]["replicas"].as_i64().unwrap_or(0),
        }
    }

    fn set_replicas(&self, object: &mut Value, replicas: i64) {
        match self.0 {
            Some(paths) => {
                let path: Vec<&str> = paths.spec_replicas.iter().map(String::as_str).collect();
                skiff_api::meta::set(object, &path, replicas);
            }
            None => object["spec"]["replicas"] = replicas.into(),
        }
    }

    fn status(&self, object: &Value) -> Value {
        let (replicas, selector) = match self.0 {
            Some(paths) => (
                at(object, &paths.status_replicas).and_then(Value::as_i64),
                at(object, &paths.selector)
                    .filter(|_| !paths.selector.is_empty())
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_string(),
            ),
            None => (
                object["status"]["replicas"].as_i64(),
                selector_text(&object["spec"]["selector"]),
            ),
        };
        let mut status = json!({"replicas": replicas.unwrap_or(0)});
        if !selector.is_empty() {
            status["selector"] = selector.into();
        }
        status
    }

    fn scale_of(&self, object: &Value) -> Value {
        let mut metadata = json!({});
        for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = object["metadata"].get(key) {
                metadata[key] = value.clone();
            }
        }
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
            "spec": {"replicas": self.spec_replicas(object)}, "status": self.status(object)})
    }

    /// The workload as a Scale would have it.
    fn scaled(&self, old: &Value, scale: &Value) -> Result<Value, ApiError> {
        let mut new = old.clone();
        self.set_replicas(&mut new, replicas(scale, text_at(old, &["metadata", "name"]))?);
        match text_at(scale, &["metadata", "resourceVersion"]) {
            "" => {}
            asked => new["metadata"]["resourceVersion"] = asked.into(),
        }
        Ok(new)
    }

    /// An applied Scale as what it means for the workload.
    fn applied_to_parent(&self, call: &ServerCall, target: &Target) -> Result<Value, ApiError> {
        let scale = codec::apply_body(&call.body)?;
        let given = (text_at(&scale, &["apiVersion"]), text_at(&scale, &["kind"]));
        if given != ("autoscaling/v1", "Scale") {
            return Err(ApiError::bad_request(format!(
                "invalid object type: {}, Kind={}",
                given.0, given.1
            )));
        }
        let api_version = codec::api_version(target.kind.group, target.version);
        let mut config = json!({"apiVersion": api_version, "kind": target.kind.kind, "metadata": {}});
        if !scale["spec"]["replicas"].is_null() {
            self.set_replicas(&mut config, replicas(&scale, &call.info.name)?);
        }
        match text_at(&scale, &["metadata", "resourceVersion"]) {
            "" => {}
            asked => config["metadata"]["resourceVersion"] = asked.into(),
        }
        Ok(config)
    }
}

fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn replicas(scale: &Value, name: &str) -> Result<i64, ApiError> {
    let replicas = &scale["spec"]["replicas"];
    match replicas.as_i64() {
        Some(n) if n >= 0 => Ok(n),
        None if replicas.is_null() => Ok(0),
        _ => {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            Err(ApiError::invalid("autoscaling", "Scale", name, &[error]))
        }
    }
}

/// A LabelSelector, or a ReplicationController's plain map, as text.
fn selector_text(selector: &Value) -> String {
    let Some(map) = selector.as_object() else {
        return String::new();
    };
    if map.contains_key("matchLabels") || map.contains_key("matchExpressions") {
        return super::pods::selector_text(selector).unwrap_or_default();
    }
    let terms: Vec<String> = map
        .iter()
        .filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?)))
        .collect();
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_shows_the_selector_as_text() {
        let deployment = json!({"metadata": {"name": "web", "namespace": "d"}, "spec": {"replicas": 3,
            "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "t", "operator": "In", "values": ["a", "b"]}]}},
            "status": {"replicas": 2}});
        let scale = Places(None).scale_of(&deployment);
        assert_eq!(
            scale["status"],
            json!({"replicas": 2, "selector": "app=web,t in (a,b)"})
        );
        assert_eq!(
            Places(None).scale_of(&json!({"metadata": {}, "spec": {"selector": {"x": "y"}}}))["status"]["selector"],
            "x=y"
        );
    }
}
