//! `/healthz`, `/livez`, `/readyz`: all checks at once or one by one, in upstream's words.

use crate::body::ApiBody;
use crate::handler::ServerCall;
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
            if !checks.contains(&single) {
                return Ok(respond::page_not_found());
            }
            return if self.is_well(single).await {
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
            } else if self.is_well(check).await {
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
