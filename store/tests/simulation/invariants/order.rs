//! Revisions follow the order in which clients saw things happen: a write is of a later
//! revision than all that was answered before it was asked for, a read of none earlier.

use super::Report;
use crate::clients::{Action, Outcome, Record};

fn writes(record: &Record) -> bool {
    record.outcome == Outcome::Done && !matches!(record.action, Action::Read | Action::Swap(None, None))
}

pub fn check(report: &Report) -> Result<(), String> {
    let told = report.records.iter().filter(|r| r.revision > 0);
    let (mut asked, mut answered): (Vec<_>, Vec<_>) = (told.clone().collect(), told.collect());
    asked.sort_by_key(|r| r.invoked);
    answered.sort_by_key(|r| r.returned);
    let mut answered = answered.into_iter().peekable();
    let mut latest: Option<&Record> = None;
    for record in asked {
        while let Some(before) = answered.next_if(|r| r.returned < record.invoked) {
            if latest.is_none_or(|l| l.revision < before.revision) {
                latest = Some(before);
            }
        }
        let Some(latest) = latest else { continue };
        let fine = match writes(record) {
            true => record.revision > latest.revision,
            false => record.revision >= latest.revision,
        };
        if !fine {
            return Err(format!(
                "{record:?} is not behind {latest:?}, which was answered before it began"
            ));
        }
    }
    Ok(())
}
