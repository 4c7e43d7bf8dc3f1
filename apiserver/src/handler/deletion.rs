//! What a deletion does to an object: its options, its preconditions, grace, the
//! finalizers of the garbage collector. Pure; follows upstream's `BeforeDelete`
//! and `deletionFinalizersForGarbageCollection`.

use crate::registry::{deletion_timestamp, finalizers, text_at};
use crate::request::{OptionKind, Propagation, QueryOptions};
use crate::respond;
use serde_json::Value;
use skiff_api::{ApiError, FieldError};
use skiff_kinds::Kind;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// DeleteOptions from the body or the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub orphan_dependents: Option<bool>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
    /// What asks for the deletion was admitted itself (an eviction).
    pub admitted: bool,
}

impl DeleteOptions {
    /// What a query says; it is not looked at where there is a body.
    pub fn of_query(query: &QueryOptions) -> Result<Self, ApiError> {
        query.check(OptionKind::Delete)?;
        let options = Self {
            grace_period_seconds: query.grace_period_seconds,
            propagation: query.propagation,
            orphan_dependents: query.orphan_dependents,
            dry_run: query.dry_run,
            ..Self::default()
        };
        OptionKind::Delete.invalid(&options.contradiction())?;
        Ok(options)
    }

    /// What a DeleteOptions tree says.
    pub fn of_body(body: &Value) -> Result<Self, ApiError> {
        let text = |path: &[&str]| {
            let value = path.iter().try_fold(body, |value, key| value.get(key));
            value.and_then(Value::as_str).map(str::to_string)
        };
        let mut options = Self {
            grace_period_seconds: body["gracePeriodSeconds"].as_i64(),
            orphan_dependents: body["orphanDependents"].as_bool(),
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
            ..Self::default()
        };
        if let Some(policy) = body["propagationPolicy"].as_str() {
            options.propagation = Some(Propagation::parse(policy)?);
        }
        for value in body["dryRun"].as_array().into_iter().flatten() {
            options.dry_run |= crate::request::dry_run(value.as_str().unwrap_or(""))?;
        }
        OptionKind::Delete.invalid(&options.contradiction())?;
        Ok(options)
    }

    /// Who deletes does not say what becomes of the dependents.
    pub fn says_nothing_of_dependents(&self) -> bool {
        self.propagation.is_none() && self.orphan_dependents.is_none()
    }

    fn contradiction(&self) -> Vec<FieldError> {
        let (Some(policy), Some(_)) = (self.propagation, self.orphan_dependents) else {
            return Vec::new();
        };
        vec![FieldError::invalid(
            "propagationPolicy",
            &format!("{policy:?}").into(),
            "orphanDependents and deletionPropagation cannot be both set",
        )]
    }

    /// The object must be the one that is meant.
    pub fn check(&self, kind: &Kind, object: &Value) -> Result<(), ApiError> {
        let name = text_at(object, &["metadata", "name"]);
        let of_namespace = is_namespace(kind);
        // Upstream names the kind here, where it names the resource elsewhere.
        let subject = if of_namespace { kind.plural } else { kind.kind };
        let conflict = |why: String| Err(ApiError::conflict(kind.group, subject, name, &why));
        let uid = text_at(object, &["metadata", "uid"]);
        if let Some(asked) = self.uid.as_deref().filter(|asked| *asked != uid) {
            return conflict(if of_namespace {
                format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {uid}")
            } else {
                format!(
                    "the UID in the precondition ({asked}) does not match the UID in record ({uid}). \
                     The object might have been deleted and then recreated"
                )
            });
        }
        let version = text_at(object, &["metadata", "resourceVersion"]);
        if let Some(asked) = self.resource_version.as_deref().filter(|asked| *asked != version) {
            return conflict(if of_namespace {
                format!(
                    "Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {version}"
                )
            } else {
                format!(
                    "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({version}). \
                     The object might have been modified"
                )
            });
        }
        Ok(())
    }
}

/// Kinds whose dependents stay where nothing is said of them: upstream keeps the
/// ways of their first versions.
pub(super) fn orphans_by_default(kind: &Kind) -> bool {
    matches!(
        (kind.group, kind.plural),
        ("", "replicationcontrollers") | ("batch", "jobs")
    )
}

/// What a deletion does now.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// Already on its way; nothing to change.
    Pending,
    /// Marked: written back and waiting for finalizers or the agent.
    Mark(Value),
    /// Gone at once; the tree is what the answer shows.
    Remove(Value),
}

