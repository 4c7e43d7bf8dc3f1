//! One webhook asked about one object, and how its failures count.

use super::hooks::Called;
use crate::registry::StoreObjects;
use crate::server::ApiServer;
use skiff_admission::{FailurePolicy, Form, Objects, Request, Verdict, dry_run_unsupported, read_answer, review};
use skiff_api::ApiError;
use std::time::Duration;

/// Longest answer that is read. A patch may replace a whole object (3 MiB), in
/// base64 and as JSON in JSON.
const ANSWER_BYTES_MAX: usize = 16 << 20;

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
        match self.call(called, request, form, shown, cluster, mutating).await {
            Ok(verdict) => {
                for (key, value) in &verdict.audit_annotations {
                    tracing::info!(key, value, "audit annotation of a webhook");
                }
                Ok(Some(verdict))
            }
            Err(why) => failed(called, &why).map(|()| None),
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
