//! One version of a kind that came at run time.

use crate::contract::Column;
use crate::intern::intern;
use crate::row::NAME;
use crate::tree::Tree;
use serde_json::Value;
use skiff_api::schema::Type;
use skiff_custom::cel::Rules;
use skiff_custom::{Schema, columns, types};
use std::cmp::Reverse;
use std::sync::OnceLock;

pub(super) struct Version {
    pub name: &'static str,
    pub served: bool,
    pub status: bool,
    pub scale: Option<ScalePaths>,
    pub deprecation: Option<Box<str>>,
    compiled: OnceLock<Compiled>,
}

/// Where objects keep what a Scale shows, as names from the object down.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalePaths {
    pub spec_replicas: Vec<String>,
    pub status_replicas: Vec<String>,
    pub selector: Vec<String>,
}

/// How objects get from one version to another.
#[derive(Debug, Clone, PartialEq)]
pub enum Conversion {
    /// Only `apiVersion` differs.
    None,
    /// `spec.conversion.webhook` of the definition.
    Webhook(Box<Value>),
}

/// What is made of a version when it is first used.
pub(super) struct Compiled {
    pub schema: Schema,
    /// `x-kubernetes-validations`, if there are any.
    pub rules: Option<Rules>,
    pub ty: Type,
    /// `Name` first.
    pub columns: Vec<Column>,
    /// Without the name.
    pub printed: Vec<columns::Column>,
}

impl Version {
    pub fn new(json: &Value) -> Self {
        let name = intern(json.text("name"));
        Self {
            name,
            served: json.flag("served"),
            status: json.has("subresources.status"),
            scale: ScalePaths::new(json.at("subresources.scale")),
            deprecation: json.flag("deprecated").then(|| json.text("deprecationWarning").into()),
            compiled: OnceLock::new(),
        }
    }

    pub fn compiled(&self, make: impl FnOnce() -> Compiled) -> &Compiled {
        self.compiled.get_or_init(make)
    }
}

impl ScalePaths {
    fn new(scale: &Value) -> Option<Self> {
        let names = |key: &str| -> Vec<String> {
            let path = scale.text(key).trim_start_matches('.');
            path.split('.').filter(|p| !p.is_empty()).map(Into::into).collect()
        };
        scale.is_object().then(|| Self {
            spec_replicas: names("specReplicasPath"),
            status_replicas: names("statusReplicasPath"),
            selector: names("labelSelectorPath"),
        })
    }
}

impl Conversion {
    pub(super) fn new(conversion: &Value) -> Self {
        match conversion.text("strategy") {
            "Webhook" => Self::Webhook(Box::new(conversion.at("webhook").clone())),
            _ => Self::None,
        }
    }
}

impl Compiled {
    pub fn new(version: &Value, group: &str, kind: &str) -> Self {
        let json = version.at("schema.openAPIV3Schema");
        let schema = Schema::new(json);
        let printed = columns::columns(version);
        let column = |c: &columns::Column| Column {
            name: intern(&c.name),
            kind: intern(&c.kind),
            format: intern(&c.format),
            description: intern(&c.description),
            priority: c.priority,
        };
        Self {
            ty: types::object_type(&schema, group, version.text("name"), kind),
            columns: std::iter::once(NAME).chain(printed.iter().map(column)).collect(),
            printed,
            rules: Rules::new(json, &schema, true),
            schema,
        }
    }
}

/// Gives deprecated versions that say nothing themselves the usual text.
pub(super) fn tell_deprecations(versions: &mut [Version], group: &str, kind: &str) {
    let mut current: Vec<&'static str> = versions
        .iter()
        .filter(|v| v.served && v.deprecation.is_none())
        .map(|v| v.name)
        .collect();
    current.sort_by_key(|v| priority(v));
    for version in versions {
        if version.deprecation.as_deref() == Some("") {
            let newer = current.first().filter(|v| priority(v) < priority(version.name));
            let instead = newer.map_or(String::new(), |newer| format!("; use {group}/{newer} {kind}"));
            let text = format!("{group}/{} {kind} is deprecated{instead}", version.name);
            version.deprecation = Some(text.into());
        }
    }
}

/// Sorts versions as Kubernetes prefers them: stable before beta before alpha, newer
/// before older; names of another form last, by the alphabet.
pub fn priority(version: &str) -> (u8, Reverse<u64>, Reverse<u64>, String) {
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..end].parse().ok()?;
        let (stage, minor) = match &rest[end..] {
            "" => (0, "0"),
            rest => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
                (Some(minor), _) => (1, minor),
                (_, Some(minor)) => (2, minor),
                _ => return None,
            },
        };
        Some((stage, Reverse(major), Reverse(minor.parse().ok()?)))
    });
    match parsed {
        Some((stage, major, minor)) => (stage, major, minor, String::new()),
        None => (3, Reverse(0), Reverse(0), version.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_preferred_as_upstream_does() {
        let mut versions = vec![
            "v1alpha1",
            "foo1",
            "v10",
            "v2",
            "v1beta2",
            "v11beta1",
            "v1beta10",
            "v12alpha1",
            "bar",
        ];
        versions.sort_by_key(|v| priority(v));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v11beta1",
                "v1beta10",
                "v1beta2",
                "v12alpha1",
                "v1alpha1",
                "bar",
                "foo1"
            ]
        );
    }
}
