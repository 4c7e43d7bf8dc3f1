//! Admission of a write: the built-in plugins of skiff-access, then what the
//! cluster has configured. Every verb comes through here, twice: to mutate
//! before validation of the object, and to validate after it.
//!
//! ```text
//! admit_mutating:   built-in ── policies ── webhooks (in turn) ─┐ once more if something asks for it
//! admit_validating: built-in ── policies ── webhooks (at once)
//! ```

mod connect;
mod options;

use crate::codec::Gvk;
use crate::handler::{ServerCall, Target};
use crate::registry::StoreObjects;
use crate::server::ApiServer;
use serde_json::Value;
use skiff_access::{AdmissionRequest, Admitted, Operation, UserInfo};
use skiff_kinds::Kind;

pub(crate) use options::{delete_options, write_options};

/// What is asked for, as admission sees it; the objects come beside it.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub operation: Operation,
    pub user: &'a UserInfo,
    /// The row behind the path.
    pub kind: &'a Kind,
    /// The version in the path.
    pub version: &'a str,
    pub subresource: &'a str,
    /// What the object is where it is not of the row's kind: a Scale, a Binding, options.
    /// `None`: the objects are of the row's kind, in its storage version.
    pub body: Option<Gvk<'a>>,
    pub namespace: &'a str,
    pub name: &'a str,
    pub dry_run: bool,
    /// `CreateOptions` and the like; `Null` for a connection.
    pub options: &'a Value,
}

impl ApiServer {
    /// May change `object`; the caller defaults and validates it afterwards.
    pub(crate) async fn admit_mutating(
        &self,
        asked: &Asked<'_>,
        object: &mut Value,
        old: Option<&Value>,
        objects: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Admitted {
        let mut request = asked.request(object, old);
        let outcome = self.access.mutate(&mut request, objects);
        warnings.append(&mut request.warnings);
        outcome
    }

    /// The last word on the object as it will be stored.
    pub(crate) async fn admit_validating(
        &self,
        asked: &Asked<'_>,
        object: &mut Value,
        old: Option<&Value>,
        objects: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Admitted {
        let mut request = asked.request(object, old);
        let outcome = self.access.validate(&mut request, objects);
        warnings.append(&mut request.warnings);
        outcome
    }

    /// Both, for what is not stored: connections, bindings, tokens, reviews, and deletions.
    pub(crate) async fn admit(
        &self,
        asked: &Asked<'_>,
        object: &mut Value,
        old: Option<&Value>,
        objects: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Admitted {
        self.admit_mutating(asked, object, old, objects, warnings).await?;
        self.admit_validating(asked, object, old, objects, warnings).await
    }
}

impl ApiServer {
    /// A creation through a subresource, or of what is answered and not stored:
    /// the body is of a type of its own and is admitted as it is.
    pub(crate) async fn admit_body(
        &self,
        call: &ServerCall,
        target: &Target,
        gvk: Gvk<'_>,
        name: &str,
        body: &mut Value,
        objects: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Admitted {
        let options = write_options(call, "CreateOptions");
        let asked = Asked {
            operation: Operation::Create,
            user: &call.user,
            kind: &target.kind,
            version: target.version,
            subresource: target.sub_name(),
            body: Some(gvk),
            namespace: &call.info.namespace,
            name,
            dry_run: call.options.dry_run,
            options: &options,
        };
        self.admit(&asked, body, None, objects, warnings).await
    }
}

impl<'a> Asked<'a> {
    /// As the built-in plugins see it.
    fn request<'r>(&'r self, object: &'r mut Value, old_object: Option<&'r Value>) -> AdmissionRequest<'r> {
        AdmissionRequest {
            operation: self.operation,
            user: self.user,
            group: self.kind.group,
            version: self.version,
            kind: self.body.map_or(self.kind.kind, |(_, _, kind)| kind),
            resource: self.kind.plural,
            subresource: self.subresource,
            namespace: self.place(),
            name: self.name,
            dry_run: self.dry_run,
            object,
            old_object,
            options: self.options,
            warnings: Vec::new(),
        }
    }

    /// Admission sees a Namespace as lying in itself, as upstream.
    pub(crate) fn place(&self) -> &'a str {
        if self.kind.group.is_empty() && self.kind.plural == "namespaces" {
            self.name
        } else {
            self.namespace
        }
    }
}
