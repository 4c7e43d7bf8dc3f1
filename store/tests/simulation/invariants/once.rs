//! No write is applied twice, and what was promised not to be done is not done.

use super::Report;
use crate::clients::{Action, Outcome, PAIR};

pub fn check(report: &Report) -> Result<(), String> {
    let writes = report.writes();
    for ((key, value), revisions) in &writes {
        if let [first, again, ..] = revisions[..] {
            return Err(format!(
                "{key}={value} was applied at revision {first} and again at {again}"
            ));
        }
    }
    for record in &report.records {
        let value = match record.action {
            Action::Put(value) | Action::Swap(_, Some(value)) => value,
            _ => continue,
        };
        let key = if record.object == "/pair" {
            PAIR[0]
        } else {
            record.object.as_str()
        };
        let done = writes.contains_key(&(key, value));
        if done && matches!(record.outcome, Outcome::Never | Outcome::Found(_)) {
            return Err(format!(
                "its client was told that it was not done, but it was: {record:?}"
            ));
        }
    }
    Ok(())
}
