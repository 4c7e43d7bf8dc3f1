//! The authorizer of a request, as expressions see it: builders of a check, and its
//! decision. Who is allowed what is the caller's to say.

use crate::types;
use std::sync::Arc;

/// Answers the checks of an expression. The caller knows the user of the request.
pub trait Authorizer: Sync {
    fn authorize(&self, check: &Check) -> Decision;
}

/// One check, complete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    /// Namespace and name, where the check is for a service account instead of the request's user.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    pub target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A non-resource path.
    Path(String),
    Resource(Resource),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// As given; a selector that does not parse narrows nothing.
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
}

impl Default for Target {
    fn default() -> Self {
        Self::Resource(Resource::default())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Why it could not be decided.
    pub error: Option<String>,
}

/// A value of one of the authorizer's types.
#[derive(Clone)]
pub enum Authz<'a> {
    Authorizer(&'a (dyn Authorizer + 'a), Option<(String, String)>),
    Path(Base<'a>, String),
    Group(Base<'a>, String),
    Resource(Base<'a>, Resource),
    Decision(Decision),
}

/// What a check starts from.
#[derive(Clone)]
pub struct Base<'a> {
    pub authorizer: &'a (dyn Authorizer + 'a),
    pub service_account: Option<(String, String)>,
}

impl<'a> Authz<'a> {
    pub fn new(authorizer: &'a (dyn Authorizer + 'a)) -> Arc<Self> {
        Arc::new(Self::Authorizer(authorizer, None))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Authorizer(..) => types::AUTHORIZER,
            Self::Path(..) => types::PATH_CHECK,
            Self::Group(..) => types::GROUP_CHECK,
            Self::Resource(..) => types::RESOURCE_CHECK,
            Self::Decision(_) => types::DECISION,
        }
    }
}

impl PartialEq for Authz<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Authorizer(_, a), Self::Authorizer(_, b)) => a == b,
            (Self::Path(a, path), Self::Path(b, other)) => a.service_account == b.service_account && path == other,
            (Self::Group(a, group), Self::Group(b, other)) => a.service_account == b.service_account && group == other,
            (Self::Resource(a, resource), Self::Resource(b, other)) => {
                a.service_account == b.service_account && resource == other
            }
            (Self::Decision(a), Self::Decision(b)) => a == b,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Authz<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name())
    }
}
