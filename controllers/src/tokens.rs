//! Deletes bootstrap tokens when they expire.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::Key;
use crate::queue::Queue;
use crate::worker::work;

/// When the token stops being valid; none where it never does. A time that cannot be read is past: a token
/// of unknown age must not live for ever. Pure.
fn expires(secret: &Secret) -> Option<Timestamp> {
    let raw = secret.data.as_ref()?.get("expiration")?;
    let text = std::str::from_utf8(&raw.0).ok()?;
    Some(text.trim().parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("token_cleaner"));
    let tokens = context.shared.bootstrap_tokens.clone();
    tokens.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(secret) = change.new {
                queue.add(Key::of(&secret.metadata));
            }
        }
    });
    tasks.spawn(async move {
        tokens.synced().await;
        let reconcile = |key: Key| {
            let (context, queue) = (context.clone(), queue.clone());
            async move { reconcile(&context, &queue, key).await }
        };
        work(context.name, queue.clone(), 1, context.shutdown.clone(), reconcile).await;
    });
}

async fn reconcile(context: &Context, queue: &Queue<Key>, key: Key) -> Result<(), Error> {
    let Some(secret) = context.shared.bootstrap_tokens.get(&key) else {
        return Ok(());
    };
    let Some(expires) = expires(&secret) else { return Ok(()) };
    let now = Timestamp::now();
    if expires > now {
        queue.add_after(key, expires.duration_since(now).unsigned_abs());
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &key.namespace);
    let parameters = DeleteParams::default().preconditions(Preconditions {
        uid: secret.metadata.uid.clone(),
        resource_version: secret.metadata.resource_version.clone(),
    });
    gone_is_fine(
        api.delete(&key.name, &parameters)
            .await
            .doing(|| format!("delete expired token {key}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn expiry() {
        let secret = |text: Option<&str>| Secret {
            data: text.map(|text| [("expiration".to_string(), ByteString(text.as_bytes().to_vec()))].into()),
            ..Default::default()
        };
        assert_eq!(expires(&secret(None)), None);
        assert_eq!(
            expires(&secret(Some("1970-01-01T00:01:00Z"))).map(|at| at.as_second()),
            Some(60)
        );
        assert_eq!(expires(&secret(Some("soon"))), Some(Timestamp::UNIX_EPOCH));
    }
}
