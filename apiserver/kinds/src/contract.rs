//! A kind is a row in a table; all kinds go through one generic handler. This
//! is the row's shape.

use crate::custom::CustomKind;
use serde_json::Value;
use skiff_api::FieldError;
use skiff_api::schema::{self, Type};
use std::ops::Deref;
use std::sync::Arc;

/// One served resource of the API, in all its versions.
pub struct Kind {
    /// API group; empty for core.
    pub group: &'static str,
    /// Served versions, preferred first; the first is also the storage version
    /// unless `storage_version` says otherwise.
    pub versions: &'static [&'static str],
    pub storage_version: &'static str,
    pub kind: &'static str,
    pub list_kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    /// `all` where `kubectl get all` shows it.
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// Columns of the server-side table, `Name` first.
    pub columns: &'static [Column],
    pub strategy: &'static dyn Strategy,
    /// Where objects live if shared with another row (`events` in both groups),
    /// else `(group, plural)`.
    pub storage: (&'static str, &'static str),
    /// What a kind that came at run time brings with it; `strategy` and `columns`
    /// of such a row are not looked at.
    pub custom: Option<Arc<CustomKind>>,
}

impl Kind {
    /// The rules of the kind.
    pub fn strategy(&self) -> &dyn Strategy {
        match &self.custom {
            Some(custom) => &**custom,
            None => self.strategy,
        }
    }

    /// The type of the kind's objects in one of its versions.
    pub fn type_in(&self, version: &str) -> Option<&Type> {
        match &self.custom {
            Some(custom) => custom.type_in(version),
            None => schema::lookup_gvk(self.group, version, self.kind),
        }
    }

    /// Columns of the table that is asked for in a version.
    pub fn columns_in(&self, version: &str) -> &[Column] {
        match &self.custom {
            Some(custom) => custom.columns(version),
            None => self.columns,
        }
    }

    /// Cells of the table row of an object in its storage version.
    pub fn row_in(&self, version: &str, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        match &self.custom {
            Some(custom) => custom.row(version, object, now),
            None => self.strategy.row(object, now),
        }
    }
}

/// A row of the built-in table, or one that came at run time: cheap to copy about.
#[derive(Clone)]
pub enum KindRef {
    BuiltIn(&'static Kind),
    Custom(Arc<Kind>),
}

impl Deref for KindRef {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        match self {
            Self::BuiltIn(kind) => kind,
            Self::Custom(kind) => kind,
        }
    }
}

impl From<&'static Kind> for KindRef {
    fn from(kind: &'static Kind) -> Self {
        Self::BuiltIn(kind)
    }
}

impl From<Arc<Kind>> for KindRef {
    fn from(kind: Arc<Kind>) -> Self {
        Self::Custom(kind)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subresource {
    /// `status`, `scale`, `binding`, `eviction`, `log`, ...
    pub name: &'static str,
    /// Group, version and kind of what is sent and answered.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, ...
    pub kind: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    /// 0: always shown; 1: with `-o wide`.
    pub priority: u32,
}

/// What differs from kind to kind. Every method has a sensible default, so a
/// kind without rules of its own is `&Plain`. Objects are trees in the storage
/// version. Pure: time is an argument, nothing is looked up.
pub trait Strategy: Sync + Send {
    /// Fills in Kubernetes' defaults (also below `spec.template`); idempotent.
    fn default(&self, _object: &mut Value) {}

    /// Before create: drops `status` where the kind has a status subresource,
    /// sets `metadata.generation` to 1 where the kind keeps generations.
    fn prepare_create(&self, _object: &mut Value) {}

    /// Before update of the main resource: keeps the old `status`, bumps the
    /// generation if the spec changed. `subresource` is empty or its name:
    /// for `status` it keeps the old spec and most metadata.
    fn prepare_update(&self, _subresource: &str, _new: &mut Value, _old: &Value) {}

    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is checked of a new object only, besides `validate`.
    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Update rules (immutable fields...) besides `validate`.
    fn validate_update(&self, _subresource: &str, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Texts for `Warning` headers.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Texts for `Warning` headers of an update of the main resource.
    fn update_warnings(&self, new: &Value, _old: &Value) -> Vec<String> {
        self.warnings(new)
    }

    /// Cells of the table row, one per column.
    fn row(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value>;

    /// Selectable fields besides metadata.name and metadata.namespace. Every
    /// field that may be selected is present, also when its value is empty.
    fn fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Names of what `fields` returns, to refuse other field selectors.
    fn field_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Grace period of a deletion in seconds; `None`: deleted at once. Pods
    /// answer from spec.terminationGracePeriodSeconds, `spec.nodeName`, phase.
    fn grace_period_seconds(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }
}
