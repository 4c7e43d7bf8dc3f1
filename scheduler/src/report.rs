//! What users see of decisions: events and the PodScheduled condition. Decisions hand
//! over what is to be said and go on; a few writers say it.
//!
//! ```text
//! decision --> newest condition per pod --,
//!         '--> events, up to a bound -----'--> writers --> API
//! ```

use crate::call::{self, JSON, MERGE, STRATEGIC};
use crate::filter::Candidate;
use crate::metrics::Metrics;
use crate::snapshot::PodKey;
use crate::wire::WatchedPod;
use http::{Method, StatusCode};
use kube::api::Api;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A longer message is cut, as upstream does (events refuse more).
const NOTE_BYTES_MAX: usize = 1024;
/// Events that wait, a few hundred bytes each: a burst of bindings must not wait for
/// its events. Beyond, they are dropped and counted.
const EVENTS_MAX: usize = 20_000;
/// Writes under way at once: enough to share the store's syncs, few beside the bindings.
const WRITERS: usize = 6;
/// A repeated event is written this often at most.
const REPEAT_MIN: Duration = Duration::from_secs(60);
/// Somebody else changed the pod so often meanwhile: the next attempt will say it.
const TRIES_MAX: usize = 5;

/// An event or condition is about this pod.
#[derive(Debug, Clone)]
pub struct Regarding {
    pub key: PodKey,
    pub uid: String,
    pub resource_version: Option<String>,
}

impl Regarding {
    pub fn of(candidate: &Candidate) -> Self {
        Self {
            key: candidate.info.key.clone(),
            uid: candidate.info.uid.clone(),
            resource_version: candidate.pod.metadata.resource_version.clone(),
        }
    }

    fn json(&self) -> Value {
        let mut out =
            json!({"apiVersion": "v1", "kind": "Pod", "namespace": self.key.0, "name": self.key.1, "uid": self.uid});
        if let Some(version) = &self.resource_version {
            out["resourceVersion"] = json!(version);
        }
        out
    }
}

#[derive(Debug)]
struct Event {
    regarding: Regarding,
    related: Option<Regarding>,
    warning: bool,
    reason: &'static str,
    action: &'static str,
    note: String,
    /// `spec.schedulerName`.
    by: String,
}

/// What `status` is to say.
#[derive(Debug, Clone, PartialEq)]
struct Status {
    /// Of PodScheduled=False; `None` leaves the condition alone.
    message: Option<String>,
    /// `Some("")` clears it, `None` leaves it.
    nominated: Option<String>,
}

struct Report {
    candidate: Candidate,
    status: Status,
}

/// What was last said of a pod that cannot be scheduled.
#[derive(Debug, Clone)]
struct Said {
    event: String,
    note: String,
    count: u32,
    written: Instant,
}

#[derive(Default)]
struct State {
    reports: BTreeMap<PodKey, Report>,
    order: VecDeque<PodKey>,
    /// A writer is at it: the next one waits, so that the newest is written last.
    busy: BTreeSet<PodKey>,
    events: VecDeque<Event>,
    said: BTreeMap<PodKey, Said>,
}

/// Whether the same was said of the same pod.
enum Before {
    Never,
    /// And written so short ago that counting it is enough.
    Lately,
    Once(Said),
}

enum Job {
    Report(PodKey, Report),
    Event(Event),
}

struct Shared {
    client: kube::Client,
    metrics: Metrics,
    state: Mutex<State>,
    work: Notify,
}

#[derive(Clone)]
pub struct Reporter {
    shared: Arc<Shared>,
}

