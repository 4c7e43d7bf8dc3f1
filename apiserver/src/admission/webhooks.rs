//! The chains of webhooks: mutating ones in turn, each seeing what those before
//! it made, and once more where that is asked for; validating ones all at once.

use super::Asked;
use super::hooks::Called;
use super::policies::Asking;
use crate::registry::StoreObjects;
use crate::server::ApiServer;
use serde_json::Value;
use skiff_access::Admitted;
use skiff_admission::{Form, Objects, Request};
use skiff_api::{ApiError, patch};
use std::collections::BTreeSet;

/// Which webhooks (or policies) are to be asked again, as upstream keeps it.
#[derive(Default)]
pub(super) struct Rounds {
    /// This is the second round.
    pub again: bool,
    /// Something changed the object: a second round is due.
    pub wanted: bool,
    /// Those that want to be asked again and that nothing has changed the object after.
    settled: BTreeSet<String>,
    unsettled: BTreeSet<String>,
    /// What the first round left.
    left: Option<Value>,
}

impl Rounds {
    /// A round begins: what others did in between counts as a change too.
    pub fn begin(&mut self, object: &Value) {
        if self.again && self.left.as_ref().is_some_and(|left| left != object) {
            self.unsettled.append(&mut self.settled);
        }
    }

    pub fn end(&mut self, object: &Value) {
        self.left = Some(object.clone());
    }

    /// Something changed the object: all that were asked before would see another one.
    pub fn changed(&mut self) {
        self.unsettled.append(&mut self.settled);
        self.wanted = true;
    }

    /// Whether this one takes part in this round.
    pub fn includes(&self, id: &str) -> bool {
        !self.again || self.unsettled.contains(id)
    }

    pub fn asked(&mut self, id: &str, reinvoked: bool) {
        if reinvoked {
            self.settled.insert(id.to_string());
        }
    }
}

impl ApiServer {
    pub(super) async fn mutate_by_webhooks(
        &self,
        hooks: &[Called],
        asked: &Asked<'_>,
        request: &Request<'_>,
        object: &mut Value,
        old: Option<&Value>,
        cluster: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
        rounds: &mut Rounds,
    ) -> Admitted {
        rounds.begin(object);
        let old = old.unwrap_or(&Value::Null);
        for called in hooks {
            let hook = &called.hook;
            let Some(form) = hook.constraints.meets(request, Objects { object, old }, cluster)? else {
                continue;
            };
            let seen = self.shown_as(asked, &form, object, &cluster.catalog).await?;
            let seen_old = self.shown_as(asked, &form, old, &cluster.catalog).await?;
            let shown = Objects {
                object: &seen,
                old: &seen_old,
            };
            if !self.conditions_hold(called, request, &form, shown, cluster)? || !rounds.includes(&hook.id) {
                continue;
            }
            let verdict = self.ask(called, request, &form, shown, cluster, true).await?;
            let Some(verdict) = verdict else {
                rounds.asked(&hook.id, hook.reinvoked);
                continue;
            };
            warnings.extend(verdict.warnings);
            if let Some(denied) = verdict.denied {
                return Err(denied);
            }
            if let Some(patch) = verdict.patch
                && let Some(new) = patched(called, &seen, &patch)?
            {
                let kept = object["apiVersion"].as_str().unwrap_or("");
                let new = self
                    .taken_from(asked, &form, new, kept, &cluster.catalog)
                    .await
                    .map_err(|error| ApiError::internal(error.message))?;
                if new != *object {
                    *object = new;
                    rounds.changed();
                }
            }
            rounds.asked(&hook.id, hook.reinvoked);
        }
        rounds.end(object);
        Ok(())
    }

    pub(super) async fn validate_by_webhooks(
        &self,
        hooks: &[Called],
        asked: &Asked<'_>,
        request: &Request<'_>,
        objects: Objects<'_>,
        cluster: &StoreObjects<'_>,
        warnings: &mut Vec<String>,
    ) -> Admitted {
        let mut seen: Vec<(Form<'_>, Value, Value)> = Vec::new();
        let mut met = Vec::new();
        for called in hooks {
            let Some(form) = called.hook.constraints.meets(request, objects, cluster)? else {
                continue;
            };
            let at = match seen.iter().position(|(f, _, _)| *f == form) {
                Some(at) => at,
                None => {
                    let object = self.shown_as(asked, &form, objects.object, &cluster.catalog).await?;
                    let old = self.shown_as(asked, &form, objects.old, &cluster.catalog).await?;
                    seen.push((form, object, old));
                    seen.len() - 1
                }
            };
            let (_, object, old) = &seen[at];
            if self.conditions_hold(called, request, &form, Objects { object, old }, cluster)? {
                met.push((called, at));
            }
        }
        let asking = met.iter().map(|(called, at)| {
            let (form, object, old) = &seen[*at];
            self.ask(called, request, form, Objects { object, old }, cluster, false)
        });
        let mut refused = None;
        for answer in futures::future::join_all(asking).await {
            match answer {
                Ok(Some(verdict)) => {
                    warnings.extend(verdict.warnings);
                    refused = refused.or(verdict.denied);
                }
                Ok(None) => {}
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Whether the webhook's match conditions let it be asked.
    fn conditions_hold(
        &self,
        called: &Called,
        request: &Request<'_>,
        form: &Form<'_>,
        shown: Objects<'_>,
        cluster: &StoreObjects<'_>,
    ) -> Result<bool, ApiError> {
        let authorizer = Asking {
            server: self,
            user: request.user,
            cluster,
        };
        called.hook.conditions_hold(request, form, shown, &authorizer)
    }
}

/// The object with a webhook's patch; `None`: the patch is empty.
fn patched(called: &Called, seen: &Value, bytes: &[u8]) -> Result<Option<Value>, ApiError> {
    match serde_json::from_slice::<Vec<Value>>(bytes) {
        Ok(operations) if operations.is_empty() => return Ok(None),
        Ok(_) => {}
        Err(error) => {
            let why = format!("received undecodable patch in webhook response: {error}");
            super::call::failed(called, &why)?;
            return Ok(None);
        }
    }
    if seen.is_null() {
        let name = &called.hook.name;
        return Err(ApiError::internal(format!(
            "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
        )));
    }
    let mut new = seen.clone();
    patch::json_patch(&mut new, bytes).map_err(|error| ApiError::internal(cause(&error)))?;
    Ok(Some(new))
}

/// Why a patch could not be applied.
fn cause(error: &ApiError) -> &str {
    let causes = error.details.as_ref().map(|details| &details["causes"][0]["message"]);
    causes.and_then(Value::as_str).unwrap_or(&error.message)
}
