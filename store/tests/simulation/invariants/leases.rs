//! A key never outlives its lease.

use super::Report;
use skiff_store::mvcc::State;

/// Keys whose lease is not there, in a state that some server came to.
pub fn orphans(state: &State) -> Option<String> {
    let mut entries = state.tree().iter_from(b"");
    let orphan = entries.find(|e| e.lease() != 0 && !state.leases().contains(e.lease()))?;
    let key = String::from_utf8_lossy(orphan.key());
    Some(format!("{key} is there, its lease {} is not", orphan.lease()))
}

pub fn check(report: &Report) -> Result<(), String> {
    for (lease, revision) in &report.revoked {
        let later = report.history.range(revision + 1..);
        for (at, changes) in later {
            if let Some(change) = changes.iter().find(|c| c.value.is_some() && c.lease == *lease) {
                return Err(format!(
                    "lease {lease} was revoked at {revision}, and has {change:?} at {at}"
                ));
            }
        }
    }
    for (server, (_, values)) in &report.finals {
        if let Some(key) = values.keys().find(|k| k.starts_with("/lease/")) {
            return Err(format!("server {server} has {key} though its lease ended long ago"));
        }
    }
    Ok(())
}
