//! Secrets of type `kubernetes.io/service-account-token`: each is given a token, the
//! CA and the namespace, and goes with its service account. Only this process has
//! the key that signs, so it is done here.
//! Source: <https://kubernetes.io/docs/concepts/security/service-accounts/#token-controller>.

use crate::handler::Change;
use crate::registry::{built_in, decode, deletion_timestamp, prefix_of, text_at};
use crate::server::ApiServer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use skiff_access::Objects;
use skiff_api::ApiError;
use std::sync::Arc;
use std::time::Duration;

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// How long after a failure to look again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a Secret needs.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    /// These members of `data` and this uid, once there is a token.
    Fill,
    /// Its service account is gone.
    Drop,
}

fn step(secret: &Value, account: Option<&Value>, ca: &str) -> Step {
    let named = secret["metadata"]["annotations"][NAME].as_str().unwrap_or("");
    if secret["type"] != TYPE || named.is_empty() || deletion_timestamp(secret).is_some() {
        return Step::Nothing;
    }
    let Some(account) = account else { return Step::Drop };
    let uid = text_at(account, &["metadata", "uid"]);
    match secret["metadata"]["annotations"][UID].as_str() {
        Some(other) if other != uid => return Step::Drop,
        Some(_) if is_full(secret, ca) => return Step::Nothing,
        _ => {}
    }
    Step::Fill
}

fn is_full(secret: &Value, ca: &str) -> bool {
    let has = |key: &str| !text_at(secret, &["data", key]).is_empty();
    has("token") && has("namespace") && text_at(secret, &["data", "ca.crt"]) == ca
}

/// The Secret with its token (kept if there is one), CA and namespace.
fn filled(
    secret: &Value,
    uid: &str,
    ca: &str,
    token: impl FnOnce() -> Result<String, ApiError>,
) -> Result<Value, ApiError> {
    let mut new = secret.clone();
    let namespace = STANDARD.encode(text_at(secret, &["metadata", "namespace"]));
    if text_at(secret, &["data", "token"]).is_empty() {
        new["data"]["token"] = STANDARD.encode(token()?).into();
    }
    if text_at(secret, &["data", "namespace"]).is_empty() {
        new["data"]["namespace"] = namespace.into();
    }
    new["data"]["ca.crt"] = ca.into();
    new["metadata"]["annotations"][UID] = uid.into();
    Ok(new)
}

impl ApiServer {
    /// Fills token Secrets as they come, and removes those of accounts that went.
    pub(crate) fn start_filling_tokens(self: &Arc<Self>) {
        let (Ok(secrets), Ok(accounts)) = (built_in("", "secrets"), built_in("", "serviceaccounts")) else {
            return;
        };
        let (server, closing) = (Arc::downgrade(self), self.closing.clone());
        tokio::spawn(async move {
            loop {
                let Some(this) = server.upgrade() else { return };
                let snapshot = this.store.snapshot();
                let watches =
                    [secrets, accounts].map(|kind| this.store.watch(prefix_of(kind, ""), snapshot.revision()));
                let mut fine = true;
                for entry in snapshot.range(&prefix_of(secrets, ""), None, 0).entries {
                    if let Ok(secret) = decode(&entry, entry.mod_revision()) {
                        fine &= this.look_after_token(&secret).await;
                    }
                }
                drop((this, snapshot));
                let changed = async {
                    let (true, [Ok(mut secrets), Ok(mut accounts)]) = (fine, watches) else {
                        return tokio::time::sleep(RETRY_AFTER).await;
                    };
                    loop {
                        let batch = tokio::select! {
                            batch = secrets.next() => batch,
                            batch = accounts.next() => match batch {
                                // An account that went takes its Secrets along: look at all.
                                Some(batch) if batch.events.iter().all(|event| event.entry.is_some()) => continue,
                                _ => return,
                            },
                        };
                        let (Some(batch), Some(this)) = (batch, server.upgrade()) else {
                            return;
                        };
                        for entry in batch.events.iter().filter_map(|event| event.entry.as_ref()) {
                            let Ok(secret) = decode(entry, entry.mod_revision()) else {
                                continue;
                            };
                            if !this.look_after_token(&secret).await {
                                return;
                            }
                        }
                    }
                };
                tokio::select! {
                    () = closing.cancelled() => return,
                    () = changed => {}
                }
            }
        });
    }

    /// Whether all went well; of several servers, whoever is later finds it done.
    async fn look_after_token(&self, secret: &Value) -> bool {
        if secret["type"] != TYPE {
            return true;
        }
        let Ok(kind) = built_in("", "secrets") else { return true };
        let (namespace, name) = (
            text_at(secret, &["metadata", "namespace"]),
            text_at(secret, &["metadata", "name"]),
        );
        let ca = STANDARD.encode(self.access.cluster_ca_pem());
        let written = self
            .modify(kind, namespace, name, false, |secret, objects| {
                let named = secret["metadata"]["annotations"][NAME].as_str().unwrap_or("");
                let account = objects.get("", "serviceaccounts", namespace, named);
                Ok(match (step(secret, account.as_deref(), &ca), &account) {
                    (Step::Fill, Some(account)) => {
                        let uid = text_at(account, &["metadata", "uid"]);
                        let token = || self.access.issue_legacy_token(namespace, name, named, uid);
                        Change::Write(filled(secret, uid, &ca, token)?)
                    }
                    (Step::Drop, _) => {
                        let (compare, ops) = self.companions(kind, Some(secret), None, objects)?;
                        Change::Remove(secret.clone(), compare, ops)
                    }
                    _ => Change::Keep,
                })
            })
            .await;
        match written {
            Err(error) if error.reason != "NotFound" => {
                tracing::warn!(namespace, name, %error, "could not fill a token Secret; trying again");
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_filled_once_and_go_with_their_account() {
        let secret = json!({"type": TYPE, "metadata": {"name": "s", "namespace": "dev", "annotations": {NAME: "bot"}}});
        let account = json!({"metadata": {"name": "bot", "uid": "u1"}});
        assert_eq!(step(&secret, Some(&account), "ca"), Step::Fill);
        let full = filled(&secret, "u1", "ca", || Ok("t".into())).unwrap();
        assert_eq!(
            full["data"],
            json!({"token": "dA==", "namespace": "ZGV2", "ca.crt": "ca"})
        );
        assert_eq!(full["metadata"]["annotations"][UID], "u1");
        assert_eq!(step(&full, Some(&account), "ca"), Step::Nothing);
        assert_eq!(step(&full, Some(&account), "other"), Step::Fill, "the CA was replaced");
        let again = filled(&full, "u1", "other", || panic!("it has a token")).unwrap();
        assert_eq!(again["data"]["token"], "dA==");
        assert_eq!(step(&full, None, "ca"), Step::Drop);
        let renewed = json!({"metadata": {"name": "bot", "uid": "u2"}});
        assert_eq!(step(&full, Some(&renewed), "ca"), Step::Drop);
        let unnamed = json!({"type": TYPE, "metadata": {"name": "s"}});
        assert_eq!(step(&unnamed, None, "ca"), Step::Nothing);
        assert_eq!(step(&json!({"type": "Opaque"}), None, "ca"), Step::Nothing);
    }
}
