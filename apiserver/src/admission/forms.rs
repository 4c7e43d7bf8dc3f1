//! The forms in which an object can be shown to a webhook: the versions of its
//! kind, and kinds that share its storage.

use super::Asked;
use crate::codec;
use crate::registry::Catalog;
use crate::request::FieldValidation;
use crate::server::ApiServer;
use serde_json::Value;
use skiff_admission::{Form, Gvk, Gvr};
use skiff_api::{ApiError, schema};
use skiff_kinds::{Kind, KindRef};
use std::sync::Arc;

fn form<'a>(kind: &Kind, version: &'a str, asked: &Asked<'a>) -> Form<'a> {
    Form {
        resource: Gvr {
            group: kind.group,
            version,
            resource: kind.plural,
        },
        kind: match asked.body {
            Some((group, version, kind)) => Gvk { group, version, kind },
            None => Gvk {
                group: kind.group,
                version,
                kind: kind.kind,
            },
        },
    }
}

/// The form that was asked for.
pub(super) fn own<'a>(asked: &Asked<'a>) -> Form<'a> {
    form(asked.kind, asked.version, asked)
}

/// All others.
pub(super) fn equivalents<'a>(asked: &Asked<'a>, catalog: &Catalog) -> Vec<Form<'a>> {
    let own = own(asked);
    let mut found: Vec<Form<'a>> = asked.kind.versions.iter().map(|v| form(asked.kind, v, asked)).collect();
    let sharing = |kind: &&KindRef| kind.storage == asked.kind.storage && kind.group != asked.kind.group;
    for kind in catalog.kinds().iter().filter(sharing) {
        found.extend(kind.versions.iter().map(|v| form(kind, v, asked)));
    }
    found.retain(|form| *form != own);
    found
}

impl ApiServer {
    /// The object as this form shows it.
    pub(super) async fn shown_as(
        &self,
        asked: &Asked<'_>,
        form: &Form<'_>,
        object: &Value,
        catalog: &Catalog,
    ) -> Result<Value, ApiError> {
        if asked.body.is_some() || object.is_null() {
            return Ok(object.clone());
        }
        let Some(kind) = catalog.resource(form.resource.group, form.resource.resource) else {
            return Ok(object.clone());
        };
        let version = form.resource.version;
        if kind.custom.is_none() {
            return Ok(codec::to_version(object.clone(), kind, version));
        }
        self.in_custom(kind, &codec::api_version(kind.group, version), object)
            .await
    }

    async fn in_custom(&self, kind: &Kind, api_version: &str, object: &Value) -> Result<Value, ApiError> {
        if object["apiVersion"] == api_version {
            return Ok(object.clone());
        }
        let (_, version) = schema::split_api_version(api_version);
        let made = self.object_in(kind, version, Arc::new(object.clone())).await?;
        Ok(Arc::unwrap_or_clone(made))
    }

    /// What was made of the object in this form, in the version the object is
    /// worked on in (`api_version`): what the type does not know is dropped.
    pub(super) async fn taken_from(
        &self,
        asked: &Asked<'_>,
        form: &Form<'_>,
        seen: Value,
        api_version: &str,
        catalog: &Catalog,
    ) -> Result<Value, ApiError> {
        let object = settled(asked, form, seen, catalog)?;
        match &asked.kind.custom {
            Some(_) if asked.body.is_none() => self.in_custom(asked.kind, api_version, &object).await,
            _ => Ok(object),
        }
    }
}

/// What was made of the object, as a body in this form would be read, with defaults.
pub(super) fn settled(
    asked: &Asked<'_>,
    form: &Form<'_>,
    mut seen: Value,
    catalog: &Catalog,
) -> Result<Value, ApiError> {
    if let Some(gvk) = asked.body {
        codec::check_plain(&mut seen, gvk)?;
        return Ok(seen);
    }
    let kind = catalog
        .resource(form.resource.group, form.resource.resource)
        .ok_or_else(|| ApiError::internal(format!("{} are not served any more", form.resource.resource)))?;
    let mut object = codec::check_object(
        seen,
        kind,
        form.resource.version,
        FieldValidation::Ignore,
        &mut Vec::new(),
    )?;
    kind.strategy().default(&mut object);
    Ok(object)
}

/// The same, left in the form.
pub(super) fn settled_in_form(
    asked: &Asked<'_>,
    form: &Form<'_>,
    seen: Value,
    catalog: &Catalog,
) -> Result<Value, ApiError> {
    let object = settled(asked, form, seen, catalog)?;
    let kind = catalog.resource(form.resource.group, form.resource.resource);
    Ok(match kind {
        Some(kind) if asked.body.is_none() && kind.custom.is_none() => {
            codec::to_version(object, kind, form.resource.version)
        }
        _ => object,
    })
}
