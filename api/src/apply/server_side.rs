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
use super::extract::{field_set, strip, whole_field_set};
use super::merge::{merge, remove, with_named_fields};
use super::set::{self, Tree};
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
    if text(config, "apiVersion") != expected || text(config, "kind") != kind {
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

/// Takes out what the applier named last time, does not name now, and nobody else
/// owns. Upstream's steps: remove all that was applied last; add back what anybody
/// owns, version by version; add back what was not the applier's to remove.
fn prune(
    tracking: &Tracking<'_>,
    merged: Value,
    last: &Value,
    own: &FieldSet,
    others: &[Value],
    version: &str,
) -> Value {
    let Some(last_fields) = entries::fields(last) else {
        return merged;
    };
    let last_version = text(last, "apiVersion");
    if last_version == version && set::is_subset(last_fields, &own.0) {
        return merged;
    }
    // The last configuration may have been in another version: its fields are taken out there.
    let at_last = |object: &Value| {
        if last_version == version {
            Some((object.clone(), tracking.ty))
        } else {
            tracking.versions?.in_version(object, last_version)
        }
    };
    let Some((object, ty)) = at_last(&merged) else {
        return merged;
    };
    let managed = |at: &str| {
        let mut managed = if at == version { own.0.clone() } else { Tree::new() };
        let there = others.iter().filter(|e| text(e, "apiVersion") == at);
        there
            .filter_map(entries::fields)
            .for_each(|f| set::union(&mut managed, f));
        managed
    };
    let last_named = with_named_fields(Node::Struct(ty), last_fields);
    let mut pruned = add_back(ty, &object, &without(ty, &object, &last_named), &managed(last_version));
    let mut versions: Vec<&str> = others.iter().map(|e| text(e, "apiVersion")).chain([version]).collect();
    versions.sort_unstable();
    versions.dedup();
    for at in versions.into_iter().filter(|at| *at != last_version) {
        let Some(convert) = tracking.versions else { continue };
        let (Some((whole, ty)), Some((less, _))) = (convert.in_version(&object, at), convert.in_version(&pruned, at))
        else {
            continue;
        };
        if let Some((back, _)) = convert.in_version(&add_back(ty, &whole, &less, &managed(at)), last_version) {
            pruned = back;
        }
    }
    let mut gone = missing(ty, &object, &pruned);
    gone = FieldSet(set::intersection(&gone.0, &last_named));
    if gone.is_empty() {
        return merged;
    }
    let left = without(ty, &object, &gone.0);
    if last_version == version {
        return left;
    }
    let back = tracking
        .versions
        .and_then(|versions| versions.in_version(&left, version));
    back.map_or(merged, |(object, _)| object)
}

/// `whole` less what is missing in `less` and not managed.
fn add_back(ty: &Type, whole: &Value, less: &Value, managed: &Tree) -> Value {
    let mut gone = missing(ty, whole, less);
    set::subtract(&mut gone.0, &with_named_fields(Node::Struct(ty), managed));
    without(ty, whole, &gone.0)
}

fn without(ty: &Type, object: &Value, gone: &Tree) -> Value {
    let mut left = object.clone();
    remove(Node::Struct(ty), &mut left, gone);
    left
}

/// What `whole` has and `less` has not. Names and versions are never missing: they
/// are in no set, but are not to go with a parent either.
fn missing(ty: &Type, whole: &Value, less: &Value) -> FieldSet {
    let sets = |object: &Value| FieldSet(with_named_fields(Node::Struct(ty), &whole_field_set(ty, object).0));
    let mut gone = sets(whole);
    gone.subtract(&sets(less));
    strip(&mut gone);
    gone
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
