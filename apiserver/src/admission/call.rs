//! One webhook asked about one object, and how its failures count.

use super::hooks::Called;
use crate::metrics::Family;
use crate::registry::StoreObjects;
use crate::server::ApiServer;
use skiff_admission::{
    FailurePolicy, Form, Objects, Request, Verdict, dry_run_unsupported, operation_name, read_answer, review,
};
use skiff_api::ApiError;
use std::time::{Duration, Instant};

/// Longest answer that is read. A patch may replace a whole object (3 MiB), in
/// base64 and as JSON in JSON.
const ANSWER_BYTES_MAX: usize = 16 << 20;

static DURATION: Family = Family {
    name: "apiserver_admission_webhook_admission_duration_seconds",
    help: "How long webhooks took, by name, operation and whether they refused.",
    labels: &["name", "operation", "rejected", "type"],
    buckets: &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0],
};
static REQUESTS: Family = Family {
    name: "apiserver_admission_webhook_request_total",
    help: "Requests to webhooks, by name, operation and what came of them.",
    labels: &["code", "name", "operation", "rejected", "type"],
    buckets: &[],
};
static REJECTIONS: Family = Family {
    name: "apiserver_admission_webhook_rejection_count",
    help: "Requests refused by a webhook, or because it could not be asked.",
    labels: &["error_type", "name", "operation", "rejection_code", "type"],
    buckets: &[],
};
static FAILED_OPEN: Family = Family {
    name: "apiserver_admission_webhook_fail_open_count",
    help: "Webhooks that could not be asked and were ignored.",
    labels: &["name", "type"],
    buckets: &[],
};

impl ApiServer {
    /// What the webhook says; `None`: it could not be asked, and that is to be ignored.
    pub(super) async fn ask(
        &self,
        called: &Called,
        request: &Request<'_>,
        form: &Form<'_>,
        shown: Objects<'_>,
        cluster: &StoreObjects<'_>,
        mutating: bool,
    ) -> Result<Option<Verdict>, ApiError> {
        let hook = &called.hook;
        if request.dry_run && !hook.dry_run_safe {
            return Err(dry_run_unsupported(&hook.name));
        }
        let started = Instant::now();
        let outcome = self.call(called, request, form, shown, cluster, mutating).await;
        self.count(called, request, mutating, started.elapsed(), &outcome);
        match outcome {
            Ok(verdict) => {
                for (key, value) in &verdict.audit_annotations {
                    tracing::info!(key, value, "audit annotation of a webhook");
                }
                Ok(Some(verdict))
            }
            Err(why) => failed(called, &why).map(|()| None),
        }
    }

    fn count(
        &self,
        called: &Called,
        request: &Request<'_>,
        mutating: bool,
        took: Duration,
        outcome: &Result<Verdict, String>,
    ) {
        let (name, operation) = (called.hook.name.as_str(), operation_name(request.operation));
        let kind = if mutating { "admit" } else { "validating" };
        let fails_closed = called.hook.failure_policy == FailurePolicy::Fail;
        let (code, refused, error) = match outcome {
            Ok(Verdict { denied: None, .. }) => ("200".to_string(), false, "no_error"),
            Ok(Verdict {
                denied: Some(error), ..
            }) => (error.code.to_string(), true, "no_error"),
            Err(_) => ("503".to_string(), fails_closed, "calling_webhook_error"),
        };
        let rejected = if refused { "true" } else { "false" };
        let families = &self.metrics.families;
        families.observe(&DURATION, &[name, operation, rejected, kind], took.as_secs_f64());
        families.count(&REQUESTS, &[&code, name, operation, rejected, kind]);
        if refused {
            families.count(&REJECTIONS, &[error, name, operation, &code, kind]);
        } else if outcome.is_err() {
            families.count(&FAILED_OPEN, &[name, kind]);
        }
    }

    async fn call(
        &self,
        called: &Called,
        request: &Request<'_>,
        form: &Form<'_>,
        shown: Objects<'_>,
        cluster: &StoreObjects<'_>,
        mutating: bool,
    ) -> Result<Verdict, String> {
        let hook = &called.hook;
        let version = hook.review_version.ok_or(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)",
        )?;
        let target = called
            .target
            .as_ref()
            .map_err(|why| format!("could not get REST client: {why}"))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let body = review(version, &uid, request, form, shown).to_string();
        let timeout = Duration::from_secs(hook.timeout_seconds);
        let answer = self
            .dynamic
            .client
            .post(target, cluster, body, timeout, ANSWER_BYTES_MAX)
            .await
            .map_err(|why| format!("failed to call webhook: {why}"))?;
        read_answer(hook, version, &uid, mutating, &answer)
    }
}

/// The failure policy's say about a webhook that could not be asked.
pub(super) fn failed(called: &Called, why: &str) -> Result<(), ApiError> {
    let name = &called.hook.name;
    match called.hook.failure_policy {
        FailurePolicy::Ignore => {
            tracing::warn!(
                webhook = name,
                why,
                "an admission webhook failed and is ignored, as it asks"
            );
            Ok(())
        }
        FailurePolicy::Fail => Err(ApiError::internal(format!("failed calling webhook {name:?}: {why}"))),
    }
}
