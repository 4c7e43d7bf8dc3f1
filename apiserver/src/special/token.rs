//! serviceaccounts/token: a TokenRequest answered with a signed token.

use super::body_of;
use crate::body::ApiBody;
use crate::handler::{ServerCall, Target};
use crate::registry::text_at;
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::{Value, json};
use skiff_access::{BoundKind, BoundObject, Objects, TokenIssue};
use skiff_api::{ApiError, FieldError};

/// Shortest and longest life of a token in seconds, and the default; upstream's figures.
const EXPIRATION_SECONDS_MIN: i64 = 600;
const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;
const EXPIRATION_SECONDS_DEFAULT: i64 = 3600;

impl ApiServer {
    pub(super) async fn token_request(
        &self,
        call: &ServerCall,
        target: &Target,
    ) -> Result<Response<ApiBody>, ApiError> {
        let mut request = body_of(call, ("authentication.k8s.io", "v1", "TokenRequest"))?;
        let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
        for (key, url, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
            let given = text_at(&request, &["metadata", key]);
            if !given.is_empty() && given != url {
                let why = format!("must match the service account {what} if specified");
                let error = FieldError::invalid(format!("metadata.{key}"), &given.into(), &why);
                return Err(ApiError::invalid(
                    "authentication.k8s.io",
                    "TokenRequest",
                    name,
                    &[error],
                ));
            }
        }
        let objects = self.objects(self.read_snapshot("").await?);
        let account = objects
            .get("", "serviceaccounts", namespace, name)
            .ok_or_else(|| ApiError::not_found("", "serviceaccounts", name))?;
        if request["spec"]["expirationSeconds"].is_null() {
            request["spec"]["expirationSeconds"] = EXPIRATION_SECONDS_DEFAULT.into();
        }
        let gvk = ("authentication.k8s.io", "v1", "TokenRequest");
        let mut warnings = Vec::new();
        self.admit_body(call, target, gvk, name, &mut request, &objects, &mut warnings)
            .await?;
        let issue = issue_of(&request, &account, namespace, name, &objects)?;
        if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
            request["spec"]["audiences"] = json!(self.access.api_audiences());
        }
        let issued = self.access.issue_token(&issue, jiff::Timestamp::now())?;
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["metadata"] = json!({"name": name, "namespace": namespace, "creationTimestamp": respond::now_text()});
        request["status"] =
            json!({"token": issued.token, "expirationTimestamp": respond::time_text(issued.expiration)});
        respond::plain_warned(201, call.header(http::header::ACCEPT), &request, &warnings)
    }
}

fn issue_of(
    request: &Value,
    account: &Value,
    namespace: &str,
    name: &str,
    objects: &dyn Objects,
) -> Result<TokenIssue, ApiError> {
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(EXPIRATION_SECONDS_DEFAULT);
    if !(EXPIRATION_SECONDS_MIN..=EXPIRATION_SECONDS_MAX).contains(&seconds) {
        let why = if seconds < EXPIRATION_SECONDS_MIN {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        let error = FieldError::invalid("spec.expirationSeconds", &seconds.into(), why);
        return Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
    }
    let mut issue = TokenIssue {
        namespace: namespace.into(),
        service_account: name.into(),
        service_account_uid: text_at(account, &["metadata", "uid"]).into(),
        audiences: spec["audiences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect(),
        expiration_seconds: seconds,
        ..TokenIssue::default()
    };
    let reference = &spec["boundObjectRef"];
    if reference.is_object() {
        let (kind, resource, place) = match (text_at(reference, &["kind"]), text_at(reference, &["apiVersion"])) {
            ("Pod", "v1") => (BoundKind::Pod, "pods", namespace),
            ("Secret", "v1") => (BoundKind::Secret, "secrets", namespace),
            ("Node", "v1") => (BoundKind::Node, "nodes", ""),
            (kind, version) => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        let bound_name = text_at(reference, &["name"]);
        let bound = objects
            .get("", resource, place, bound_name)
            .ok_or_else(|| ApiError::not_found("", resource, bound_name))?;
        let uid = text_at(&bound, &["metadata", "uid"]);
        let asked = text_at(reference, &["uid"]);
        if !asked.is_empty() && asked != uid {
            return Err(ApiError::conflict(
                "",
                text_at(reference, &["kind"]),
                bound_name,
                &format!(
                    "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            ));
        }
        if kind == BoundKind::Pod {
            let of_pod = text_at(&bound, &["spec", "serviceAccountName"]);
            if of_pod != name {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {name:?} to pod running with different serviceaccount name."
                )));
            }
            let node = text_at(&bound, &["spec", "nodeName"]);
            if !node.is_empty() {
                let node_uid = objects
                    .get("", "nodes", "", node)
                    .map(|n| text_at(&n, &["metadata", "uid"]).to_string());
                issue.node = Some((node.to_string(), node_uid.unwrap_or_default()));
            }
        }
        issue.bound = Some(BoundObject {
            kind,
            name: bound_name.into(),
            uid: uid.into(),
        });
    }
    Ok(issue)
}
