//! What policies need of the server: parameters, an authorizer, and objects in
//! the form that a policy takes.

use super::hooks::Configured;
use super::{Asked, forms};
use crate::codec;
use crate::registry::StoreObjects;
use crate::server::ApiServer;
use serde_json::Value;
use skiff_access::{Admitted, Attributes, Decision, Objects as _, UserInfo};
use skiff_admission::{Form, Objects, ParamKind, ParamSource, Request, World, validate};
use skiff_api::schema::split_api_version;
use skiff_cel::{Authorizer, Check, Target};
use skiff_kinds::KindRef;

impl ApiServer {
    pub(super) fn validate_by_policies(
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
        let authorizer = Asking {
            server: self,
            user: asked.user,
            cluster,
        };
        let shown = |form: &Form<'_>, object: &Value| forms::shown(asked, form, object, &cluster.catalog);
        let world = World {
            cluster,
            params: &Params(cluster),
            authorizer: &authorizer,
            shown: &shown,
        };
        let findings = validate(&configured.policies, request, objects, &world)?;
        for (key, value) in &findings.audit_annotations {
            tracing::info!(key, value, "audit annotation of a policy");
        }
        let name = shown_name(request, objects);
        let refusal = findings.refusal(request, name);
        warnings.extend(findings.warnings);
        refusal.map_or(Ok(()), Err)
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
