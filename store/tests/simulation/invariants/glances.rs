//! Whatever a server shows as its own state was committed as it shows it.

use super::Report;
use std::collections::BTreeMap;

pub fn check(report: &Report) -> Result<(), String> {
    // By key: what it came to at each of its changes.
    let mut changes: BTreeMap<&str, BTreeMap<u64, Option<u64>>> = BTreeMap::new();
    for (revision, at) in &report.history {
        for change in at {
            changes.entry(&change.key).or_default().insert(*revision, change.value);
        }
    }
    for glance in &report.glances {
        let of_key = changes.get(glance.key.as_str());
        let committed = of_key.and_then(|c| c.range(..=glance.revision).next_back());
        let committed = committed.and_then(|(_, value)| *value);
        if committed != glance.value {
            return Err(format!("{glance:?}, but committed is {committed:?}"));
        }
    }
    Ok(())
}
