//! Admission of a write: the built-in plugins of skiff-access, then what the
//! cluster has configured. Every verb comes through here, twice: to mutate
//! before validation of the object, and to validate after it.
//!
//! ```text
//! admit_mutating:   built-in ── policies ── webhooks (in turn) ─┐ once more if something asks for it
//! admit_validating: built-in ── policies ── webhooks (at once)
//! ```

mod call;
mod connect;
mod forms;
mod hooks;
mod options;
mod policies;
mod typing;
mod webhooks;

use crate::codec::Gvk;
use crate::handler::{ServerCall, Target};
use crate::registry::StoreObjects;
use crate::server::ApiServer;
use hooks::GROUP;
use serde_json::Value;
use skiff_access::{AdmissionRequest, Admitted, Operation, UserInfo};
use skiff_admission::{Form, Request};
use skiff_api::FieldError;
use skiff_kinds::Kind;
use webhooks::Rounds;

pub(crate) use hooks::Dynamic;
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
    /// `CreateOptions`, `UpdateOptions`, `DeleteOptions`; `Null` for a connection.
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
        self.mutate_built_in(asked, object, old, objects, warnings)?;
        let configured = self.dynamic.configured(objects);
        if !configured.mutates() || asked.is_exempt() {
            return Ok(());
        }
        let before = object["metadata"].get("managedFields").cloned();
        let equivalents = forms::equivalents(asked, &objects.catalog);
        let request = asked.dynamic(&equivalents);
        let mut rounds = [Rounds::default(), Rounds::default()];
        for again in [false, true] {
            if again {
                if !rounds.iter().any(|rounds| rounds.wanted) {
                    break;
                }
                self.mutate_built_in(asked, object, old, objects, warnings)?;
            }
            rounds.iter_mut().for_each(|rounds| rounds.again = again);
            let [of_policies, of_webhooks] = &mut rounds;
            Box::pin(self.mutate_by_policies(&configured, asked, &request, object, old, objects, of_policies)).await?;
            let hooks = &configured.mutating;
            Box::pin(self.mutate_by_webhooks(hooks, asked, &request, object, old, objects, warnings, of_webhooks))
                .await?;
        }
        keep_entries_valid(object, before, warnings);
        Ok(())
    }

    fn mutate_built_in(
        &self,
        asked: &Asked<'_>,
        object: &mut Value,
        old: Option<&Value>,
        objects: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Admitted {
        // No built-in plugin has a say in connections, as upstream.
        if asked.operation == Operation::Connect {
            return Ok(());
        }
        let mut request = asked.request(object, old);
        let outcome = self.access.mutate(&mut request, objects);
        warnings.append(&mut request.warnings);
        outcome
    }

    fn validate_built_in(
        &self,
        asked: &Asked<'_>,
        object: &mut Value,
        old: Option<&Value>,
        objects: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Admitted {
        if asked.operation == Operation::Connect {
            return Ok(());
        }
        let mut request = asked.request(object, old);
        let outcome = self.access.validate(&mut request, objects);
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
        self.validate_built_in(asked, object, old, objects, warnings)?;
        let configured = self.dynamic.configured(objects);
        if !configured.validates() || asked.is_exempt() {
            return Ok(());
        }
        let equivalents = forms::equivalents(asked, &objects.catalog);
        let request = asked.dynamic(&equivalents);
        let shown = skiff_admission::Objects {
            object,
            old: old.unwrap_or(&Value::Null),
        };
        Box::pin(self.validate_by_policies(&configured, asked, &request, shown, objects, warnings)).await?;
        Box::pin(self.validate_by_webhooks(&configured.validating, asked, &request, shown, objects, warnings)).await
    }

    /// Whether there are webhooks or policies at all.
    pub(crate) fn admission_is_configured(&self) -> bool {
        let configured = self.dynamic.configured(&self.objects(self.store.snapshot()));
        configured.mutates() || configured.validates()
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

    /// As webhooks and policies see it.
    fn dynamic<'r>(&'r self, equivalents: &'r [Form<'r>]) -> Request<'r> {
        Request {
            operation: self.operation,
            user: self.user,
            form: forms::own(self),
            equivalents,
            subresource: self.subresource,
            namespace: self.place(),
            name: self.name,
            dry_run: self.dry_run,
            options: self.options,
        }
    }

    /// What configures admission is not subject to it: else nobody could mend it.
    fn is_exempt(&self) -> bool {
        self.kind.group == GROUP
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

/// What is wrong with the expressions of an object that configures admission.
pub(crate) fn expression_errors(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if kind.group == GROUP {
        skiff_admission::expression_errors(kind.kind, object, old)
    } else {
        Vec::new()
    }
}

/// A webhook that breaks managedFields is not let: they stay what they were.
fn keep_entries_valid(object: &mut Value, before: Option<Value>, warnings: &mut Vec<String>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let now = metadata.get("managedFields");
    if now == before.as_ref() {
        return;
    }
    let Some(why) = now.and_then(invalid_entries) else {
        return;
    };
    match before {
        Some(before) => metadata.insert("managedFields".into(), before),
        None => metadata.remove("managedFields"),
    };
    warnings.push(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating \
         admission controller; please fix your requests: {why}"
    ));
}

/// What is wrong with managedFields, if something is.
fn invalid_entries(entries: &Value) -> Option<String> {
    for entry in entries.as_array().into_iter().flatten() {
        if !matches!(entry["operation"].as_str(), Some("Apply" | "Update")) {
            return Some(format!("invalid operation: {}", entry["operation"]));
        }
        if entry["apiVersion"].as_str().is_none_or(str::is_empty) {
            return Some("apiVersion must not be empty".into());
        }
        if entry["fieldsType"] != "FieldsV1" {
            return Some(format!("invalid fieldsType: {}", entry["fieldsType"]));
        }
    }
    None
}
