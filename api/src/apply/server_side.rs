//! Server-side apply: the configuration merged into the live object, what the
//! applier no longer names taken out, and the ownership that follows.
//!
//! ```text
//! live + config -> merged -> pruned -> compared with live -> conflicts?
//!                                                        -> entries -> object
//! ```

use super::compare::compare;
use super::config;
use super::conflict::{self, Conflict};
use super::entries::{self, APPLY, UPDATE, Writer, text};
use super::extract::{field_set, strip};
use super::merge::merge;
use super::prune::prune;
use super::set;
use super::shape::Node;
use super::update::{compared_in, release};
use super::{FieldSet, Tracking};
use crate::schema::{Type, api_version};
use crate::{ApiError, Value};
use serde_json::json;

/// Owner of what was there before an object's first apply, if nobody was known.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The one applier that takes over from client-side apply.
const KUBECTL: &str = "kubectl";

/// Applies `config` as `who`. All objects are in the writer's version; `live` is none
/// when the object is to be created. The answer is the object to default, check and
/// store, with its managedFields; where nothing changes it equals the live one.
pub fn apply(
    tracking: &Tracking<'_>,
    live: Option<&Value>,
    config: &Value,
    who: &Writer<'_>,
    force: bool,
) -> Result<Value, ApiError> {
    check_envelope(tracking.ty, config)?;
    config::check(tracking.ty, config)?;
    let stored = entries::of(live).cloned();
    let mut list = match stored.clone() {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let mut base = live.cloned().unwrap_or_else(|| empty_object(config));
    entries::take(&mut base);
    if let Some(live) = live.filter(|_| list.is_empty()) {
        list.extend(before_first_apply(tracking, live, who));
    }
    let last = list
        .iter()
        .position(|entry| who.owns(entry, APPLY))
        .map(|at| list.remove(at));
    let mut own = field_set(tracking.ty, config);
    for path in tracking.ignored {
        own.cut(path);
    }

    let mut merged = base.clone();
    merge(Node::Struct(tracking.ty), &mut merged, config);
    if let Some(last) = &last {
        merged = prune(tracking, merged, last, &own, &list, who.api_version);
    }
    let mut changed = compare(tracking.ty, &base, &merged);
    for path in tracking.ignored {
        changed.cut(path);
    }
    let (taken, removed) = changed.split();
    if !force {
        check_conflicts(tracking, &list, &base, &merged, &taken, who)?;
    }
    release(
        tracking,
        &mut list,
        Some(&base),
        &merged,
        (&taken, &removed),
        who.api_version,
    );

    if !own.is_empty() {
        let kept = last.filter(|last| base == merged && unchanged(last, &own, who));
        list.push(kept.unwrap_or_else(|| who.entry(APPLY, own)));
    }
    entries::settle(&mut list, false);
    entries::store(&mut merged, list);
    if who.manager == KUBECTL {
        refresh_last_applied(&mut merged, config);
    }
    Ok(merged)
}

/// The applier's entry says what it would say now; only its time is older.
fn unchanged(last: &Value, own: &FieldSet, who: &Writer<'_>) -> bool {
    text(last, "apiVersion") == who.api_version && entries::fields(last) == Some(&own.0)
}

fn check_envelope(ty: &Type, config: &Value) -> Result<(), ApiError> {
    if !config.is_object() {
        return Err(ApiError::bad_request(
            "error decoding YAML: the applied configuration must be an object",
        ));
    }
    let (group, version, kind) = ty.gvk();
    let expected = api_version(group, version);
    let said = text(config, "apiVersion");
    if !said.is_empty() && said != expected {
        return Err(ApiError::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {said}, expected: {expected}"
        )));
    }
    if said != expected || text(config, "kind") != kind {
        return Err(ApiError::bad_request(format!(
            "invalid object type: {}, Kind={}",
            text(config, "apiVersion"),
            text(config, "kind")
        )));
    }
    if !config["metadata"]["managedFields"].is_null() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

fn empty_object(config: &Value) -> Value {
    json!({"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {}})
}

/// All that is there, for an object whose fields nobody was known to own.
fn before_first_apply(tracking: &Tracking<'_>, live: &Value, who: &Writer<'_>) -> Option<Value> {
    let (mut all, _) = compare(tracking.ty, &Value::Null, live).split();
    for path in tracking.ignored {
        all.cut(path);
    }
    strip(&mut all);
    let before = Writer {
        manager: BEFORE_FIRST_APPLY,
        ..*who
    };
    (!all.is_empty()).then(|| before.entry(UPDATE, all))
}

fn check_conflicts(
    tracking: &Tracking<'_>,
    list: &[Value],
    base: &Value,
    merged: &Value,
    taken: &FieldSet,
    who: &Writer<'_>,
) -> Result<(), ApiError> {
    let mut conflicts: Vec<Conflict<'_>> = Vec::new();
    for entry in list {
        let version = text(entry, "apiVersion");
        let Some(fields) = entries::fields(entry) else { continue };
        let both = if version == who.api_version {
            set::intersection(fields, &taken.0)
        } else {
            match compared_in(tracking, Some(base), merged, version) {
                Some(changed) => set::intersection(fields, &changed.split().0.0),
                None => continue,
            }
        };
        if !both.is_empty() {
            conflicts.push(Conflict {
                entry,
                fields: FieldSet(both),
            });
        }
    }
    if who.manager == KUBECTL && !conflicts.is_empty() {
        let allowed = client_side_applied(tracking.ty, base, who);
        for conflict in &mut conflicts {
            conflict.fields.subtract(&allowed);
        }
        conflicts.retain(|c| !c.fields.is_empty());
    }
    if conflicts.is_empty() {
        Ok(())
    } else {
        Err(conflict::error(&conflicts))
    }
}

/// Fields that client-side apply set and that still are as it set them: the same
/// user may take these over without a conflict.
fn client_side_applied(ty: &Type, live: &Value, who: &Writer<'_>) -> FieldSet {
    let last = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    let Some(last) = last.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return FieldSet::default();
    };
    if text(&last, "apiVersion") != who.api_version {
        return FieldSet::default();
    }
    let mut fields = field_set(ty, &last);
    let changed = compare(ty, &last, live);
    for other in [&changed.added, &changed.modified, &changed.removed] {
        fields.subtract(other);
    }
    fields
}

/// Keeps client-side apply's annotation true, so that a user may go back to it.
fn refresh_last_applied(object: &mut Value, config: &Value) {
    let Some(annotations) = object["metadata"].get_mut("annotations").and_then(Value::as_object_mut) else {
        return;
    };
    if annotations
        .get(LAST_APPLIED)
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return;
    }
    let mut applied = config.clone();
    if let Some(own) = applied["metadata"]
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        own.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.into(), format!("{applied}\n").into());
}
