//! Probes and lifecycle hooks: one task per probe of a running container, which
//! reports only failures, warnings and changes.

mod dial;
mod grpc;
pub mod hook;
mod http;
mod tls;

use crate::error::Error;
use crate::pod::node::Shared;
use k8s_openapi::api::core::v1::{Container, ContainerPort, ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

pub const USER_AGENT: &str = "kube-probe/1.36";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Counts results against the thresholds. Pure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    run: i32,
    last: Option<bool>,
    reported: Option<bool>,
}

impl Counter {
    /// The new verdict when it has just changed.
    pub fn count(&mut self, ok: bool, success_threshold: i32, failure_threshold: i32) -> Option<bool> {
        self.run = if self.last == Some(ok) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(ok);
        let threshold = if ok { success_threshold } else { failure_threshold };
        if self.run < threshold || self.reported == Some(ok) {
            return None;
        }
        self.reported = Some(ok);
        Some(ok)
    }
}

/// Where a container is reached.
pub struct Place<'a> {
    pub container_id: &'a str,
    pub ips: &'a [String],
}

impl Place<'_> {
    fn host<'a>(&'a self, given: Option<&'a str>) -> &'a str {
        let own = self.ips.first().map_or("127.0.0.1", String::as_str);
        given.filter(|h| !h.is_empty()).unwrap_or(own)
    }
}

/// What one probing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// A success with something to tell.
    Warning(String),
    Failure(String),
    /// The probe itself did not work; it counts neither way.
    Unknown(String),
}

pub struct Target {
    pub shared: Arc<Shared>,
    pub container: Container,
    /// As it is counted.
    pub counted: crate::stats::own::Probe,
    pub container_id: String,
    pub ips: Vec<String>,
    /// How long the container has been running.
    pub age: Duration,
    /// At most so long is waited before the first try, by chance.
    pub spread: Duration,
}

/// An event: reason and message.
pub type Note = (&'static str, String);
/// Each change of verdict, and each failure's or warning's event.
pub type Told = (Option<bool>, Option<Note>);

/// The event that an outcome deserves.
fn note(kind: Kind, outcome: &Outcome) -> Option<Note> {
    let kind = kind.name();
    match outcome {
        Outcome::Success => None,
        Outcome::Warning(text) => Some(("ProbeWarning", format!("{kind} probe warning: {text}"))),
        Outcome::Failure(text) => Some(("Unhealthy", format!("{kind} probe failed: {text}"))),
        Outcome::Unknown(text) => Some((
            "Unhealthy",
            format!("{kind} probe errored and resulted in unknown state: {text}"),
        )),
    }
}

/// Runs until it is aborted; a startup probe ends with its first verdict.
pub async fn run<F: Future<Output = ()> + Send>(
    target: Target,
    kind: Kind,
    probe: Probe,
    told: impl Fn(Told) -> F + Send,
) {
    /// How often a probe that does not work is tried before that is told.
    const TRIES: usize = 3;
    let seconds = |value: Option<i32>, default: u64| value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default);
    let period = Duration::from_secs(seconds(probe.period_seconds, 10).max(1));
    let timeout = Duration::from_secs(seconds(probe.timeout_seconds, 1).max(1));
    let mut counter = Counter::default();
    let delay = Duration::from_secs(seconds(probe.initial_delay_seconds, 0)).saturating_sub(target.age);
    let spread = target.spread.min(period).mul_f64(rand::random::<f64>());
    tokio::time::sleep(delay + spread).await;
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let begun = std::time::Instant::now();
        // Boxed: what one try needs is not to be held from one period to the next.
        let mut outcome = Box::pin(once(&target, &probe, timeout)).await;
        for _ in 1..TRIES {
            if !matches!(outcome, Outcome::Unknown(_)) {
                break;
            }
            outcome = Box::pin(once(&target, &probe, timeout)).await;
        }
        let ok = matches!(outcome, Outcome::Success | Outcome::Warning(_));
        crate::stats::own::probed(&target.counted, begun.elapsed(), ok);
        let verdict = if matches!(outcome, Outcome::Unknown(_)) {
            None
        } else {
            let success = probe.success_threshold.unwrap_or(1);
            counter.count(ok, success, probe.failure_threshold.unwrap_or(3))
        };
        let note = note(kind, &outcome);
        if verdict.is_some() || note.is_some() {
            told((verdict, note)).await;
        }
        if kind == Kind::Startup && verdict.is_some() {
            return;
        }
    }
}

