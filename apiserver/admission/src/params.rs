//! Parameters of policies: which objects a binding hands to its policy.

use serde_json::Value;
use skiff_api::selector::LabelSelector;
use std::fmt;

/// `paramKind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

impl ParamKind {
    pub(crate) fn of(value: &Value) -> Option<Self> {
        value.is_object().then(|| Self {
            api_version: value["apiVersion"].as_str().unwrap_or("").to_string(),
            kind: value["kind"].as_str().unwrap_or("").to_string(),
        })
    }
}

impl fmt::Display for ParamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.api_version, self.kind)
    }
}

/// Finds parameters; objects come in the version of the kind.
pub trait ParamSource: Sync {
    /// Whether the kind is namespaced; `None`: it is not served.
    fn namespaced(&self, kind: &ParamKind) -> Option<bool>;
    fn get(&self, kind: &ParamKind, namespace: &str, name: &str) -> Option<Value>;
    fn list(&self, kind: &ParamKind, namespace: &str) -> Vec<Value>;
}

/// `paramRef`.
#[derive(Debug, Clone)]
pub(crate) struct ParamRef {
    name: String,
    namespace: String,
    selector: Option<LabelSelector>,
    deny_missing: bool,
}

impl ParamRef {
    pub fn of(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().unwrap_or("").to_string();
        value.is_object().then(|| Self {
            name: text("name"),
            namespace: text("namespace"),
            selector: value
                .get("selector")
                .filter(|selector| selector.is_object())
                .and_then(|selector| LabelSelector::from_object(Some(selector)).ok()),
            deny_missing: value["parameterNotFoundAction"] == "Deny",
        })
    }
}

/// The parameters for a request in `namespace`: `Null` where the policy gets none.
/// An empty list: there are none and that is allowed.
pub(crate) fn collect(
    kind: Option<&ParamKind>,
    reference: Option<&ParamRef>,
    namespace: &str,
    source: &dyn ParamSource,
) -> Result<Vec<Value>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else {
        return Ok(vec![Value::Null]);
    };
    let namespaced = source
        .namespaced(kind)
        .ok_or_else(|| format!("paramKind kind `{kind}` not known"))?;
    let place = match (namespaced, reference.namespace.as_str()) {
        (true, "") if namespace.is_empty() => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.into());
        }
        (true, "") => namespace,
        (true, named) => named,
        (false, "") => "",
        (false, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
        }
    };
    let found: Vec<Value> = match (&reference.selector, reference.name.as_str()) {
        (None, "") => return Err("one of name or selector must be provided".into()),
        (Some(_), name) if !name.is_empty() => {
            return Err("paramRef.name and paramRef.selector are mutually exclusive".into());
        }
        (Some(selector), _) => {
            let mut listed = source.list(kind, place);
            listed.retain(|object| selector.matches_object(object));
            listed
        }
        (None, name) => source.get(kind, place, name).into_iter().collect(),
    };
    if found.is_empty() && reference.deny_missing {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}
