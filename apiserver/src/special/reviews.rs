//! Reviews: questions about permissions and identity, answered and not stored.

use super::body_of;
use crate::body::ApiBody;
use crate::handler::{ServerCall, Target};
use crate::registry::text_at;
use crate::request::negotiate;
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::{Value, json};
use skiff_access::{Attributes, Decision, UserInfo, user_value};
use skiff_api::{ApiError, FieldError};
use std::sync::Arc;

impl ApiServer {
    pub(super) async fn review(
        self: &Arc<Self>,
        call: &ServerCall,
        target: &Target,
    ) -> Result<Response<ApiBody>, ApiError> {
        let kind = &*target.kind;
        // An answer has no other form: it is no table.
        negotiate(call.header(http::header::ACCEPT), &[])?;
        let gvk = (kind.group, target.version, kind.kind);
        let mut review = body_of(call, gvk)?;
        let objects = self.objects(self.store.snapshot());
        let mut warnings = Vec::new();
        self.admit_body(call, target, gvk, "", &mut review, &objects, &mut warnings)
            .await?;
        let status = match kind.kind {
            "SelfSubjectAccessReview" => self.access_status(&call.user, &review["spec"], &objects)?,
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                let user = reviewed_user(&review, kind.kind)?;
                if kind.kind == "LocalSubjectAccessReview" {
                    let namespace = text_at(&review, &["spec", "resourceAttributes", "namespace"]);
                    if namespace != call.info.namespace {
                        return Err(ApiError::bad_request(format!(
                            "spec.resourceAttributes.namespace must match namespace: {namespace:?} is not {:?}",
                            call.info.namespace
                        )));
                    }
                }
                self.access_status(&user, &review["spec"], &objects)?
            }
            "SelfSubjectRulesReview" => {
                let namespace = text_at(&review, &["spec", "namespace"]);
                if namespace.is_empty() {
                    return Err(ApiError::bad_request("no namespace on request"));
                }
                self.access.rules_for(&call.user, namespace, &objects)
            }
            "SelfSubjectReview" => json!({"userInfo": user_value(&call.user)}),
            "TokenReview" => {
                let token = text_at(&review, &["spec", "token"]);
                if token.is_empty() {
                    return Err(ApiError::bad_request(
                        "token is required for TokenReview in authentication",
                    ));
                }
                let audiences: Vec<String> = review["spec"]["audiences"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_string)
                    .collect();
                self.access
                    .review_token(token, &audiences, &objects, jiff::Timestamp::now())
            }
            _ => return Err(ApiError::method_not_supported(kind.group, kind.plural, call.info.verb)),
        };
        review["apiVersion"] = crate::codec::api_version(kind.group, target.version).into();
        review["kind"] = kind.kind.into();
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        review["metadata"]["creationTimestamp"] = Value::Null;
        review["status"] = status;
        respond::plain_warned(201, call.header(http::header::ACCEPT), &review, &warnings)
    }

    fn access_status(
        &self,
        user: &UserInfo,
        spec: &Value,
        objects: &dyn skiff_access::Objects,
    ) -> Result<Value, ApiError> {
        let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        if resource.is_object() == path.is_object() {
            let error = FieldError::invalid(
                "spec.resourceAttributes",
                &Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            return Err(ApiError::invalid(
                "authorization.k8s.io",
                "SubjectAccessReview",
                "",
                &[error],
            ));
        }
        let asked = if resource.is_object() { resource } else { path };
        let attributes = Attributes {
            user,
            verb: text_at(asked, &["verb"]),
            group: text_at(asked, &["group"]),
            version: text_at(asked, &["version"]),
            resource: text_at(resource, &["resource"]),
            subresource: text_at(resource, &["subresource"]),
            namespace: text_at(resource, &["namespace"]),
            name: text_at(resource, &["name"]),
            path: text_at(path, &["path"]),
            field_selector: text_at(resource, &["fieldSelector", "rawSelector"]),
            label_selector: text_at(resource, &["labelSelector", "rawSelector"]),
        };
        Ok(match self.access.authorize(&attributes, objects) {
            Decision::Allow { reason } => json!({"allowed": true, "reason": reason}),
            Decision::Deny { reason } if reason.is_empty() => json!({"allowed": false}),
            Decision::Deny { reason } => json!({"allowed": false, "reason": reason}),
        })
    }
}

fn reviewed_user(review: &Value, kind: &str) -> Result<UserInfo, ApiError> {
    let spec = &review["spec"];
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect()
    };
    let mut user = UserInfo {
        name: text_at(spec, &["user"]).into(),
        uid: text_at(spec, &["uid"]).into(),
        groups: texts(&spec["groups"]),
        ..UserInfo::default()
    };
    user.groups.sort();
    for (key, values) in spec["extra"].as_object().into_iter().flatten() {
        user.extra.insert(key.clone(), texts(values));
    }
    if user.name.is_empty() && user.groups.is_empty() {
        let error = FieldError::invalid(
            "spec.user",
            &Value::Null,
            "at least one of user or group must be specified",
        );
        return Err(ApiError::invalid("authorization.k8s.io", kind, "", &[error]));
    }
    Ok(user)
}
