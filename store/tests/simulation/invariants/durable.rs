//! What was acknowledged was committed where it was said to be, and every server ends
//! with what was committed.

use super::Report;
use crate::clients::{Action, Outcome, PAIR};

pub fn check(report: &Report) -> Result<(), String> {
    for record in report.records.iter().filter(|r| r.outcome == Outcome::Done) {
        let value = match record.action {
            Action::Put(value) | Action::Swap(_, Some(value)) => Some(value),
            // A deletion of what was not there changes nothing.
            Action::Swap(None, None) | Action::Read => continue,
            Action::Swap(Some(_), None) => None,
        };
        let keys = match record.object.as_str() {
            "/pair" => PAIR.to_vec(),
            key => vec![key],
        };
        let changes = report.history.get(&record.revision);
        for key in keys {
            let there = changes.is_some_and(|c| c.iter().any(|c| c.key == key && c.value == value));
            if !there {
                return Err(format!(
                    "acknowledged, but not committed there: {record:?}: {changes:?}"
                ));
            }
        }
    }
    for (server, (revision, values)) in &report.finals {
        let committed = report.values_at(*revision);
        if *values != committed {
            return Err(format!(
                "server {server} ends with {values:?} at {revision}; committed is {committed:?}"
            ));
        }
    }
    Ok(())
}
