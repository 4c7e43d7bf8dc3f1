//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction, and
//! who a request is from.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>.

use super::{forbidden, is};
use crate::authentication::MASTERS;
use crate::authorization::Authorizers;
use crate::contract::{AdmissionRequest, Admitted, Attributes, Decision, Objects, Operation};
use crate::pki;
use crate::tree::text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";

/// The requester's identity is what the API server knows, not what they write.
pub fn requester(r: &mut AdmissionRequest) {
    if !is(r, Operation::Create, GROUP, RESOURCE) {
        return;
    }
    let user = r.user;
    let Some(spec) = super::spec_mut(r).and_then(serde_json::Value::as_object_mut) else {
        return;
    };
    for key in ["username", "uid", "groups", "extra"] {
        spec.remove(key);
    }
    spec.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        spec.insert("uid".into(), user.uid.as_str().into());
    }
    spec.insert("groups".into(), json!(user.groups));
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}

pub fn validate(r: &AdmissionRequest, objects: &dyn Objects, authorizers: &Authorizers) -> Admitted {
    if r.group != GROUP || r.resource != RESOURCE {
        return Ok(());
    }
    // The signer cannot change, so the stored one is asked about where there is one.
    let signer = text(r.old_object.unwrap_or(r.object), "/spec/signerName").to_string();
    match (r.operation, r.subresource) {
        (Operation::Create, "") => subject(r, &signer),
        (Operation::Update, "approval") => signer_permission(r, "approve", &signer, objects, authorizers),
        (Operation::Update, "status") => {
            let same = |old: &serde_json::Value, pointer: &str| {
                let given = |value: &serde_json::Value| value.pointer(pointer).cloned().unwrap_or_default();
                given(old) == given(r.object)
            };
            if r.old_object
                .is_some_and(|old| same(old, "/status/certificate") && same(old, "/status/conditions"))
            {
                return Ok(());
            }
            signer_permission(r, "sign", &signer, objects, authorizers)
        }
        _ => Ok(()),
    }
}

fn subject(r: &AdmissionRequest, signer: &str) -> Admitted {
    if signer != "kubernetes.io/kube-apiserver-client" {
        return Ok(());
    }
    let bad = |why: String| Err(forbidden(r, &format!("failed to parse CSR: {why}")));
    let der = match STANDARD.decode(text(r.object, "/spec/request")) {
        Ok(bytes) => bytes,
        Err(error) => return bad(error.to_string()),
    };
    match pki::parse_csr(&der) {
        Ok((_, info)) if info.organizations.iter().any(|organization| organization == MASTERS) => {
            let why = format!("use of {signer} signer with {MASTERS} group is not allowed");
            Err(forbidden(r, &why))
        }
        Ok(_) => Ok(()),
        Err(error) => bad(error.to_string()),
    }
}

/// The verb on this signer, or on all signers of its domain.
fn signer_permission(
    r: &AdmissionRequest,
    verb: &str,
    signer: &str,
    objects: &dyn Objects,
    authorizers: &Authorizers,
) -> Admitted {
    let domain = format!("{}/*", signer.split('/').next().unwrap_or(""));
    let allowed = [signer, &domain].into_iter().any(|name| {
        let attributes = Attributes {
            user: r.user,
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            path: "",
            field_selector: "",
            label_selector: "",
        };
        matches!(authorizers.authorize(&attributes, objects), Decision::Allow { .. })
    });
    if allowed {
        return Ok(());
    }
    let what = if verb == "approve" { "approve" } else { "sign" };
    Err(forbidden(
        r,
        &format!("user not permitted to {what} requests with signerName {signer:?}"),
    ))
}
