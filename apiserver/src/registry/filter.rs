//! Which objects a list or watch shows: label and field selectors, evaluated on
//! record headers, without parsing bodies.

use super::{decode, split_key};
use skiff_api::ApiError;
use skiff_api::selector::{FieldSelector, LabelSelector};
use skiff_kinds::{Kind, KindRef};
use skiff_store::Entry;
use std::borrow::Cow;

/// Events are stored as the core group has them; `events.k8s.io` calls fields otherwise.
fn stored_field(kind: &Kind, field: &str) -> Option<String> {
    if kind.group != "events.k8s.io" {
        return None;
    }
    match field.split_once('.') {
        Some(("regarding", of)) => Some(format!("involvedObject.{of}")),
        None if field == "reportingController" => Some("reportingComponent".into()),
        _ => None,
    }
}

/// Kinds that select by more than the name have words of their own.
fn unknown_field(kind: &Kind, field: &str) -> ApiError {
    if kind.strategy().field_names().is_empty() && kind.custom.is_none() {
        return ApiError::bad_request(format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ));
    }
    ApiError::bad_request(format!("field label not supported: {field}"))
}

/// Label and field selectors of one request.
pub struct Filter {
    kind: KindRef,
    labels: Option<LabelSelector>,
    fields: FieldSelector,
}

impl Filter {
    pub fn parse(kind: &KindRef, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = match labels.trim() {
            "" => None,
            text => Some(LabelSelector::parse(text).map_err(|e| ApiError::bad_request(e.to_string()))?),
        };
        let mut selector = FieldSelector::parse(fields).map_err(|e| ApiError::bad_request(e.to_string()))?;
        for requirement in &mut selector.requirements {
            if let Some(stored) = stored_field(kind, &requirement.field) {
                requirement.field = stored;
            }
            let field = requirement.field.as_str();
            if !matches!(field, "metadata.name" | "metadata.namespace")
                && !kind.strategy().field_names().contains(&field)
            {
                return Err(unknown_field(kind, field));
            }
        }
        Ok(Self {
            kind: kind.clone(),
            labels,
            fields: selector,
        })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// The one name that the selector allows, if it fixes one.
    pub fn name(&self) -> Option<&str> {
        self.fields.required_value("metadata.name")
    }

    /// The one namespace that the selector allows, if it fixes one.
    pub fn namespace(&self) -> Option<&str> {
        self.fields.required_value("metadata.namespace")
    }

    /// A field that could not be selected when the object was stored.
    fn unlisted(&self, entry: &Entry, field: &str) -> String {
        let object = self
            .kind
            .custom
            .as_ref()
            .and_then(|_| decode(entry, entry.mod_revision()).ok());
        let fields = object.map(|object| self.kind.strategy().fields(&object));
        let found = fields.into_iter().flatten().find(|(name, _)| *name == field);
        found.map_or(String::new(), |(_, value)| value)
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        if let Some(labels) = &self.labels
            && !labels.matches(|key| entry.labels().get(key))
        {
            return false;
        }
        self.fields.is_empty()
            || self.fields.matches(|field| {
                let (namespace, name) = split_key(&self.kind, entry.key());
                Cow::Borrowed(match field {
                    "metadata.name" => name,
                    "metadata.namespace" => namespace,
                    other => match entry.fields().get(other) {
                        Some(value) => value,
                        None => return Cow::Owned(self.unlisted(entry, other)),
                    },
                })
            })
    }
}