/// Decides a deletion.
pub(super) fn plan(kind: &Kind, old: &Value, options: &DeleteOptions, now: jiff::Timestamp) -> Plan {
    let mut new = old.clone();
    let wanted = collector_finalizers(kind, old, options);
    let finalizers_changed = wanted != finalizers(old);
    if finalizers_changed {
        set_finalizers(&mut new, &wanted);
    }
    let mut held = !wanted.is_empty() || namespace_held(kind, old);
    if is_namespace(kind) {
        new["status"]["phase"] = "Terminating".into();
    }
    if let Some(deadline) = deletion_timestamp(old) {
        return replan(old, new, deadline, options, held, finalizers_changed);
    }
    if kind.plural == "customresourcedefinitions" && kind.group == "apiextensions.k8s.io" {
        // Its objects go first.
        crate::custom::mark(&mut new, &respond::time_text(now));
        held = true;
    }
    // Less than nothing is a second, as upstream.
    let asked = options.grace_period_seconds.map(at_least_nothing);
    match kind.strategy().grace_period_seconds(old, asked) {
        Some(grace) => {
            mark(&mut new, now, grace);
            if grace > 0 || held {
                Plan::Mark(new)
            } else {
                Plan::Remove(new)
            }
        }
        None if held => {
            mark(&mut new, now, 0);
            if is_namespace(kind)
                && let Some(metadata) = new["metadata"].as_object_mut()
            {
                metadata.remove("deletionGracePeriodSeconds");
            }
            Plan::Mark(new)
        }
        None => Plan::Remove(new),
    }
}

/// A deletion of what is being deleted: only a shorter grace period counts.
fn replan(
    old: &Value,
    mut new: Value,
    deadline: &str,
    options: &DeleteOptions,
    held: bool,
    finalizers_changed: bool,
) -> Plan {
    let pending = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    if pending > 0 {
        let asked = options.grace_period_seconds.map(at_least_nothing);
        let Some(asked) = asked.filter(|g| *g < pending) else {
            return Plan::Pending;
        };
        if let Ok(deadline) = deadline.parse::<jiff::Timestamp>()
            && let Ok(sooner) = deadline.checked_sub(jiff::SignedDuration::from_secs(pending - asked))
        {
            new["metadata"]["deletionTimestamp"] = respond::time_text(sooner).into();
        }
        new["metadata"]["deletionGracePeriodSeconds"] = asked.into();
        return if asked > 0 || held {
            Plan::Mark(new)
        } else {
            Plan::Remove(new)
        };
    }
    match (held, finalizers_changed) {
        (false, _) => Plan::Remove(new),
        (true, true) => Plan::Mark(new),
        (true, false) => Plan::Pending,
    }
}

fn at_least_nothing(seconds: i64) -> i64 {
    if seconds < 0 { 1 } else { seconds }
}

fn is_namespace(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "namespaces"
}

fn namespace_held(kind: &Kind, object: &Value) -> bool {
    is_namespace(kind) && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

fn mark(object: &mut Value, now: jiff::Timestamp, grace: i64) {
    let deadline = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
    let metadata = &mut object["metadata"];
    metadata["deletionTimestamp"] = respond::time_text(deadline).into();
    metadata["deletionGracePeriodSeconds"] = grace.into();
    // What is being deleted behaves differently: observers of the generation must see it.
    if let Some(generation) = metadata["generation"].as_i64().filter(|g| *g > 0) {
        metadata["generation"] = (generation + 1).into();
    }
}

/// The finalizers after the propagation policy has had its say.
fn collector_finalizers<'a>(kind: &Kind, object: &'a Value, options: &DeleteOptions) -> Vec<&'a str> {
    let present = finalizers(object);
    // Nothing depends on an event.
    if kind.plural == "events" {
        return present;
    }
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (policy == Propagation::Orphan, policy == Propagation::Foreground),
        (None, None) if present.contains(&ORPHAN) || present.contains(&FOREGROUND) => {
            (present.contains(&ORPHAN), present.contains(&FOREGROUND))
        }
        (None, None) => (orphans_by_default(kind), false),
    };
    let mut wanted: Vec<&str> = present
        .iter()
        .copied()
        .filter(|f| (*f != ORPHAN || orphan) && (*f != FOREGROUND || foreground))
        .collect();
    if orphan && !wanted.contains(&ORPHAN) {
        wanted.push(ORPHAN);
    }
    if foreground && !wanted.contains(&FOREGROUND) {
        wanted.push(FOREGROUND);
    }
    wanted
}

