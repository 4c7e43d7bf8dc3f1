//! Rows of events.k8s.io.

use crate::contract::Kind;
use crate::core::event;
use crate::row::kind;
use serde_json::Value;

pub(crate) const GROUP: &str = "events.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["ev"],
        storage: ("", "events"),
        columns: event::COLUMNS,
        strategy: &event::STRICT,
        ..kind!(GROUP, V1, "Event", "events", "event", true)
    }]
}

/// Members that only have another name in the core form.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(o: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(map) = o.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_string(), value);
        }
    }
}

/// From the core form, in which events are stored.
pub(crate) fn from_core(o: &mut Value) {
    rename(o, NAMES.into_iter());
}

pub(crate) fn to_core(o: &mut Value) {
    rename(o, NAMES.into_iter().map(|(core, new)| (new, core)));
}
