//! The query string of a request: ListOptions, CreateOptions, DeleteOptions and
//! friends, read once. What a verb does not know it does not read: a fault in an
//! option is told only to the verbs that have that option.

use super::fault::{Fault, OptionKind};
use skiff_api::{ApiError, FieldError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RvMatch {
    Exact,
    NotOlderThan,
}

impl RvMatch {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Exact" => Some(Self::Exact),
            "NotOlderThan" => Some(Self::NotOlderThan),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl Propagation {
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "Orphan" => Ok(Self::Orphan),
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            other => Err(Fault::propagation(other).alone(OptionKind::Delete)),
        }
    }
}

/// Every option of any verb.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryOptions {
    pub watch: bool,
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: String,
    pub resource_version_match: Option<RvMatch>,
    /// What `resourceVersionMatch` says, known or not.
    pub(super) match_text: String,
    pub limit: usize,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub force: bool,
    /// `force` is there, whatever it says.
    pub force_given: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub orphan_dependents: Option<bool>,
    /// Table rows carry `None`, `Metadata` (default) or `Object`.
    pub include_object: String,
    pub verbose: bool,
    pub exclude: Vec<String>,
    faults: Vec<(OptionKind, Fault)>,
}

impl QueryOptions {
    /// Never fails: what cannot be read is told by [`QueryOptions::check`].
    pub fn parse(query: &str) -> Self {
        let mut o = Self::default();
        if query.is_empty() {
            return o;
        }
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
        // The first of several values counts: it is written last.
        for (key, value) in pairs.iter().rev() {
            o.read(key, value);
        }
        let mut dry_run: Vec<&str> = pairs
            .iter()
            .filter(|(key, _)| key == "dryRun")
            .map(|(_, v)| v.as_ref())
            .collect();
        dry_run.retain(|v| !v.is_empty());
        o.set_dry_run(&dry_run);
        o
    }

    fn read(&mut self, key: &str, v: &str) {
        match key {
            "watch" => self.watch = boolean(v),
            "labelSelector" => self.label_selector = v.into(),
            "fieldSelector" => self.field_selector = v.into(),
            "resourceVersion" => self.resource_version = v.into(),
            "resourceVersionMatch" => {
                self.match_text = v.into();
                self.resource_version_match = RvMatch::parse(v);
            }
            "limit" => self.limit = usize::try_from(self.number(key, OptionKind::List, v).unwrap_or(0)).unwrap_or(0),
            "continue" => self.continue_token = v.into(),
            "timeoutSeconds" => {
                let seconds = self.number(key, OptionKind::List, v);
                // None is the server's own, and less than none is over at once.
                self.timeout_seconds = seconds.filter(|s| *s != 0).map(|s| u64::try_from(s).unwrap_or(0));
            }
            "allowWatchBookmarks" => self.allow_watch_bookmarks = boolean(v),
            "sendInitialEvents" => self.send_initial_events = Some(boolean(v)),
            "fieldManager" => self.field_manager = v.into(),
            "fieldValidation" => self.field_validation = self.field_validation(v),
            "force" => (self.force, self.force_given) = (boolean(v), true),
            "gracePeriodSeconds" => self.grace_period_seconds = self.number(key, OptionKind::Delete, v),
            "propagationPolicy" => self.propagation = self.propagation(v),
            "orphanDependents" => self.orphan_dependents = Some(boolean(v)),
            "includeObject" => self.include_object = v.into(),
            "verbose" => self.verbose = boolean(v),
            "exclude" => self.exclude.insert(0, v.into()),
            _ => {}
        }
    }

    /// What is wrong with the options that this verb has: 400 for what cannot be
    /// read, 422 for what is not allowed.
    pub fn check(&self, kind: OptionKind) -> Result<(), ApiError> {
        let mine = || self.faults.iter().filter(|(of, _)| of.is(kind)).map(|(_, fault)| fault);
        if let Some(error) = mine().find_map(Fault::unreadable) {
            return Err(error);
        }
        let mut errors: Vec<FieldError> = Vec::new();
        if kind.is_write() {
            errors.extend(super::fault::manager(&self.field_manager));
        }
        errors.extend(mine().filter_map(Fault::refused));
        kind.invalid(&errors)
    }

