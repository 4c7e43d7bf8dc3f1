//! Every watch sees exactly the committed history, in order, from where it began.

use super::Report;
use crate::clients::Watched;
use crate::observer::History;

/// Changes with their revisions, but for those that a watch jumped over.
fn expected(history: &History, watched: &Watched) -> Vec<(u64, String, Option<u64>)> {
    let over = |revision: u64| {
        watched
            .jumps
            .iter()
            .any(|(from, to)| revision > *from && revision <= *to)
    };
    let seen = history.iter().filter(|(revision, _)| !over(**revision));
    seen.flat_map(|(revision, changes)| changes.iter().map(|c| (*revision, c.key.clone(), c.value)))
        .collect()
}

pub fn check(report: &Report) -> Result<(), String> {
    for watched in &report.watched {
        let expected = expected(&report.history, watched);
        let seen = watched.events.len();
        let same = expected.iter().zip(&watched.events).position(|(a, b)| a != b);
        if let Some(at) = same {
            return Err(format!(
                "a watch saw {:?} in place of {:?}",
                watched.events[at], expected[at]
            ));
        }
        if seen > expected.len() {
            return Err(format!(
                "a watch saw what was never committed: {:?}",
                watched.events[expected.len()]
            ));
        }
        for (revision, count) in &watched.progress {
            let due = expected.partition_point(|(r, ..)| r <= revision);
            if due != *count {
                return Err(format!(
                    "a watch was told of all up to {revision}, with {count} events of {due}"
                ));
            }
        }
    }
    Ok(())
}
