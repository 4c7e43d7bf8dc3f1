//! Tracking of creates, updates and patches: whoever changes a field owns it
//! from then on, and nobody else does.

use super::compare::{Comparison, compare};
use super::entries::{self, UPDATE, Writer, text};
use super::set;
use super::{FieldSet, Tracking};
use crate::Value;

/// Brings `new`'s managedFields up to date for a create (`live` is none) or update.
/// Both objects are in the writer's version. A client may send entries of its own
/// through the object itself, an empty list forgets them all; what is malformed counts
/// as not sent, as upstream. An object that nobody tracked so far stays so.
pub fn track_update(tracking: &Tracking<'_>, live: Option<&Value>, new: &mut Value, who: &Writer<'_>) {
    let sent = entries::take(new);
    let stored = entries::of(live);
    let Some(mut list) = chosen(sent, stored, who) else {
        return;
    };
    if list.is_empty() && live.is_some() {
        return;
    }
    let nothing = Value::Null;
    let mut changed = compare(tracking.ty, live.unwrap_or(&nothing), new);
    for path in tracking.ignored {
        changed.cut(path);
    }
    if !changed.is_same() {
        let (taken, removed) = changed.split();
        release(tracking, &mut list, live, new, (&taken, &removed), who.api_version);
        take_over(&mut list, taken, who);
        entries::settle(&mut list, true);
    }
    entries::store(new, list);
}

/// The entries to go on from; `None` if all are to be forgotten.
fn chosen(sent: Option<Value>, stored: Option<&Value>, who: &Writer<'_>) -> Option<Vec<Value>> {
    let own = || match stored {
        Some(Value::Array(list)) => list.clone(),
        _ => Vec::new(),
    };
    let Some(sent) = sent.filter(|_| who.subresource.is_empty() || stored.is_some()) else {
        return Some(own());
    };
    if Some(&sent) == stored {
        // The usual case: what was read comes back. It is ours, and needs no copy.
        return match sent {
            Value::Array(list) => Some(list),
            _ => Some(Vec::new()),
        };
    }
    if !who.subresource.is_empty() {
        return Some(own());
    }
    if entries::is_reset(&sent) {
        return stored.is_none().then(Vec::new);
    }
    match entries::read(sent) {
        Some(mut list) if !list.is_empty() => {
            entries::settle(&mut list, false);
            Some(list)
        }
        _ => Some(own()),
    }
}

/// Takes the changed fields from everybody, in the version of each entry.
pub(super) fn release(
    tracking: &Tracking<'_>,
    list: &mut Vec<Value>,
    live: Option<&Value>,
    new: &Value,
    (taken, removed): (&FieldSet, &FieldSet),
    api_version: &str,
) {
    let mut elsewhere: Vec<(String, Option<Comparison>)> = Vec::new();
    list.retain_mut(|entry| {
        let version = text(entry, "apiVersion");
        if version == api_version {
            if let Some(fields) = entries::fields_mut(entry) {
                set::subtract(fields, &taken.0);
                set::subtract(fields, &removed.0);
            }
            return true;
        }
        let at = match elsewhere.iter().position(|(v, _)| v == version) {
            Some(at) => at,
            None => {
                elsewhere.push((version.to_string(), compared_in(tracking, live, new, version)));
                elsewhere.len() - 1
            }
        };
        // The fields of a version that is not served any more mean nothing.
        let Some(changed) = &elsewhere[at].1 else { return false };
        if let Some(fields) = entries::fields_mut(entry) {
            for gone in [&changed.added, &changed.modified, &changed.removed] {
                set::subtract(fields, &gone.0);
            }
        }
        true
    });
}

/// The same change in another version.
pub(super) fn compared_in(
    tracking: &Tracking<'_>,
    live: Option<&Value>,
    new: &Value,
    version: &str,
) -> Option<Comparison> {
    let versions = tracking.versions?;
    let (new, ty) = versions.in_version(new, version)?;
    let live = match live {
        Some(live) => versions.in_version(live, version)?.0,
        None => Value::Null,
    };
    let mut changed = compare(ty, &live, &new);
    for path in tracking.ignored {
        changed.cut(path);
    }
    Some(changed)
}

fn take_over(list: &mut Vec<Value>, taken: FieldSet, who: &Writer<'_>) {
    if taken.is_empty() {
        return;
    }
    match list.iter_mut().find(|entry| who.owns(entry, UPDATE)) {
        Some(own) => {
            if let Some(fields) = entries::fields_mut(own) {
                set::union(fields, &taken.0);
            }
            own["time"] = who.now.into();
        }
        None => list.push(who.entry(UPDATE, taken)),
    }
}
