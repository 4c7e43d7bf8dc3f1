//! Rows of events.k8s.io.

use crate::contract::Kind;
use crate::row::kind;

pub(crate) const GROUP: &str = "events.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["ev"],
        storage: ("", "events"),
        // event
        ..kind!(GROUP, V1, "Event", "events", "event", true)
    }]
}

pub(crate) fn from_core(_o: &mut serde_json::Value) {}
pub(crate) fn to_core(_o: &mut serde_json::Value) {}
