//! Which objects a list or watch shows: label and field selectors, evaluated on
//! record headers, without parsing bodies.

use super::label_selector::LabelSelector;
use super::split_key;
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::Entry;

/// Label and field selectors of one request.
pub struct Filter {
    kind: &'static Kind,
    labels: Option<LabelSelector>,
    fields: Vec<FieldTerm>,
}

struct FieldTerm {
    field: String,
    equal: bool,
    value: String,
}

impl Filter {
    pub fn parse(kind: &'static Kind, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = match labels.trim() {
            "" => None,
            text => Some(
                LabelSelector::parse(text)
                    .map_err(|e| ApiError::bad_request(format!("unable to parse requirement: {e}")))?,
            ),
        };
        let fields = parse_fields(kind, fields)?;
        Ok(Self { kind, labels, fields })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// The one name that the selector allows, if it fixes one.
    pub fn name(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|t| t.equal && t.field == "metadata.name")
            .map(|t| t.value.as_str())
    }

    /// The one namespace that the selector allows, if it fixes one.
    pub fn namespace(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|t| t.equal && t.field == "metadata.namespace")
            .map(|t| t.value.as_str())
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        let header = &entry.record.header;
        if let Some(labels) = &self.labels
            && !labels.matches(|key| {
                header
                    .labels
                    .binary_search_by(|(k, _)| k.as_ref().cmp(key))
                    .ok()
                    .map(|i| header.labels[i].1.as_ref())
            })
        {
            return false;
        }
        self.fields.iter().all(|term| {
            let (namespace, name) = split_key(self.kind, &entry.key);
            let value = match term.field.as_str() {
                "metadata.name" => name,
                "metadata.namespace" => namespace,
                other => header
                    .fields
                    .iter()
                    .find(|(k, _)| k.as_ref() == other)
                    .map_or("", |(_, v)| v.as_ref()),
            };
            (value == term.value) == term.equal
        })
    }
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<FieldTerm>, ApiError> {
    let mut terms = Vec::new();
    for term in split_terms(text) {
        let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
            (field, false, value)
        } else if let Some((field, value)) = term.split_once("==") {
            (field, true, value)
        } else if let Some((field, value)) = term.split_once('=') {
            (field, true, value)
        } else {
            return Err(ApiError::bad_request(format!(
                "invalid field selector {text:?}: can't understand '{term}'"
            )));
        };
        let known =
            matches!(field, "metadata.name" | "metadata.namespace") || kind.strategy.field_names().contains(&field);
        if !known {
            return Err(ApiError::bad_request(format!(
                "Unable to find {:?} that match label selector \"\", field selector {text:?}: field label not supported: {field}",
                plural_gvr(kind)
            )));
        }
        terms.push(FieldTerm {
            field: field.to_string(),
            equal,
            value: unescape(value),
        });
    }
    Ok(terms)
}

fn plural_gvr(kind: &Kind) -> String {
    let slash = if kind.group.is_empty() { "" } else { "/" };
    format!("{}{slash}{}, Resource={}", kind.group, kind.versions[0], kind.plural)
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            ',' if !escaped => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => escaped = false,
        }
    }
    terms.push(&text[start..]);
    terms.retain(|t| !t.is_empty());
    terms
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}