fn set_finalizers(object: &mut Value, wanted: &[&str]) {
    if wanted.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("finalizers");
        }
    } else {
        object["metadata"]["finalizers"] = wanted.iter().map(|f| Value::from(*f)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(plural: &str) -> &'static Kind {
        skiff_kinds::find("", plural).unwrap()
    }

    fn options(propagation: Option<Propagation>, grace: Option<i64>) -> DeleteOptions {
        DeleteOptions {
            propagation,
            grace_period_seconds: grace,
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn plans() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let map = json!({"metadata": {"name": "m"}});
        assert!(matches!(
            plan(kind("configmaps"), &map, &options(None, None), now),
            Plan::Remove(_)
        ));
        let Plan::Mark(new) = plan(
            kind("configmaps"),
            &map,
            &options(Some(Propagation::Foreground), None),
            now,
        ) else {
            panic!()
        };
        assert_eq!(new["metadata"]["finalizers"], json!([FOREGROUND]));
        assert_eq!(new["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
        // Deleting it again without a policy keeps waiting; with Background it goes.
        assert_eq!(plan(kind("configmaps"), &new, &options(None, None), now), Plan::Pending);
        assert!(matches!(
            plan(
                kind("configmaps"),
                &new,
                &options(Some(Propagation::Background), None),
                now
            ),
            Plan::Remove(_)
        ));
        let namespace =
            json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let Plan::Mark(new) = plan(kind("namespaces"), &namespace, &options(None, None), now) else {
            panic!()
        };
        assert_eq!(new["status"]["phase"], "Terminating");
        assert_eq!(plan(kind("namespaces"), &new, &options(None, None), now), Plan::Pending);
    }

    #[test]
    fn bound_pods_wait_for_their_agent() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pod = json!({"metadata": {"name": "p", "generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        let Plan::Mark(marked) = plan(kind("pods"), &pod, &options(None, None), now) else {
            panic!()
        };
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(marked["metadata"]["generation"], 2);
        assert_eq!(
            plan(kind("pods"), &marked, &options(None, Some(40)), now),
            Plan::Pending
        );
        let Plan::Mark(sooner) = plan(kind("pods"), &marked, &options(None, Some(5)), now) else {
            panic!()
        };
        assert_eq!(sooner["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
        assert!(matches!(
            plan(kind("pods"), &marked, &options(None, Some(0)), now),
            Plan::Remove(_)
        ));
        let unbound = json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 30}, "status": {"phase": "Pending"}});
        assert!(matches!(
            plan(kind("pods"), &unbound, &options(None, None), now),
            Plan::Remove(_)
        ));
    }

    #[test]
    fn negative_grace_is_a_second_and_policies_have_defaults() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        let Plan::Mark(marked) = plan(kind("pods"), &pod, &options(None, Some(-5)), now) else {
            panic!()
        };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 1);
        let some = json!({"metadata": {"name": "m"}});
        let jobs = skiff_kinds::find("batch", "jobs").unwrap();
        for kind in [jobs, kind("replicationcontrollers")] {
            let Plan::Mark(marked) = plan(kind, &some, &options(None, None), now) else {
                panic!("{}", kind.plural)
            };
            assert_eq!(marked["metadata"]["finalizers"], json!([ORPHAN]));
            let background = options(Some(Propagation::Background), None);
            assert!(matches!(plan(kind, &some, &background, now), Plan::Remove(_)));
        }
        let orphan = options(Some(Propagation::Orphan), None);
        assert!(matches!(plan(kind("events"), &some, &orphan, now), Plan::Remove(_)));
    }

    #[test]
    fn bodies_say_what_is_wrong() {
        let invalid = "DeleteOptions.meta.k8s.io \"\" is invalid: ";
        let cases = [
            (
                json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
                format!(
                    "{invalid}propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set"
                ),
            ),
            (
                json!({"propagationPolicy": "x"}),
                format!(
                    "{invalid}propagationPolicy: Unsupported value: \"x\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                ),
            ),
            (
                json!({"dryRun": ["x"]}),
                format!("{invalid}dryRun: Unsupported value: []string{{\"x\"}}: supported values: \"All\""),
            ),
        ];
        for (body, message) in cases {
            let error = DeleteOptions::of_body(&body).unwrap_err();
            assert_eq!((error.code, error.message), (422, message), "{body}");
        }
    }
}
