//! What policies need of the server: parameters, an authorizer, and objects in
//! the form that a policy takes.

use super::hooks::Configured;
use super::webhooks::Rounds;
use super::{Asked, forms};
use crate::codec;
use crate::registry::StoreObjects;
use crate::server::ApiServer;
use serde_json::Value;
use skiff_access::{Admitted, Attributes, Decision, Objects as _, UserInfo};
use skiff_admission::{
    Form, Merge, Objects, ParamKind, ParamSource, Request, Shown, World, forms_met, invocations, mutation_refusal,
    validate,
};
use skiff_api::apply::overlay;
use skiff_api::schema::{lookup_gvk, split_api_version};
use skiff_cel::{Authorizer, Check, Target};
use skiff_kinds::KindRef;

impl ApiServer {
    pub(super) async fn validate_by_policies(
        &self,
        configured: &Configured,
        asked: &Asked<'_>,
        request: &Request<'_>,
        objects: Objects<'_>,
        cluster: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Admitted {
        if configured.policies.is_empty() {
            return Ok(());
        }
        let mut shown = Vec::new();
        for form in forms_met(&configured.policies, request, objects, cluster) {
            shown.push(Shown {
                object: self.shown_as(asked, &form, objects.object, &cluster.catalog).await?,
                old: self.shown_as(asked, &form, objects.old, &cluster.catalog).await?,
                form,
            });
        }
        let authorizer = self.asking(asked.user, cluster);
        let params = Params(cluster);
        let world = World {
            cluster,
            params: &params,
            authorizer: &authorizer,
        };
        let findings = validate(&configured.policies, request, objects, &shown, &world)?;
        for (key, value) in &findings.audit_annotations {
            tracing::info!(key, value, "audit annotation of a policy");
        }
        let name = shown_name(request, objects);
        let refusal = findings.refusal(request, name);
        warnings.extend(findings.warnings);
        refusal.map_or(Ok(()), Err)
    }

    pub(super) async fn mutate_by_policies(
        &self,
        configured: &Configured,
        asked: &Asked<'_>,
        request: &Request<'_>,
        object: &mut Value,
        old: Option<&Value>,
        cluster: &StoreObjects<'_>,
        rounds: &mut Rounds,
    ) -> Admitted {
        if configured.mutations.is_empty() {
            return Ok(());
        }
        rounds.begin(object);
        let old = old.unwrap_or(&Value::Null);
        let authorizer = self.asking(asked.user, cluster);
        let params = Params(cluster);
        let world = World {
            cluster,
            params: &params,
            authorizer: &authorizer,
        };
        let (invocations, mut failures) = invocations(&configured.mutations, request, Objects { object, old }, &world);
        let mut changed = false;
        for invocation in &invocations {
            let form = &invocation.form;
            if !rounds.includes(&invocation.id()) {
                continue;
            }
            let seen = self.shown_as(asked, form, object, &cluster.catalog).await?;
            let seen_old = self.shown_as(asked, form, old, &cluster.catalog).await?;
            let shown = Objects {
                object: &seen,
                old: &seen_old,
            };
            let merging = Merging { asked, cluster };
            let Some(new) = invocation.mutate(request, shown, &world, &merging, &mut failures)? else {
                continue;
            };
            if new != seen {
                let kept = object["apiVersion"].as_str().unwrap_or("");
                *object = self.taken_from(asked, form, new, kept, &cluster.catalog).await?;
                rounds.changed();
                changed = true;
            }
            rounds.asked(&invocation.id(), invocation.reinvoked());
        }
        // As upstream: even the last one sees what it made itself.
        if changed {
            rounds.changed();
        }
        rounds.end(object);
        let name = shown_name(request, Objects { object, old });
        mutation_refusal(&failures, request, name).map_or(Ok(()), Err)
    }

    pub(super) fn asking<'a>(&'a self, user: &'a UserInfo, cluster: &'a StoreObjects<'a>) -> Asking<'a> {
        Asking {
            server: self,
            user,
            cluster,
        }
    }
}

/// Merges by the types that are served.
struct Merging<'a> {
    asked: &'a Asked<'a>,
    cluster: &'a StoreObjects<'a>,
}

