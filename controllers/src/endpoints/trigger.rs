//! Since when the endpoints of a Service wait for being written: `endpoints.kubernetes.io/last-change-trigger-time`,
//! from which others measure how long a change takes to reach them. Pure but for its lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::slim::Pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::{Key, created, name};

const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

struct State {
    service: Timestamp,
    pods: HashMap<String, Timestamp>,
}

#[derive(Default)]
pub struct Triggers(Mutex<HashMap<Key, State>>);

/// When the pod last became ready or stopped being so.
fn changed(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let ready = status
        .conditions
        .iter()
        .flatten()
        .find(|known| known.type_ == "Ready")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

impl Triggers {
    fn states(&self) -> std::sync::MutexGuard<'_, HashMap<Key, State>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The earliest change since the last look; of a Service that is new, its creation.
    pub fn look(&self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let key = Key::of(&service.metadata);
        let born = created(&service.metadata);
        let pods: HashMap<String, Timestamp> = pods
            .iter()
            .filter_map(|pod| Some((name(&pod.metadata).to_string(), changed(pod)?)))
            .collect();
        let mut states = self.states();
        let earliest = match states.get(&key) {
            None => Some(born),
            Some(known) => {
                let newer = pods
                    .iter()
                    .filter(|(pod, at)| known.pods.get(*pod).is_none_or(|before| *at > before));
                let anew = (born > known.service).then_some(born);
                newer.map(|(_, at)| *at).chain(anew).min()
            }
        };
        states.insert(key, State { service: born, pods });
        earliest
    }

    pub fn forget(&self, service: &Key) {
        self.states().remove(service);
    }
}

/// Notes the time on what is about to be written.
pub fn annotate(meta: &mut ObjectMeta, trigger: Option<Timestamp>) {
    match trigger {
        Some(at) => {
            let annotations = meta.annotations.get_or_insert_default();
            annotations.insert(ANNOTATION.to_string(), at.to_string());
        }
        None => {
            if let Some(annotations) = &mut meta.annotations {
                annotations.remove(ANNOTATION);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::{at, pod};

    #[test]
    fn the_earliest_change_since_the_last_look() {
        let triggers = Triggers::default();
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "creationTimestamp": "1970-01-01T00:00:50Z"},
        }))
        .expect("a service");
        let ready = |name: &str, second: i64| Arc::new(pod(name, "Running", None, Some(second)));
        assert_eq!(triggers.look(&service, &[ready("a", 10)]), Some(at(50)), "it is new");
        assert_eq!(triggers.look(&service, &[ready("a", 10)]), None);
        let more = [ready("a", 70), ready("b", 60), ready("c", 80)];
        assert_eq!(triggers.look(&service, &more), Some(at(60)));
        let mut meta = ObjectMeta::default();
        annotate(&mut meta, Some(at(60)));
        assert_eq!(crate::key::annotation(&meta, ANNOTATION), Some("1970-01-01T00:01:00Z"));
        annotate(&mut meta, None);
        assert_eq!(crate::key::annotation(&meta, ANNOTATION), None);
        triggers.forget(&Key::of(&service.metadata));
        assert_eq!(triggers.look(&service, &more), Some(at(50)));
    }
}
