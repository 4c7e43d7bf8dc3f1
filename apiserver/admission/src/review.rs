//! The AdmissionReview that a webhook is sent and the one it answers with.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#webhook-request-and-response>.

use crate::hook::Hook;
use crate::request::{Form, Gvk, Gvr, Objects, Request, operation_name};
use base64::Engine;
use serde_json::{Map, Value, json};
use skiff_access::user_value;
use skiff_api::ApiError;
use std::borrow::Cow;

/// The version of the review that a webhook understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1Beta1),
            _ => None,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

fn gvk(kind: &Gvk<'_>) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn gvr(resource: &Gvr<'_>) -> Value {
    json!({"group": resource.group, "version": resource.version, "resource": resource.resource})
}

/// What a webhook is sent; the objects are in `form`.
pub fn review(
    version: ReviewVersion,
    uid: &str,
    request: &Request<'_>,
    form: &Form<'_>,
    objects: Objects<'_>,
) -> Value {
    let mut body = request_body(request, form);
    body["uid"] = uid.into();
    body["object"] = objects.object.clone();
    body["oldObject"] = objects.old.clone();
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": body})
}

/// The request without its objects, of which one is shown in `form`.
pub(crate) fn request_body(request: &Request<'_>, form: &Form<'_>) -> Value {
    let mut body = json!({
        "kind": gvk(&form.kind), "resource": gvr(&form.resource),
        "requestKind": gvk(&request.form.kind), "requestResource": gvr(&request.form.resource),
        "operation": operation_name(request.operation), "userInfo": user_value(request.user),
        "dryRun": request.dry_run, "options": request.options,
    });
    let texts = [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", request.name),
        ("namespace", request.namespace),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        body[key] = text.into();
    }
    body
}

/// What a webhook said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// `None`: allowed.
    pub denied: Option<ApiError>,
    pub warnings: Vec<String>,
    /// Key and value, the key with the webhook's name before it.
    pub audit_annotations: Vec<(String, String)>,
    /// A JSON patch with at least one operation.
    pub patch: Option<Vec<u8>>,
}

/// Reads an answer; `Err` says why it is none.
pub fn read_answer(
    hook: &Hook,
    version: ReviewVersion,
    uid: &str,
    mutating: bool,
    body: &[u8],
) -> Result<Verdict, String> {
    let invalid = |why: String| format!("received invalid webhook response: {why}");
    let answer: Value = serde_json::from_slice(body)
        .map_err(|error| format!("failed to call webhook: couldn't get version/kind; json parse error: {error}"))?;
    let response = answer["response"]
        .as_object()
        .ok_or_else(|| invalid("webhook response was absent".into()))?;
    if version == ReviewVersion::V1 {
        check_identity(&answer, response, uid).map_err(invalid)?;
    }
    let patch = read_patch(version, mutating, response).map_err(invalid)?;
    let allowed = response.get("allowed").and_then(Value::as_bool).unwrap_or(false);
    let warnings = response.get("warnings").and_then(Value::as_array).into_iter().flatten();
    let annotations = response
        .get("auditAnnotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    Ok(Verdict {
        denied: (!allowed).then(|| denied(&hook.name, response.get("status").unwrap_or(&Value::Null))),
        warnings: warnings.filter_map(Value::as_str).map(str::to_string).collect(),
        audit_annotations: annotations
            .filter_map(|(key, value)| Some((format!("{}/{key}", hook.name), value.as_str()?.to_string())))
            .collect(),
        patch: patch.filter(|_| allowed),
    })
}

fn check_identity(answer: &Value, response: &Map<String, Value>, uid: &str) -> Result<(), String> {
    let given = response.get("uid").and_then(Value::as_str).unwrap_or("");
    if given != uid {
        return Err(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let (version, kind) = (
        answer["apiVersion"].as_str().unwrap_or(""),
        answer["kind"].as_str().unwrap_or(""),
    );
    let expected = ReviewVersion::V1.api_version();
    if (version, kind) != (expected, "AdmissionReview") {
        let version = if version.is_empty() { "/" } else { version };
        return Err(format!(
            "expected webhook response of {expected}, Kind=AdmissionReview, got {version}, Kind={kind}"
        ));
    }
    Ok(())
}

fn read_patch(
    version: ReviewVersion,
    mutating: bool,
    response: &Map<String, Value>,
) -> Result<Option<Vec<u8>>, String> {
    let patch = match response.get("patch").filter(|patch| !patch.is_null()) {
        None => Vec::new(),
        Some(patch) => {
            let text = patch.as_str().ok_or("response.patch is not base64")?;
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| format!("response.patch is not base64: {error}"))?
        }
    };
    let kind = response.get("patchType").filter(|kind| !kind.is_null());
    if version == ReviewVersion::V1Beta1 {
        return Ok((mutating && !patch.is_empty()).then_some(patch));
    }
    match (mutating, patch.is_empty(), kind) {
        (false, false, _) => Err("validating webhook may not return response.patch".into()),
        (false, true, Some(_)) => Err("validating webhook may not return response.patchType".into()),
        (true, false, None) => Err("webhook returned response.patch but not response.patchType".into()),
        (true, true, Some(_)) => Err("webhook returned response.patchType but not response.patch".into()),
        (_, true, None) => Ok(None),
        (true, false, Some(kind)) => match kind.as_str() {
            Some("JSONPatch") => Ok(Some(patch)),
            Some("") => Err("webhook returned invalid response.patchType of \"\"".into()),
            _ => Err(format!("unsupported patch type {kind}")),
        },
    }
}

/// A refusal as the client sees it: the webhook's own Status, with its name.
pub fn denied(webhook: &str, status: &Value) -> ApiError {
    let text = |key: &str| status[key].as_str().unwrap_or("");
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let who = format!("admission webhook {webhook:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{who} without explanation"),
        ("", reason) => format!("{who}: {reason}"),
        (message, _) => format!("{who}: {message}"),
    };
    ApiError {
        code: code.filter(|code| (400..600).contains(code)).unwrap_or(400),
        reason: Cow::Owned(text("reason").to_string()),
        message,
        details: status.get("details").filter(|details| details.is_object()).cloned(),
    }
}