impl Merge for Merging<'_> {
    fn merge(&self, form: &Form<'_>, live: &Value, configuration: Value) -> Result<Value, String> {
        let (resource, kind) = (form.resource, form.kind);
        let row = self.cluster.catalog.resource(resource.group, resource.resource);
        let ty = match self.asked.body {
            Some(_) => lookup_gvk(kind.group, kind.version, kind.kind),
            None => row.and_then(|row| row.type_in(resource.version)),
        };
        let ty = ty.ok_or_else(|| format!("no description of the type {}", kind.kind))?;
        overlay(ty, live, &configuration)
    }

    fn settle(&self, form: &Form<'_>, object: Value) -> Result<Value, String> {
        forms::settled_in_form(self.asked, form, object, &self.cluster.catalog).map_err(|error| error.message)
    }
}

/// The name in a refusal: the object's, or what it will be generated from.
pub(super) fn shown_name<'a>(request: &Request<'a>, objects: Objects<'a>) -> &'a str {
    let of_object = |key: &str| objects.object["metadata"][key].as_str().unwrap_or("");
    let names = [request.name, of_object("name"), of_object("generateName")];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown")
}

/// The authorizers, asked for the user of a request.
pub(super) struct Asking<'a> {
    pub server: &'a ApiServer,
    pub user: &'a UserInfo,
    pub cluster: &'a StoreObjects<'a>,
}

impl Authorizer for Asking<'_> {
    fn authorize(&self, check: &Check) -> skiff_cel::Decision {
        let account = check.service_account.as_ref().map(|(namespace, name)| UserInfo {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:authenticated".into(),
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
            ],
            ..UserInfo::default()
        });
        let mut attributes = Attributes {
            user: account.as_ref().unwrap_or(self.user),
            verb: &check.verb,
            group: "",
            version: "*",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            field_selector: "",
            label_selector: "",
        };
        match &check.target {
            Target::Path(path) => attributes.path = path,
            Target::Resource(resource) => {
                attributes.group = &resource.group;
                attributes.resource = &resource.resource;
                attributes.subresource = &resource.subresource;
                attributes.namespace = &resource.namespace;
                attributes.name = &resource.name;
                attributes.field_selector = resource.field_selector.as_deref().unwrap_or("");
                attributes.label_selector = resource.label_selector.as_deref().unwrap_or("");
            }
        }
        let (allowed, reason) = match self.server.access.authorize(&attributes, self.cluster) {
            Decision::Allow { reason } => (true, reason),
            Decision::Deny { reason } => (false, reason),
        };
        skiff_cel::Decision {
            allowed,
            reason,
            error: None,
        }
    }
}

/// Parameters, as the request's snapshot has them.
pub(super) struct Params<'a>(pub &'a StoreObjects<'a>);

impl Params<'_> {
    fn row<'k>(&self, kind: &'k ParamKind) -> Option<(KindRef, &'k str)> {
        let (group, version) = split_api_version(&kind.api_version);
        let kinds = self.0.catalog.kinds().iter();
        let mut found = kinds.filter(|k| k.group == group && k.kind == kind.kind && k.versions.contains(&version));
        Some((found.next()?.clone(), version))
    }
}

impl ParamSource for Params<'_> {
    fn namespaced(&self, kind: &ParamKind) -> Option<bool> {
        self.row(kind).map(|(row, _)| row.namespaced)
    }

    fn get(&self, kind: &ParamKind, namespace: &str, name: &str) -> Option<Value> {
        let (row, version) = self.row(kind)?;
        let found = self.0.get(row.group, row.plural, namespace, name)?;
        Some(codec::to_version(Value::clone(&found), &row, version))
    }

    fn list(&self, kind: &ParamKind, namespace: &str) -> Vec<Value> {
        let Some((row, version)) = self.row(kind) else {
            return Vec::new();
        };
        let found = self.0.list(row.group, row.plural, namespace);
        let found = found
            .iter()
            .map(|object| codec::to_version(Value::clone(object), &row, version));
        found.collect()
    }
}
