//! `/metrics`: figures about the server under the names that dashboards and tests of
//! Kubernetes know. Counting is cheap; what can be asked for is read when it is asked.

mod flow;
mod process;
mod requests;

pub(crate) use requests::RequestKey;
pub(crate) use skiff_metrics::Family;

use crate::handler::Target;
use crate::registry::prefix_of;
use crate::request::RequestInfo;
use crate::server::ApiServer;
use requests::{Requests, Row};
use skiff_metrics::{Families, Page};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Default)]
pub(crate) struct Metrics {
    pub requests: Requests,
    /// Figures of other parts: admission, webhooks.
    pub families: Families,
    /// What health checks found; on a page of its own.
    pub checks: Families,
    /// Figures of components that run in this process.
    others: Mutex<Vec<Arc<Families>>>,
    readers: AtomicI64,
    writers: AtomicI64,
}

impl Metrics {
    /// A request that is being answered, until this is dropped.
    pub fn inflight(&self, writes: bool) -> Inflight<'_> {
        let gauge = if writes { &self.writers } else { &self.readers };
        gauge.fetch_add(1, Ordering::Relaxed);
        Inflight(gauge)
    }

    /// A watch that runs, until this is dropped.
    pub fn watching(&self, info: &RequestInfo, target: &Target) -> Watching {
        let row = self.requests.row(key(info, target, false, false));
        row.running.fetch_add(1, Ordering::Relaxed);
        Watching(row)
    }
}

/// What a request on a kind counts as.
pub(crate) fn key(info: &RequestInfo, target: &Target, applies: bool, dry_run: bool) -> RequestKey {
    let (verb, scope) = RequestKey::about(info, applies);
    RequestKey {
        group: target.kind.group,
        version: target.version,
        resource: target.kind.plural,
        subresource: target.sub_name(),
        scope,
        verb,
        dry_run,
    }
}

pub(crate) struct Inflight<'a>(&'a AtomicI64);

impl Drop for Inflight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) struct Watching(Arc<Row>);

impl Watching {
    /// An event was sent.
    pub fn sent(&self) {
        self.0.events.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ApiServer {
    /// Shows a component's figures on `/metrics` too, beside the server's own.
    pub fn show_metrics(&self, families: Arc<Families>) {
        let mut others = self.metrics.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.push(families);
    }

    /// `/metrics/slis`: what health checks found when they were asked.
    pub(crate) fn checks_page(&self) -> String {
        let mut page = Page::default();
        self.metrics.checks.write(&mut page);
        page.finish()
    }

    /// The page.
    pub(crate) fn metrics_page(&self) -> String {
        let mut page = Page::default();
        let unavailable: Vec<(String, u8)> = self
            .aggregation
            .routes()
            .iter()
            .map(|r| (r.name.clone(), u8::from(!r.state.load().available)))
            .collect();
        page.samples(
            "aggregator_unavailable_apiservice",
            "gauge",
            "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.",
            unavailable
                .iter()
                .map(|(name, down)| (vec![("name", name.as_str())], *down)),
        );
        page.samples(
            "apiserver_current_inflight_requests",
            "gauge",
            "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
            [("mutating", &self.metrics.writers), ("readOnly", &self.metrics.readers)]
                .into_iter()
                .map(|(kind, gauge)| (vec![("request_kind", kind)], gauge.load(Ordering::Relaxed))),
        );
        self.flow.write_metrics(&mut page);
        self.metrics.requests.write(&mut page);
        self.write_objects(&mut page);
        self.metrics.families.write(&mut page);
        let others = self.metrics.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.iter().for_each(|families| families.write(&mut page));
        drop(others);
        page.samples(
            "kubernetes_build_info",
            "gauge",
            "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
            std::iter::once((
                vec![("compiler", "rustc"), ("git_version", crate::documents::GIT_VERSION), ("major", "1"), ("minor", "36")],
                1,
            )),
        );
        process::write(&mut page);
        page.finish()
    }

    /// How many objects there are of each kind.
    fn write_objects(&self, page: &mut Page) {
        let catalog = self.catalog();
        let snapshot = self.store.snapshot();
        let mut counts: Vec<(&str, &str, usize)> = catalog
            .kinds()
            .iter()
            .filter(|kind| kind.verbs.contains(&"list") && kind.storage == (kind.group, kind.plural))
            .map(|kind| (kind.group, kind.plural, snapshot.count(&prefix_of(kind, ""))))
            .collect();
        counts.sort_unstable();
        page.samples(
            "apiserver_resource_objects",
            "gauge",
            "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
            counts.iter().map(|(group, plural, count)| (vec![("group", *group), ("resource", *plural)], *count)),
        );
        let qualified: Vec<(String, usize)> = counts
            .iter()
            .map(|(group, plural, count)| match *group {
                "" => ((*plural).to_string(), *count),
                group => (format!("{plural}.{group}"), *count),
            })
            .collect();
        page.samples(
            "apiserver_storage_objects",
            "gauge",
            "[STABLE] Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.",
            qualified.iter().map(|(resource, count)| (vec![("resource", resource.as_str())], *count)),
        );
    }
}
