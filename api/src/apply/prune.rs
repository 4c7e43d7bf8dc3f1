//! What leaves the object with an apply: fields that the applier named last time,
//! does not name now, and nobody else owns.

use super::entries::{self, text};
use super::extract::{strip, whole_field_set};
use super::merge::{remove, with_named_fields};
use super::set::{self, Tree};
use super::shape::Node;
use super::{FieldSet, Tracking};
use crate::Value;
use crate::schema::Type;

/// Takes out what the applier named last time, does not name now, and nobody else
/// owns. Upstream's steps: remove all that was applied last; add back what anybody
/// owns, version by version; add back what was not the applier's to remove.
pub(super) fn prune(
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
