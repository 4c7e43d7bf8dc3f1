//! What the API server asks of identity and admission, and what these may ask
//! of the API server: plain values both ways, no sockets, no store.

use crate::authentication::request_header::RemoteUser;
use serde_json::Value;
use skiff_api::ApiError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who makes a request, after authentication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    /// Sorted; holds `system:authenticated` or `system:unauthenticated`.
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request carries to prove who makes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// DER of the client certificate, whose chain TLS has verified against the cluster's CA.
    pub peer_certificate: Option<&'a [u8]>,
    /// DER of the client certificate, if it is the front-proxy CA that vouches for it.
    pub proxy_certificate: Option<&'a [u8]>,
    /// Whom that front proxy names.
    pub remote: Option<&'a RemoteUser>,
    /// Value of `Authorization: Bearer`.
    pub bearer_token: Option<&'a str>,
}

/// What is asked for. Field meanings: SubjectAccessReview's attributes.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Path of a non-resource request, else empty.
    pub path: &'a str,
    /// Field and label selectors of a list, watch or deletecollection, as in the
    /// query string (the Node authorizer reads the field selector).
    pub field_selector: &'a str,
    pub label_selector: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allow {
        reason: String,
    },
    /// No authorizer allowed it; `reason` may be empty.
    Deny {
        reason: String,
    },
}

/// Read access to the server's objects at one revision, as authorizers and
/// admission see them. Objects come as trees in their storage version.
pub trait Objects: Send + Sync {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of a resource; an empty namespace means all namespaces.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
    /// A label of an object. A store that keeps labels beside its objects parses nothing for it.
    fn label(&self, group: &str, resource: &str, namespace: &str, name: &str, key: &str) -> Option<String> {
        let object = self.get(group, resource, namespace, name)?;
        Some(object["metadata"]["labels"][key].as_str()?.to_string())
    }
    /// Changes whenever an object of the resource changes: key for caches.
    fn generation(&self, group: &str, resource: &str) -> u64;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One object on its way into the store.
pub struct AdmissionRequest<'a> {
    pub operation: Operation,
    pub user: &'a UserInfo,
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub dry_run: bool,
    /// The new object (defaulted); `Null` for Delete. Mutating plugins change it.
    pub object: &'a mut Value,
    /// The stored object for Update and Delete.
    pub old_object: Option<&'a Value>,
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions`, `DeleteOptions` as given.
    pub options: &'a Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Result of a chain: the first refusal ends it.
pub type Admitted = Result<(), ApiError>;
