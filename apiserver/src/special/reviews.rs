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
use skiff_api::ApiError;
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
        if kind.kind == "LocalSubjectAccessReview" && text_at(&review, &["metadata", "namespace"]).is_empty() {
            review["metadata"]["namespace"] = call.info.namespace.as_str().into();
        }
        let errors = kind.strategy().validate_create(&review);
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind.group, kind.kind, "", &errors));
        }
        let status = match kind.kind {
            "SelfSubjectAccessReview" => self.access_status(&call.user, &review["spec"], &objects),
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                self.access_status(&reviewed_user(&review["spec"]), &review["spec"], &objects)
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
        if kind.kind == "SelfSubjectReview" {
            review["metadata"]["creationTimestamp"] = respond::now_text().into();
        }
        review["status"] = status;
        respond::plain_warned(201, call.header(http::header::ACCEPT), &review, &warnings)
    }

    fn access_status(&self, user: &UserInfo, spec: &Value, objects: &dyn skiff_access::Objects) -> Value {
        let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        let (fields, labels) = (
            selector_text(&resource["fieldSelector"]),
            selector_text(&resource["labelSelector"]),
        );
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
            field_selector: &fields,
            label_selector: &labels,
        };
        let (allowed, reason) = match self.access.authorize(&attributes, objects) {
            Decision::Allow { reason } => (true, reason),
            Decision::Deny { reason } => (false, reason),
        };
        match reason.is_empty() {
            true => json!({"allowed": allowed}),
            false => json!({"allowed": allowed, "reason": reason}),
        }
    }
}

fn reviewed_user(spec: &Value) -> UserInfo {
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
        user.extra.insert(key.to_lowercase(), texts(values));
    }
    user
}

/// A selector of a review as the text that requests carry it in; empty if it has a
/// form that no request has.
fn selector_text(selector: &Value) -> String {
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.to_string();
    }
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    let terms = requirements.filter_map(|requirement| {
        let key = text_at(requirement, &["key"]);
        let values: Vec<&str> = requirement["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        match (text_at(requirement, &["operator"]), values.as_slice()) {
            ("In", [one]) => Some(format!("{key}={one}")),
            ("In", many) => Some(format!("{key} in ({})", many.join(","))),
            ("NotIn", many) => Some(format!("{key} notin ({})", many.join(","))),
            ("Exists", _) => Some(key.to_string()),
            ("DoesNotExist", _) => Some(format!("!{key}")),
            _ => None,
        }
    });
    terms.collect::<Vec<_>>().join(",")
}