pub fn dry_run_unsupported(webhook: &str) -> ApiError {
    ApiError::bad_request(format!("admission webhook {webhook:?} does not support dry run"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::hooks;
    use std::sync::Arc;

    fn hook() -> Hook {
        let configuration =
            json!({"metadata": {"name": "c"}, "webhooks": [{"name": "h", "admissionReviewVersions": ["v9", "v1"]}]});
        hooks(&[Arc::new(configuration)]).remove(0)
    }

    fn read(mutating: bool, response: Value) -> Result<Verdict, String> {
        let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        read_answer(&hook(), ReviewVersion::V1, "u", mutating, answer.to_string().as_bytes())
    }

    #[test]
    fn answers_are_checked() {
        assert_eq!(hook().review_version, Some(ReviewVersion::V1));
        let invalid = |mutating, response, why: &str| {
            assert_eq!(
                read(mutating, response).unwrap_err(),
                format!("received invalid webhook response: {why}")
            );
        };
        invalid(true, Value::Null, "webhook response was absent");
        invalid(true, json!({"allowed": true}), "expected response.uid=\"u\", got \"\"");
        let patch = |kind: Value| json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": kind});
        invalid(
            false,
            patch("JSONPatch".into()),
            "validating webhook may not return response.patch",
        );
        invalid(
            true,
            patch(Value::Null),
            "webhook returned response.patch but not response.patchType",
        );
        invalid(
            true,
            patch("".into()),
            "webhook returned invalid response.patchType of \"\"",
        );
        let bare = json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"});
        invalid(
            true,
            bare.clone(),
            "webhook returned response.patchType but not response.patch",
        );
        invalid(false, bare, "validating webhook may not return response.patchType");
        assert_eq!(
            read(true, patch("JSONPatch".into())).unwrap().patch.as_deref(),
            Some(b"[]".as_slice())
        );
        let wrong = json!({"response": {"uid": "u"}}).to_string();
        assert_eq!(
            read_answer(&hook(), ReviewVersion::V1, "u", true, wrong.as_bytes()).unwrap_err(),
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, \
             Kind=AdmissionReview, got /, Kind="
        );
        assert!(read_answer(&hook(), ReviewVersion::V1, "u", true, b"hello").is_err());
    }

    #[test]
    fn refusals() {
        let cases = [
            (
                Value::Null,
                400,
                "",
                "admission webhook \"h\" denied the request without explanation",
            ),
            (
                json!({"code": 200, "status": "Success"}),
                400,
                "",
                "admission webhook \"h\" denied the request without explanation",
            ),
            (
                json!({"reason": "Gone", "code": 410}),
                410,
                "Gone",
                "admission webhook \"h\" denied the request: Gone",
            ),
            (
                json!({"reason": "Gone", "message": "no"}),
                400,
                "Gone",
                "admission webhook \"h\" denied the request: no",
            ),
            (
                json!({"code": 99999}),
                400,
                "",
                "admission webhook \"h\" denied the request without explanation",
            ),
        ];
        for (status, code, reason, message) in cases {
            let error = denied("h", &status);
            assert_eq!(
                (error.code, error.reason.as_ref(), error.message.as_str()),
                (code, reason, message)
            );
        }
        let verdict = read(
            true,
            json!({"uid": "u", "auditAnnotations": {"k": "v"}, "warnings": ["w"]}),
        )
        .unwrap();
        assert!(verdict.denied.is_some());
        assert_eq!(verdict.audit_annotations, [("h/k".to_string(), "v".to_string())]);
        assert_eq!(verdict.warnings, ["w"]);
    }
}
