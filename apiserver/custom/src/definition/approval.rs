//! Groups of the Kubernetes community (`*.k8s.io`, `*.kubernetes.io`) ask for an
//! annotation that says where the API was approved.

use crate::check::json::Json;
use serde_json::Value;
use skiff_api::FieldError;

const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What the annotation of a definition in a protected group says.
#[derive(Debug, PartialEq)]
pub enum Approval {
    Approved(String),
    Bypassed(String),
    Missing(String),
    Invalid(String),
}

/// `None`: the group is not protected.
pub fn approval(definition: &Value) -> Option<Approval> {
    let group = definition["spec"].text("group");
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|p| {
        group
            .strip_suffix(p)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    let text = definition["metadata"]["annotations"].text(ANNOTATION);
    let url = || {
        let rest = text.split_once("://").map(|(_, rest)| rest);
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) && crate::format::is("uri", text)
    };
    protected.then(|| match text {
        "" => Approval::Missing(format!("protected groups must have approval annotation {ANNOTATION:?}, {SEE}")),
        text if text.starts_with("unapproved") => Approval::Bypassed(format!("not approved: {text:?}")),
        text if url() => Approval::Approved(format!("approved in {text}")),
        _ => Approval::Invalid(format!(
            "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
        )),
    })
}

pub(super) fn check(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some(found) = approval(new) else { return };
    // What was there before may stay.
    let same = |a: &Approval, b: &Approval| std::mem::discriminant(a) == std::mem::discriminant(b);
    if old.and_then(approval).is_some_and(|before| same(&before, &found)) {
        return;
    }
    let at = format!("metadata.annotations[{ANNOTATION}]");
    match found {
        Approval::Missing(why) => errors.push(FieldError::required(at, &why)),
        Approval::Invalid(why) => {
            let value = &new["metadata"]["annotations"][ANNOTATION];
            errors.push(FieldError::invalid(at, value, &why));
        }
        Approval::Approved(_) | Approval::Bypassed(_) => {}
    }
}