impl Reporter {
    pub fn start(client: kube::Client, metrics: Metrics, shutdown: &CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            client,
            metrics,
            state: Mutex::default(),
            work: Notify::new(),
        });
        for _ in 0..WRITERS {
            let (shared, shutdown) = (shared.clone(), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = shared.write_all() => {}
                }
            });
        }
        Self { shared }
    }

    /// The pod has a node, or is gone: nothing more is to be said of why it had none.
    pub fn forget(&self, key: &PodKey) {
        let mut state = self.shared.state();
        state.said.remove(key);
        state.reports.remove(key);
    }

    pub fn scheduled(&self, regarding: Regarding, by: &str, node: &str) {
        self.forget(&regarding.key);
        let (namespace, name) = &regarding.key;
        let note = format!("Successfully assigned {namespace}/{name} to {node}");
        self.event(Event {
            regarding,
            related: None,
            warning: false,
            reason: "Scheduled",
            action: "Binding",
            note,
            by: by.to_string(),
        });
    }

    /// `nominated`: the node that room is made on, or `Some("")` if it is no longer.
    pub fn unschedulable(&self, candidate: &Candidate, message: String, nominated: Option<String>) {
        self.event(Event {
            regarding: Regarding::of(candidate),
            related: None,
            warning: true,
            reason: "FailedScheduling",
            action: "Scheduling",
            note: message.clone(),
            by: candidate.profile.name.clone(),
        });
        let message = Some(message);
        self.report(candidate, Status { message, nominated });
    }

    /// Its room went to a pod of higher priority.
    pub fn not_nominated(&self, candidate: &Candidate) {
        let nominated = Some(String::new());
        self.report(
            candidate,
            Status {
                message: None,
                nominated,
            },
        );
    }

    pub fn preempted(&self, victim: Regarding, preemptor: Regarding, by: &str, node: &str) {
        let note = format!("Preempted by pod {} on node {node}", preemptor.uid);
        self.event(Event {
            regarding: victim,
            related: Some(preemptor),
            warning: false,
            reason: "Preempted",
            action: "Preempting",
            note,
            by: by.to_string(),
        });
    }

    fn event(&self, event: Event) {
        let mut state = self.shared.state();
        if state.events.len() >= EVENTS_MAX {
            self.shared.metrics.event_dropped();
            return;
        }
        state.events.push_back(event);
        drop(state);
        self.shared.work.notify_one();
    }

    fn report(&self, candidate: &Candidate, status: Status) {
        if says(candidate, &status) {
            return;
        }
        let key = candidate.info.key.clone();
        let report = Report {
            candidate: candidate.clone(),
            status,
        };
        let mut state = self.shared.state();
        if state.reports.insert(key.clone(), report).is_none() {
            state.order.push_back(key);
        }
        drop(state);
        self.shared.work.notify_one();
    }
}

/// The pod says so already.
fn says(candidate: &Candidate, status: &Status) -> bool {
    let nominated = candidate.nominated().map(String::as_str).unwrap_or_default();
    let nominates = status.nominated.as_ref().is_none_or(|node| node == nominated);
    let tells = status.message.as_ref().is_none_or(|message| {
        condition(candidate)
            .is_some_and(|condition| condition.status == "False" && condition.message.as_ref() == Some(message))
    });
    nominates && tells
}

