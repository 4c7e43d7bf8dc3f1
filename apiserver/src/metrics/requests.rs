//! Figures about requests by what they ask for. One look-up per request, in a map
//! that is written only when a combination comes for the first time.

use crate::request::RequestInfo;
use skiff_metrics::{Histogram, Page};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Upstream's buckets of a request's duration, in seconds.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// And of an answer's size, in bytes.
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Combinations that are told apart: kinds, verbs and scopes of a cluster with hundreds of
/// definitions. What comes beyond shares one row.
const ROWS_MAX: usize = 20_000;

/// What a request asks for. Texts are those of the table of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RequestKey {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    /// Of documents: the path.
    pub subresource: &'static str,
    pub scope: &'static str,
    pub verb: &'static str,
    pub dry_run: bool,
}

impl RequestKey {
    /// Verb and scope in the words of upstream's labels.
    pub fn about(info: &RequestInfo, applies: bool) -> (&'static str, &'static str) {
        let verb = match info.verb {
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" if applies => "APPLY",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            "head" => "HEAD",
            _ => "other",
        };
        let verb = match info.subresource.as_str() {
            "exec" | "attach" | "portforward" | "proxy" => "CONNECT",
            _ => verb,
        };
        let scope = if !info.is_resource {
            ""
        } else if !info.name.is_empty() || info.verb == "create" {
            "resource"
        } else if info.namespace.is_empty() {
            "cluster"
        } else {
            "namespace"
        };
        (verb, scope)
    }
}

/// What is counted of one combination.
pub struct Row {
    codes: Mutex<Vec<(u16, u64)>>,
    duration: Histogram,
    size: Histogram,
    /// Watches that run.
    pub running: AtomicI64,
    /// Events that were sent.
    pub events: AtomicU64,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            codes: Mutex::default(),
            duration: Histogram::new(SECONDS, 1e6),
            size: Histogram::new(BYTES, 1.0),
            running: AtomicI64::new(0),
            events: AtomicU64::new(0),
        }
    }
}

impl Row {
    fn count(&self, code: u16) {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        match codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => codes.push((code, 1)),
        }
    }
}

#[derive(Default)]
pub struct Requests {
    rows: RwLock<HashMap<RequestKey, Arc<Row>>>,
}

impl Requests {
    pub fn row(&self, key: RequestKey) -> Arc<Row> {
        if let Some(row) = self.rows.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return row.clone();
        }
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let key = if rows.len() < ROWS_MAX {
            key
        } else {
            RequestKey::default()
        };
        rows.entry(key).or_default().clone()
    }

    /// A request was answered. Watches last as long as the client wants: only their start counts.
    pub fn answered(&self, key: RequestKey, code: u16, seconds: f64, bytes: Option<u64>) {
        let row = self.row(key);
        row.count(code);
        if key.verb != "WATCH" {
            row.duration.observe(seconds);
        }
        if let Some(bytes) = bytes.filter(|_| matches!(key.verb, "GET" | "LIST")) {
            // Sizes are far below 2^53.
            #[allow(clippy::cast_precision_loss)]
            row.size.observe(bytes as f64);
        }
    }

    pub fn write(&self, page: &mut Page) {
        let rows: BTreeMap<RequestKey, Arc<Row>> = self
            .rows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(key, row)| (*key, row.clone()))
            .collect();
        let name = "apiserver_longrunning_requests";
        page.family(name, "gauge", "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.");
        for (key, row) in rows.iter().filter(|(key, _)| key.verb == "WATCH") {
            page.sample(name, &labels(key, false), row.running.load(Ordering::Relaxed));
        }
        let name = "apiserver_request_duration_seconds";
        page.family(name, "histogram", "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.");
        for (key, row) in rows.iter().filter(|(_, row)| !row.duration.is_empty()) {
            page.histogram(name, &labels(key, true), &row.duration);
        }
        let name = "apiserver_request_sli_duration_seconds";
        page.family(name, "histogram", "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.");
        for (key, row) in rows
            .iter()
            .filter(|(key, row)| !key.dry_run && !row.duration.is_empty())
        {
            page.histogram(name, &labels(key, false), &row.duration);
        }
        let name = "apiserver_request_total";
        page.family(name, "counter", "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.");
        for (key, row) in &rows {
            let mut codes = row.codes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            codes.sort_unstable();
            for (code, count) in codes {
                let code = code.to_string();
                let mut all = vec![("code", code.as_str())];
                all.extend(labels(key, true));
                page.sample(name, &all, count);
            }
        }
        let name = "apiserver_response_sizes";
        page.family(name, "histogram", "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.");
        for (key, row) in rows.iter().filter(|(key, row)| !key.dry_run && !row.size.is_empty()) {
            page.histogram(name, &labels(key, false), &row.size);
        }
        let name = "apiserver_watch_events_total";
        page.family(name, "counter", "[ALPHA] Number of events sent in watch clients");
        let mut events: BTreeMap<[&str; 3], u64> = BTreeMap::new();
        for (key, row) in rows.iter().filter(|(key, _)| key.verb == "WATCH") {
            *events.entry([key.group, key.resource, key.version]).or_default() += row.events.load(Ordering::Relaxed);
        }
        for ([group, resource, version], count) in events {
            page.sample(
                name,
                &[("group", group), ("resource", resource), ("version", version)],
                count,
            );
        }
    }
}

fn labels(key: &RequestKey, dry_run: bool) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("component", "apiserver")];
    if dry_run {
        all.push(("dry_run", if key.dry_run { "All" } else { "" }));
    }
    all.extend([
        ("group", key.group),
        ("resource", key.resource),
        ("scope", key.scope),
        ("subresource", key.subresource),
        ("verb", key.verb),
        ("version", key.version),
    ]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_ask() {
        let requests = Requests::default();
        let key = RequestKey {
            version: "v1",
            resource: "pods",
            scope: "namespace",
            verb: "LIST",
            ..RequestKey::default()
        };
        requests.answered(key, 200, 0.01, Some(5000));
        requests.answered(key, 200, 0.3, Some(50));
        requests.answered(key, 404, 0.001, None);
        let watch = RequestKey { verb: "WATCH", ..key };
        requests.answered(watch, 200, 99.0, None);
        requests.row(watch).events.fetch_add(3, Ordering::Relaxed);
        let mut page = Page::default();
        requests.write(&mut page);
        let text = page.finish();
        let common = r#"component="apiserver",dry_run="",group="",resource="pods",scope="namespace",subresource="""#;
        for line in [
            format!(r#"apiserver_request_total{{code="200",{common},verb="LIST",version="v1"}} 2"#),
            format!(r#"apiserver_request_total{{code="404",{common},verb="LIST",version="v1"}} 1"#),
            format!(r#"apiserver_request_duration_seconds_bucket{{{common},verb="LIST",version="v1",le="0.025"}} 2"#),
            format!(r#"apiserver_request_duration_seconds_count{{{common},verb="LIST",version="v1"}} 3"#),
            r#"apiserver_watch_events_total{group="",resource="pods",version="v1"} 3"#.to_string(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
        assert!(!text.contains(r#"duration_seconds_count{component="apiserver",dry_run="",group="",resource="pods",scope="namespace",subresource="",verb="WATCH""#));
    }
}
