//! containerd's exit events, turned into wake-ups.
//!
//! Debian's containerd 1.6 has no CRI event stream, so this listens to its native
//! one. An event only says "look at this container": the CRI status is the truth.

use super::Runtime;
use containerd_client::events::{TaskExit, TaskOom};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// The main process of a container (or of a sandbox) has ended.
    Exited {
        container_id: String,
    },
    OutOfMemory {
        container_id: String,
    },
    /// The stream was broken: anything may have happened meanwhile.
    Resync,
}

const FILTERS: [&str; 2] = [
    "namespace==k8s.io,topic==\"/tasks/exit\"",
    "namespace==k8s.io,topic==\"/tasks/oom\"",
];
const RECONNECT: Duration = Duration::from_millis(200);

/// Follows the stream until shutdown; reconnects when containerd comes back. `broken`
/// is told of each end of the stream: containerd has most likely died.
pub async fn follow(
    runtime: Runtime,
    events: mpsc::Sender<RuntimeEvent>,
    broken: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut first = true;
    loop {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = subscribe(&runtime, &events, first) => outcome,
        };
        first = false;
        broken.notify_one();
        tracing::warn!(?outcome, "containerd's event stream ended; following it again");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }
}

async fn subscribe(
    runtime: &Runtime,
    events: &mpsc::Sender<RuntimeEvent>,
    first: bool,
) -> Result<(), Box<tonic::Status>> {
    let request = SubscribeRequest {
        filters: FILTERS.map(str::to_owned).to_vec(),
    };
    let mut stream = EventsClient::new(runtime.channel())
        .subscribe(request)
        .await?
        .into_inner();
    if !first && events.send(RuntimeEvent::Resync).await.is_err() {
        return Ok(());
    }
    while let Some(envelope) = stream.message().await? {
        let Some(event) = envelope.event.and_then(|any| decode(&envelope.topic, &any.value)) else {
            continue;
        };
        if events.send(event).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn decode(topic: &str, value: &[u8]) -> Option<RuntimeEvent> {
    match topic {
        "/tasks/exit" => {
            let exit = TaskExit::decode(value).ok()?;
            // An exec's exit carries the exec's id.
            (exit.id == exit.container_id).then_some(RuntimeEvent::Exited {
                container_id: exit.container_id,
            })
        }
        "/tasks/oom" => Some(RuntimeEvent::OutOfMemory {
            container_id: TaskOom::decode(value).ok()?.container_id,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_that_ends_is_not_a_container_that_ends() {
        let exit = |id: &str| {
            TaskExit {
                container_id: "c".into(),
                id: id.into(),
                ..Default::default()
            }
            .encode_to_vec()
        };
        assert_eq!(
            decode("/tasks/exit", &exit("c")),
            Some(RuntimeEvent::Exited {
                container_id: "c".into()
            })
        );
        assert_eq!(decode("/tasks/exit", &exit("exec-1")), None);
        assert_eq!(decode("/tasks/exit", &[0xff]), None);
    }
}
