//! Restarting all containers of a pod, in place, because one of them has ended in a way that its own
//! rules name (KEP-5532). Pure.
//!
//! ```text
//! trigger ends --> all others end --> told as a condition --> all are history --> init containers ...
//! ```

use super::observed::{Container, Observed, State};
use super::spec;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// The condition that says so.
pub const CONDITION: &str = "AllContainersRestarting";
/// A server that does not answer holds nothing up for longer.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_secs(2);

/// Whether some end of a container restarts all of them.
pub fn may(spec: &PodSpec) -> bool {
    let mut rules = spec::containers(spec).flat_map(|(c, _)| c.restart_policy_rules.iter().flatten());
    rules.any(|rule| rule.action == spec::RESTART_ALL)
}

/// Whether the container, which has ended, did so in such a way.
pub fn is_trigger(pod: &Pod, ended: &Container) -> bool {
    pod.spec.as_ref().is_some_and(|spec| triggers(spec, ended))
}

fn triggers(spec: &PodSpec, ended: &Container) -> bool {
    // One that was ended for a resize begins anew alone.
    ended.state == State::Exited
        && !ended.again
        && spec::find(spec, &ended.name).is_some_and(|(c, _)| spec::rule(c, ended.exit_code) == Some(spec::RESTART_ALL))
}

/// The container for whose end all are to be restarted now.
pub fn trigger<'a>(spec: &PodSpec, seen: &'a Observed) -> Option<&'a Container> {
    if !may(spec) {
        return None;
    }
    let mut newest = spec::containers(spec).filter_map(|(c, _)| seen.newest(&c.name));
    newest.find(|ended| triggers(spec, ended))
}

/// Until when the restart may wait for the API to have heard of it.
pub fn untold(pod: &Pod, trigger: &Container, now: Timestamp) -> Option<Timestamp> {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut told = conditions.filter(|c| c.type_ == CONDITION && c.status == "True");
    let ended = Timestamp::from_nanosecond(i128::from(trigger.finished_at_ns)).ok()?;
    let until = ended.checked_add(TOLD_WITHIN).ok()?;
    (told.next().is_none() && now < until).then_some(until)
}
