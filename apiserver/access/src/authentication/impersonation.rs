//! Impersonation: which permissions the requester needs to act as somebody
//! else, and who they then are. Pure; the API server asks the authorizer.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>.

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, service_account};
use crate::contract::{Attributes, UserInfo};
use skiff_api::ApiError;
use std::collections::BTreeMap;

/// The `Impersonate-*` headers: extra keys lower-cased and percent-decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImpersonationRequest {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// One permission (verb `impersonate`) that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImpersonationCheck {
    pub group: &'static str,
    pub resource: &'static str,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

impl ImpersonationCheck {
    pub fn attributes<'a>(&'a self, requester: &'a UserInfo) -> Attributes<'a> {
        Attributes {
            user: requester,
            verb: "impersonate",
            group: self.group,
            version: "v1",
            resource: self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            path: "",
            field_selector: "",
            label_selector: "",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonation {
    /// All of these must be allowed.
    pub checks: Vec<ImpersonationCheck>,
    pub user: UserInfo,
}

/// `None`: nothing is impersonated.
pub fn plan(request: &ImpersonationRequest) -> Result<Option<Impersonation>, ApiError> {
    if request == &ImpersonationRequest::default() {
        return Ok(None);
    }
    if request.user.is_empty() {
        return Err(ApiError::bad_request(
            "requested groups, extra or uid without impersonating a user: set the Impersonate-User header too",
        ));
    }
    let check = |group, resource, subresource: &str, namespace: &str, name: &str| ImpersonationCheck {
        group,
        resource,
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
    };
    let mut groups = request.groups.clone();
    let mut checks = Vec::new();
    match service_account::split_user_name(&request.user) {
        Some((namespace, name)) => {
            checks.push(check("", "serviceaccounts", "", namespace, name));
            if groups.is_empty() {
                groups = service_account::groups(namespace);
            }
        }
        None => checks.push(check("", "users", "", "", &request.user)),
    }
    for group in &request.groups {
        checks.push(check("", "groups", "", "", group));
    }
    for (key, values) in &request.extra {
        for value in values {
            checks.push(check("authentication.k8s.io", "userextras", key, "", value));
        }
    }
    if !request.uid.is_empty() {
        checks.push(check("authentication.k8s.io", "uids", "", "", &request.uid));
    }
    let marked = groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED);
    if request.user == ANONYMOUS {
        groups.push(UNAUTHENTICATED.into());
    } else if !marked {
        groups.push(AUTHENTICATED.into());
    }
    groups.sort();
    groups.dedup();
    let user = UserInfo {
        name: request.user.clone(),
        uid: request.uid.clone(),
        groups,
        extra: request.extra.clone(),
    };
    Ok(Some(Impersonation { checks, user }))
}
