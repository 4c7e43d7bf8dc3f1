//! The forms in which an object can be shown to a webhook: the versions of its
//! kind, and kinds that share its storage.

use super::Asked;
use crate::codec;
use crate::registry::Catalog;
use crate::request::FieldValidation;
use serde_json::Value;
use skiff_admission::{Form, Gvk, Gvr};
use skiff_api::ApiError;
use skiff_kinds::{Kind, KindRef};

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

/// The object as this form shows it.
pub(super) fn shown(asked: &Asked<'_>, form: &Form<'_>, object: &Value, catalog: &Catalog) -> Value {
    if asked.body.is_some() || object.is_null() {
        return object.clone();
    }
    match catalog.resource(form.resource.group, form.resource.resource) {
        Some(kind) => codec::to_version(object.clone(), kind, form.resource.version),
        None => object.clone(),
    }
}

/// What was made of the object in this form, as the server keeps it: what the
/// type does not know is dropped.
pub(super) fn taken(asked: &Asked<'_>, form: &Form<'_>, mut seen: Value, catalog: &Catalog) -> Result<Value, ApiError> {
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