    /// The name that `metadata.name=x` fixes, as authorisation sees it.
    pub fn name_selected(&self) -> Option<&str> {
        self.field_selector.split(',').find_map(|term| {
            let name = term.strip_prefix("metadata.name=")?;
            Some(name.strip_prefix('=').unwrap_or(name)).filter(|n| !n.is_empty())
        })
    }

    fn fault(&mut self, of: OptionKind, fault: Fault) {
        self.faults
            .retain(|(kind, old)| (*kind, old.key()) != (of, fault.key()));
        self.faults.push((of, fault));
    }

    fn number(&mut self, key: &str, of: OptionKind, value: &str) -> Option<i64> {
        let key = if key == "limit" { "limit" } else { "seconds" };
        match value.parse() {
            Ok(number) => Some(number),
            Err(error) => {
                self.fault(of, Fault::number(key, value, &error));
                None
            }
        }
    }

    fn field_validation(&mut self, value: &str) -> FieldValidation {
        match value {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                self.fault(
                    OptionKind::Write,
                    Fault::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]),
                );
                FieldValidation::Warn
            }
        }
    }

    fn propagation(&mut self, value: &str) -> Option<Propagation> {
        let read = Propagation::parse(value).ok();
        if read.is_none() {
            self.fault(OptionKind::Delete, Fault::propagation(value));
        }
        read
    }

    fn set_dry_run(&mut self, values: &[&str]) {
        self.dry_run = values.contains(&"All");
        if let Some(fault) = Fault::dry_run(values) {
            self.fault(OptionKind::Write, fault.clone());
            self.fault(OptionKind::Delete, fault);
        }
    }
}

/// One value of a body's `dryRun`.
pub(crate) fn dry_run(value: &str) -> Result<bool, ApiError> {
    match Fault::dry_run(&[value]) {
        None => Ok(true),
        Some(fault) => Err(fault.alone(OptionKind::Delete)),
    }
}

/// As upstream reads query parameters: whatever is not false is true.
fn boolean(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let o =
            QueryOptions::parse("watch=1&limit=500&fieldSelector=metadata.name%3Dx&allowWatchBookmarks=true&limit=7");
        assert!(o.watch && o.allow_watch_bookmarks);
        assert_eq!((o.limit, o.name_selected()), (500, Some("x")));
        assert_eq!(
            QueryOptions::parse("fieldValidation=Strict").field_validation,
            FieldValidation::Strict
        );
        assert!(QueryOptions::parse("watch=yes&force=").watch);
        assert!(!QueryOptions::parse("watch=False").watch);
    }

    #[test]
    fn faults_are_told_to_the_verbs_that_have_the_option() {
        use OptionKind::{Create, Delete, List, Patch};
        let cases = [
            ("limit=x", List, 400, r#"strconv.ParseInt: parsing "x": invalid syntax"#),
            (
                "limit=9223372036854775808",
                List,
                400,
                r#"strconv.ParseInt: parsing "9223372036854775808": value out of range"#,
            ),
            ("limit=x", Create, 0, ""),
            (
                "dryRun=x",
                Create,
                422,
                r#"CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: []string{"x"}: supported values: "All""#,
            ),
            ("dryRun=x", List, 0, ""),
            (
                "fieldValidation=x&fieldManager=%01",
                Patch,
                422,
                "PatchOptions.meta.k8s.io \"\" is invalid: [fieldManager: Invalid value: \"\\x01\": invalid character U+0001 (at position 0), \
                 fieldValidation: Unsupported value: \"x\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"]",
            ),
            (
                "propagationPolicy=x",
                Delete,
                422,
                r#"DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "x": supported values: "Foreground", "Background", "Orphan", "nil""#,
            ),
        ];
        for (query, kind, code, message) in cases {
            let (got, text) = match QueryOptions::parse(query).check(kind) {
                Ok(()) => (0, String::new()),
                Err(error) => (error.code, error.message),
            };
            assert_eq!((got, text.as_str()), (code, message), "{query}");
        }
    }
}
