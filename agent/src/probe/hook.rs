//! Lifecycle hooks: what runs just after a container began and before it ends.

use super::dial::Deadline;
use super::{Place, http, tls};
use crate::pod::node::Shared;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use std::time::Duration;

/// A hook that runs longer than that is given up (preStop is cut by its grace before).
const HOOK_MAX: Duration = Duration::from_secs(600);
const USER_AGENT: &str = "kube-lifecycle/1.36";

/// Its time is the caller's to limit. The error is what the container's status tells.
pub async fn run(
    shared: &Shared,
    hook: &LifecycleHandler,
    container: &Container,
    pod: &str,
    place: &Place<'_>,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        let told = |error: String, output: &[u8]| {
            let output = String::from_utf8_lossy(output);
            format!(
                "Exec lifecycle hook ([{shown}]) for Container {:?} in Pod {pod:?} failed - error: {error}, message: {output:?}",
                container.name
            )
        };
        return match shared.runtime.exec(place.container_id, &command, HOOK_MAX).await {
            Ok((0, _)) => Ok(()),
            Ok((code, output)) => Err(told(format!("command '{shown}' exited with {code}: "), &output)),
            Err(error) => Err(told(error.rpc(), &[])),
        };
    }
    if let Some(get) = &hook.http_get {
        let told = |error: String| {
            format!(
                "HTTP lifecycle hook ({}) for Container {:?} in Pod {pod:?} failed - error: {error}, message: \"\"",
                get.path.as_deref().unwrap_or_default(),
                container.name
            )
        };
        let host = place.host(get.host.as_deref());
        let port = super::port(&get.port, container).map_err(told)?;
        let mut url = http::Url::new(get.scheme.as_deref(), host, port, get.path.as_deref());
        let headers = get.http_headers.as_deref().unwrap_or_default();
        let deadline = Deadline::now() + HOOK_MAX;
        // Whatever the answer is, it was heard.
        return match http::get(&url, headers, USER_AGENT, deadline).await {
            Err(error) if url.https && error.ends_with(tls::NOT_TLS) => {
                url.https = false;
                http::get(&url, headers, USER_AGENT, deadline)
                    .await
                    .map(drop)
                    .map_err(told)
            }
            other => other.map(drop).map_err(told),
        };
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err(format!("Cannot run handler: invalid handler: {hook:?}"))
}
