//! `/healthz`, `/livez`, `/readyz`: all checks at once or one by one, in upstream's words.

use crate::body::ApiBody;
use crate::handler::ServerCall;
use crate::metrics::Family;
use crate::respond;
use crate::server::ApiServer;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use skiff_api::ApiError;
use std::fmt::Write;

/// What is done before the server listens, and what must hold while it serves.
const LIVE: [&str; 7] = [
    "ping",
    "log",
    "etcd",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/apiservice-registration-controller",
    "autoregister-completion",
];
/// And what says whether clients should come.
const READY: [&str; 3] = ["etcd-readiness", "informer-sync", "shutdown"];

static CHECK: Family = Family {
    name: "kubernetes_healthcheck",
    help: "[STABLE] This metric records the result of a single healthcheck.",
    labels: &["name", "type"],
    buckets: &[],
};
static CHECKS: Family = Family {
    name: "kubernetes_healthchecks_total",
    help: "[STABLE] This metric records the results of all healthcheck.",
    labels: &["name", "status", "type"],
    buckets: &[],
};

/// `(base, single check)` of a health path.
pub(super) fn path(path: &str) -> Option<(&str, &str)> {
    ["/healthz", "/livez", "/readyz"].into_iter().find_map(|base| {
        let rest = path.strip_prefix(base)?;
        if rest.is_empty() {
            Some((base, ""))
        } else {
            rest.strip_prefix('/').map(|check| (base, check))
        }
    })
}

impl ApiServer {
    pub(super) async fn health(
        &self,
        call: &ServerCall,
        base: &str,
        single: &str,
    ) -> Result<Response<ApiBody>, ApiError> {
        let ready: &[&str] = if base == "/readyz" { &READY } else { &[] };
        let checks: Vec<&str> = LIVE.iter().chain(ready).copied().collect();
        if !single.is_empty() {
            let Some(single) = checks.into_iter().find(|check| *check == single) else {
                return Ok(respond::page_not_found());
            };
            return if self.asked(base, single).await {
                text(200, "ok".into())
            } else {
                text(500, "internal server error: reason withheld\n".into())
            };
        }
        let excluded = &call.options.exclude;
        let mut body = String::new();
        let mut failed = Vec::new();
        for check in &checks {
            let _ = if excluded.iter().any(|e| e == check) {
                writeln!(body, "[+]{check} excluded: ok")
            } else if self.asked(base, check).await {
                writeln!(body, "[+]{check} ok")
            } else {
                failed.push(*check);
                writeln!(body, "[-]{check} failed: reason withheld")
            };
        }
        let unknown: Vec<String> = excluded
            .iter()
            .filter(|e| !checks.contains(&e.as_str()))
            .map(|e| format!("{e:?}"))
            .collect();
        if !unknown.is_empty() {
            let _ = writeln!(
                body,
                "warn: some health checks cannot be excluded: no matches for {}",
                unknown.join(",")
            );
        }
        let name = base.trim_start_matches('/');
        if !failed.is_empty() {
            tracing::warn!(?failed, "{name} check failed");
            let _ = writeln!(body, "{name} check failed");
            return text(500, body);
        }
        if !call.options.verbose {
            return text(200, "ok".into());
        }
        let _ = writeln!(body, "{name} check passed");
        text(200, body)
    }

    /// Asks a check, and counts what it says for `/metrics/slis`.
    async fn asked(&self, base: &str, check: &'static str) -> bool {
        let well = self.is_well(check).await;
        let kind = base.trim_start_matches('/');
        let checks = &self.metrics.checks;
        checks.set(&CHECK, &[check, kind], i64::from(well));
        checks.count(&CHECKS, &[check, if well { "success" } else { "error" }, kind]);
        well
    }

    /// Nothing is served before the hooks are done, so those are well.
    async fn is_well(&self, check: &str) -> bool {
        match check {
            "shutdown" => !self.closing.is_cancelled(),
            "etcd" | "etcd-readiness" => self.store.snapshot_linearizable().await.is_ok(),
            _ => true,
        }
    }
}

fn text(code: u16, body: String) -> Result<Response<ApiBody>, ApiError> {
    let mut response = respond::bytes(code, "text/plain; charset=utf-8", Bytes::from(body), &[], false)?;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