async fn once(target: &Target, probe: &Probe, timeout: Duration) -> Outcome {
    let container = &target.container;
    let place = Place {
        container_id: &target.container_id,
        ips: &target.ips,
    };
    if let Some(exec) = &probe.exec {
        return run_command(&target.shared, place.container_id, exec, timeout).await;
    }
    if let Some(get) = &probe.http_get {
        return http_get(get, container, &place, timeout).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let number = match port(&tcp.port, container) {
            Ok(number) => number,
            Err(error) => return Outcome::Unknown(error),
        };
        let opened = dial::tcp(place.host(tcp.host.as_deref()), number, Instant::now() + timeout).await;
        return opened.map_or_else(Outcome::Failure, |_| Outcome::Success);
    }
    match &probe.grpc {
        Some(grpc) => {
            let number = u16::try_from(grpc.port).unwrap_or(0);
            let service = grpc.service.as_deref().unwrap_or_default();
            grpc::check(place.host(None), number, service, timeout).await
        }
        None => Outcome::Success,
    }
}

async fn run_command(shared: &Shared, id: &str, exec: &ExecAction, timeout: Duration) -> Outcome {
    /// kubelet shows no more.
    const OUTPUT_BYTES_MAX: usize = 10 << 10;
    let command = exec.command.clone().unwrap_or_default();
    match shared.runtime.exec(id, &command, timeout).await {
        Ok((0, _)) => Outcome::Success,
        Ok((_, output)) => {
            let shown = &output[..output.len().min(OUTPUT_BYTES_MAX)];
            Outcome::Failure(String::from_utf8_lossy(shown).into_owned())
        }
        Err(Error::Runtime { source, .. }) if source.code() == tonic::Code::DeadlineExceeded => {
            Outcome::Failure(format!("command {:?} timed out", command.join(" ")))
        }
        Err(error) => Outcome::Unknown(error.rpc()),
    }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let named = |name: &str| {
        let ports: &[ContainerPort] = container.ports.as_deref().unwrap_or_default();
        ports
            .iter()
            .find(|p| p.name.as_deref() == Some(name))
            .map(|p| p.container_port)
    };
    let (number, shown) = match port {
        IntOrString::Int(number) => (Some(*number), number.to_string()),
        IntOrString::String(text) => (named(text).or_else(|| text.parse().ok()), text.clone()),
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("invalid port number: {shown}"))
}

async fn http_get(get: &HTTPGetAction, container: &Container, place: &Place<'_>, timeout: Duration) -> Outcome {
    let number = match port(&get.port, container) {
        Ok(number) => number,
        Err(error) => return Outcome::Unknown(error),
    };
    let host = place.host(get.host.as_deref());
    let url = http::Url::new(get.scheme.as_deref(), host, number, get.path.as_deref());
    let headers = get.http_headers.as_deref().unwrap_or_default();
    judge(http::get(&url, headers, USER_AGENT, Instant::now() + timeout).await)
}

fn judge(answer: Result<http::Answer, String>) -> Outcome {
    match answer {
        Ok(answer) => match answer.status {
            200..300 => Outcome::Success,
            300..400 => Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body)),
            code => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
        },
        Err(error) => Outcome::Failure(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_their_events() {
        let answer = |status: u16| {
            Ok(http::Answer {
                status,
                body: "b".into(),
            })
        };
        let text = |kind: Kind, outcome: Outcome| note(kind, &outcome).map(|(reason, text)| format!("{reason} {text}"));
        for (outcome, expected) in [
            (judge(answer(200)), None),
            (judge(answer(204)), None),
            (
                judge(answer(302)),
                Some("ProbeWarning Readiness probe warning: Probe terminated redirects, Response body: b"),
            ),
            (
                judge(answer(400)),
                Some("Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 400"),
            ),
            (
                judge(answer(199)),
                Some("Unhealthy Readiness probe failed: HTTP probe failed with statuscode: 199"),
            ),
            (
                Outcome::Unknown("x".into()),
                Some("Unhealthy Readiness probe errored and resulted in unknown state: x"),
            ),
        ] {
            assert_eq!(text(Kind::Readiness, outcome).as_deref(), expected);
        }
    }

    #[test]
    fn ports_by_number_and_name() {
        let ports = serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]});
        let container: Container = serde_json::from_value(ports).expect("valid");
        for (given, expected) in [
            (IntOrString::Int(80), Ok(80)),
            (IntOrString::String("web".into()), Ok(8080)),
            (IntOrString::String("81".into()), Ok(81)),
            (
                IntOrString::String("none".into()),
                Err("invalid port number: none".to_owned()),
            ),
            (IntOrString::Int(0), Err("invalid port number: 0".to_owned())),
            (IntOrString::Int(70_000), Err("invalid port number: 70000".to_owned())),
        ] {
            assert_eq!(port(&given, &container), expected, "{given:?}");
        }
    }

    #[test]
    fn thresholds() {
        let mut counter = Counter::default();
        let mut seen = Vec::new();
        for ok in [false, false, true, false, false, false, false, true, true] {
            seen.push(counter.count(ok, 2, 3));
        }
        assert_eq!(
            seen,
            [None, None, None, None, None, Some(false), None, None, Some(true)]
        );
    }
}