fn condition(candidate: &Candidate) -> Option<&k8s_openapi::api::core::v1::PodCondition> {
    let conditions = candidate.pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "PodScheduled")
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_all(&self) {
        loop {
            let work = self.work.notified();
            match self.next() {
                Some(Job::Report(key, report)) => {
                    self.write_report(&key, report).await;
                    self.state().busy.remove(&key);
                    self.work.notify_one();
                }
                Some(Job::Event(event)) => self.write_event(event).await,
                None => work.await,
            }
        }
    }

    /// Conditions first: they are what controllers and autoscalers act on.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        for _ in 0..state.order.len() {
            let Some(key) = state.order.pop_front() else { break };
            if state.busy.contains(&key) {
                state.order.push_back(key);
                continue;
            }
            if let Some(report) = state.reports.remove(&key) {
                state.busy.insert(key.clone());
                return Some(Job::Report(key, report));
            }
        }
        state.events.pop_front().map(Job::Event)
    }

    async fn write_report(&self, key: &PodKey, mut report: Report) {
        for _ in 0..TRIES_MAX {
            let path = format!("/api/v1/namespaces/{}/pods/{}/status", key.0, key.1);
            let body = status_patch(&report.candidate, &report.status);
            match call::send(&self.client, Method::PATCH, &path, STRATEGIC, &body).await {
                Ok(()) => return,
                Err(error) if call::is(&error, StatusCode::CONFLICT) => {}
                Err(error) => {
                    tracing::debug!(namespace = key.0, pod = key.1, %error, "the condition could not be set");
                    return;
                }
            }
            // Changed meanwhile, perhaps bound: then there is nothing left to say.
            let pods: Api<WatchedPod> = Api::namespaced(self.client.clone(), &key.0);
            let Ok(WatchedPod(pod)) = pods.get(&key.1).await else {
                return;
            };
            let free = pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none());
            if pod.metadata.uid.as_ref() != Some(&report.candidate.info.uid) || !free {
                return;
            }
            report.candidate.pod = Arc::new(pod);
        }
    }

    async fn write_event(&self, event: Event) {
        let repeated = event.reason == "FailedScheduling";
        if repeated {
            match self.said_before(&event) {
                Before::Never => {}
                Before::Lately => return,
                Before::Once(said) => return self.repeat(&event.regarding.key, &said).await,
            }
        }
        let (key, note) = (event.regarding.key.clone(), event.note.clone());
        let Some(name) = self.post(event).await else { return };
        if repeated {
            let said = Said {
                event: name,
                note,
                count: 1,
                written: Instant::now(),
            };
            self.state().said.insert(key, said);
        }
    }

    /// Counts it, if it was.
    fn said_before(&self, event: &Event) -> Before {
        let mut state = self.state();
        let said = state.said.get_mut(&event.regarding.key);
        let Some(said) = said.filter(|said| said.note == event.note) else {
            return Before::Never;
        };
        said.count = said.count.saturating_add(1);
        if said.count > 2 && said.written.elapsed() < REPEAT_MIN {
            return Before::Lately;
        }
        said.written = Instant::now();
        Before::Once(said.clone())
    }

    async fn repeat(&self, key: &PodKey, said: &Said) {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events/{}", key.0, said.event);
        let series = json!({"series": {"count": said.count, "lastObservedTime": micro_now()}});
        if let Err(error) = call::send(&self.client, Method::PATCH, &path, MERGE, &series).await {
            tracing::debug!(%error, "an event could not be repeated");
        }
    }

    /// The event's name.
    async fn post(&self, event: Event) -> Option<String> {
        let (namespace, name) = event.regarding.key.clone();
        let (note, name) = (
            cut(&event.note),
            format!("{name}.{:x}", k8s_openapi::jiff::Timestamp::now().as_nanosecond()),
        );
        let mut body = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": micro_now(), "type": if event.warning { "Warning" } else { "Normal" },
            "reason": event.reason, "action": event.action, "note": note,
            "reportingController": event.by, "reportingInstance": event.by,
            "regarding": event.regarding.json(),
        });
        if let Some(related) = &event.related {
            body["related"] = related.json();
        }
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        match call::send(&self.client, Method::POST, &path, JSON, &body).await {
            Ok(()) => Some(name),
            Err(error) => {
                tracing::debug!(namespace, event = name, %error, "an event could not be written");
                None
            }
        }
    }
}

fn cut(note: &str) -> &str {
    let mut end = note.len().min(NOTE_BYTES_MAX);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

/// Holds only for the pod as it was read.
fn status_patch(candidate: &Candidate, status: &Status) -> Value {
    let meta = &candidate.pod.metadata;
    let mut patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "status": {}});
    if let Some(message) = &status.message {
        let since = condition(candidate)
            .filter(|condition| condition.status == "False")
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map_or_else(seconds_now, |time| time.0.to_string());
        patch["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "observedGeneration": meta.generation, "lastProbeTime": null, "lastTransitionTime": since,
        }]);
    }
    if let Some(node) = &status.nominated {
        patch["status"]["nominatedNodeName"] = if node.is_empty() { Value::Null } else { json!(node) };
    }
    patch
}

fn micro_now() -> String {
    k8s_openapi::jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        .to_string()
}

pub fn seconds_now() -> String {
    k8s_openapi::jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
