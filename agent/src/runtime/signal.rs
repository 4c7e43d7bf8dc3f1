//! The signal that tells a container to end, where it is not its image's own. CRI of our containerd has no
//! word for it (`stop_signal` came with CRI 0.34), so the process is signalled through containerd's own API.

use super::Runtime;
use crate::error::Error;
use containerd_client::services::v1::KillRequest;
use containerd_client::services::v1::tasks_client::TasksClient;
use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::Signal;

/// Linux's numbers of the first and the last real-time signal, as C libraries leave them to programs.
const REALTIME_FIRST: u32 = 34;
const REALTIME_LAST: u32 = 64;

/// The number of a signal as pods name it: `SIGUSR1`, `SIGRTMIN+3`, `SIGRTMAX-2`. Pure.
pub fn number(name: &str) -> Option<u32> {
    if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        let number = REALTIME_FIRST + offset(rest, '+')?;
        return (number <= REALTIME_LAST).then_some(number);
    }
    if let Some(rest) = name.strip_prefix("SIGRTMAX") {
        let number = REALTIME_LAST.checked_sub(offset(rest, '-')?)?;
        return (number >= REALTIME_FIRST).then_some(number);
    }
    let name = match name {
        "SIGCLD" => "SIGCHLD",
        "SIGIOT" => "SIGABRT",
        "SIGPOLL" => "SIGIO",
        other => other,
    };
    let signal: Signal = name.parse().ok()?;
    u32::try_from(signal as i32).ok()
}

/// The signal that the container's description asks for. Pure.
pub fn of(container: &Container) -> Option<u32> {
    number(container.lifecycle.as_ref()?.stop_signal.as_deref()?)
}

fn offset(rest: &str, sign: char) -> Option<u32> {
    if rest.is_empty() {
        return Some(0);
    }
    rest.strip_prefix(sign)?.parse().ok()
}

impl Runtime {
    /// Signals the container's first process; one that has ended needs none.
    pub async fn signal(&self, id: &str, signal: u32) -> Result<(), Error> {
        let request = KillRequest {
            container_id: id.to_owned(),
            signal,
            ..Default::default()
        };
        match TasksClient::new(self.channel()).kill(self.native(request)).await {
            Err(status) if status.code() != tonic::Code::NotFound => Err(Error::runtime("signal a container")(status)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, expected) in [
            ("SIGTERM", Some(15)),
            ("SIGKILL", Some(9)),
            ("SIGUSR1", Some(10)),
            ("SIGCLD", Some(17)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+15", Some(49)),
            ("SIGRTMAX-14", Some(50)),
            ("SIGRTMAX", Some(64)),
            ("SIGRTMIN+31", None),
            ("SIGRTMAX-31", None),
            ("SIGRTMIN-1", None),
            ("TERM", None),
            ("", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
