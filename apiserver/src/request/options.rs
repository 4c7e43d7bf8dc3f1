//! The query string of a request: ListOptions, CreateOptions, DeleteOptions and
//! friends, read once.

use skiff_api::ApiError;

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
            other => Err(ApiError::bad_request(format!(
                "invalid propagationPolicy {other:?}: must be one of Orphan, Background, Foreground"
            ))),
        }
    }
}

/// Every option of any verb; what a verb does not know it does not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryOptions {
    pub watch: bool,
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: String,
    pub resource_version_match: Option<RvMatch>,
    pub limit: usize,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub force: bool,
    pub pretty: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub orphan_dependents: Option<bool>,
    /// Table rows carry `None`, `Metadata` (default) or `Object`.
    pub include_object: String,
    pub verbose: bool,
    pub exclude: Vec<String>,
    /// Timeout of a write in seconds (`timeout=34s`), advisory.
    pub timeout: String,
}

impl QueryOptions {
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let mut o = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let v = value.as_ref();
            match key.as_ref() {
                "watch" => o.watch = boolean("watch", v)?,
                "labelSelector" => o.label_selector = v.into(),
                "fieldSelector" => o.field_selector = v.into(),
                "resourceVersion" => o.resource_version = v.into(),
                "resourceVersionMatch" => o.resource_version_match = rv_match(v)?,
                "limit" => o.limit = usize::try_from(number("limit", v)?.max(0)).unwrap_or(0),
                "continue" => o.continue_token = v.into(),
                "timeoutSeconds" => {
                    o.timeout_seconds = u64::try_from(number("timeoutSeconds", v)?).ok().filter(|s| *s > 0)
                }
                "allowWatchBookmarks" => o.allow_watch_bookmarks = boolean("allowWatchBookmarks", v)?,
                "sendInitialEvents" => o.send_initial_events = Some(boolean("sendInitialEvents", v)?),
                "dryRun" => o.dry_run |= dry_run(v)?,
                "fieldManager" => o.field_manager = v.into(),
                "fieldValidation" => o.field_validation = field_validation(v)?,
                "force" => o.force = boolean("force", v)?,
                "pretty" => o.pretty = boolean("pretty", v)?,
                "gracePeriodSeconds" => o.grace_period_seconds = Some(number("gracePeriodSeconds", v)?),
                "propagationPolicy" => o.propagation = Some(Propagation::parse(v)?),
                "orphanDependents" => o.orphan_dependents = Some(boolean("orphanDependents", v)?),
                "includeObject" => o.include_object = v.into(),
                "verbose" => o.verbose = v.is_empty() || boolean("verbose", v)?,
                "exclude" => o.exclude.push(v.into()),
                "timeout" => o.timeout = v.into(),
                _ => {}
            }
        }
        Ok(o)
    }

    /// The name that `metadata.name=x` fixes, as authorisation sees it.
    pub fn name_selected(&self) -> Option<&str> {
        self.field_selector.split(',').find_map(|term| {
            let name = term.strip_prefix("metadata.name=")?;
            Some(name.strip_prefix('=').unwrap_or(name)).filter(|n| !n.is_empty())
        })
    }
}

pub(crate) fn dry_run(value: &str) -> Result<bool, ApiError> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(ApiError::new(
            422,
            "Invalid",
            format!("dryRun: Unsupported value: {other:?}: supported values: \"All\""),
        )),
    }
}

fn field_validation(value: &str) -> Result<FieldValidation, ApiError> {
    match value {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(ApiError::new(
            422,
            "Invalid",
            format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ),
        )),
    }
}

fn rv_match(value: &str) -> Result<Option<RvMatch>, ApiError> {
    match value {
        "" => Ok(None),
        "Exact" => Ok(Some(RvMatch::Exact)),
        "NotOlderThan" => Ok(Some(RvMatch::NotOlderThan)),
        other => Err(ApiError::new(
            422,
            "Invalid",
            format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            ),
        )),
    }
}

/// Go's `strconv.ParseBool`, plus the empty value, which counts as true, as in
/// upstream's conversion of query parameters.
fn boolean(key: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(ApiError::bad_request(format!(
            "invalid value {other:?} for {key}: must be true or false"
        ))),
    }
}

fn number(key: &str, value: &str) -> Result<i64, ApiError> {
    value
        .parse()
        .map_err(|_| ApiError::bad_request(format!("invalid value {value:?} for {key}: must be a whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let o =
            QueryOptions::parse("watch=1&limit=500&fieldSelector=metadata.name%3Dx&allowWatchBookmarks=true").unwrap();
        assert!(o.watch && o.allow_watch_bookmarks);
        assert_eq!((o.limit, o.name_selected()), (500, Some("x")));
        assert!(QueryOptions::parse("dryRun=Some").is_err());
        assert!(QueryOptions::parse("limit=x").is_err());
        assert_eq!(
            QueryOptions::parse("fieldValidation=Strict").unwrap().field_validation,
            FieldValidation::Strict
        );
    }
}
