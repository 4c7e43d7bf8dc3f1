//! A request as webhooks and policies see it.

use serde_json::Value;
use skiff_access::{Operation, UserInfo};

/// Group, version and resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gvr<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
}

/// Group, version and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gvk<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

/// One of the forms in which the same object is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form<'a> {
    pub resource: Gvr<'a>,
    pub kind: Gvk<'a>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub operation: Operation,
    pub user: &'a UserInfo,
    /// As the path says it.
    pub form: Form<'a>,
    /// Its other forms, in the order in which they are served.
    pub equivalents: &'a [Form<'a>],
    pub subresource: &'a str,
    /// For a Namespace its own name.
    pub namespace: &'a str,
    /// Empty where it is still to be generated, and for a collection.
    pub name: &'a str,
    pub dry_run: bool,
    /// `CreateOptions` and the like; `Null` if there are none.
    pub options: &'a Value,
}

/// The objects of a request in one of its forms; `Null` where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Objects<'a> {
    pub object: &'a Value,
    pub old: &'a Value,
}

/// As rules and reviews name it.
pub fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}
