//! What a job's status may say, and how it may change. A rule is looked at only when
//! what it is about changes, so that a wrong status can be mended step by step.

use super::indexes;
use crate::check::{Errors, Path, same};
use crate::tree::Tree;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// One side of an update.
struct Side<'a> {
    job: &'a Value,
    status: &'a Value,
}

impl<'a> Side<'a> {
    fn of(job: &'a Value) -> Self {
        Self {
            job,
            status: job.at("status"),
        }
    }

    fn is(&self, kind: &str) -> bool {
        self.status
            .items("conditions")
            .iter()
            .any(|c| c.text("type") == kind && c.text("status") == "True")
    }

    fn is_finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn count(&self, key: &str) -> i64 {
        self.status.int(key).unwrap_or(0)
    }

    fn time(&self, key: &str) -> Option<Timestamp> {
        self.status.text(key).parse().ok()
    }

    fn is_indexed(&self) -> bool {
        self.job.text("spec.completionMode") == "Indexed"
    }
}

pub(super) fn check(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Side::of(new), Side::of(old));
    let path = Path::new("status");
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.non_negative(new.status, &path, key);
    }
    uncounted(&new, &path.of("uncountedTerminatedPods"), errors);
    conditions(&new, &old, &path.of("conditions"), errors);
    times(&new, &old, &path, errors);
    finished(&new, &old, &path, errors);
    index_texts(&new, &old, &path, errors);
    counters(&new, &old, &path, errors);
}

/// Pods that ended and are not counted yet: each once.
fn uncounted(new: &Side, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        let at = path.of(list);
        for (i, uid) in new.status.at("uncountedTerminatedPods").items(list).iter().enumerate() {
            let uid = uid.as_str().unwrap_or("");
            if uid.is_empty() {
                errors.invalid(&at.at(i), uid, "must not be empty");
            } else if !seen.insert(uid) {
                errors.duplicate(&at.at(i), uid);
            }
        }
    }
}

fn conditions(new: &Side, old: &Side, path: &Path, errors: &mut Errors) {
    let changed = |kind: &str| new.is(kind) != old.is(kind);
    let (complete, failed) = (new.is("Complete"), new.is("Failed"));
    let (met, target) = (new.is("SuccessCriteriaMet"), new.is("FailureTarget"));
    let mut refuse = |wrong: bool, text: &str| {
        if wrong {
            errors.invalid_unshown(path, text);
        }
    };
    refuse(
        (changed("Complete") || changed("Failed")) && complete && failed,
        "cannot set Complete=True and Failed=true conditions",
    );
    refuse(
        (changed("Complete") || changed("FailureTarget")) && complete && target,
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    refuse(
        (changed("Failed") || changed("FailureTarget")) && failed && !target,
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        (changed("Complete") || changed("SuccessCriteriaMet")) && complete && !met,
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    refuse(
        met && failed,
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    );
    refuse(
        met && target,
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    refuse(
        new.job.has("spec.successPolicy") && !met && complete,
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
    for kind in ["Failed", "Complete", "FailureTarget"] {
        refuse(
            old.is(kind) && !new.is(kind),
            &format!("cannot disable the terminal {kind}=True condition"),
        );
    }
    refuse(
        old.is("SuccessCriteriaMet") && !met,
        "cannot disable the SuccessCriteriaMet=True condition",
    );
    refuse(
        old.is("Complete") && !old.is("SuccessCriteriaMet") && met,
        "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
    );
}

fn times(new: &Side, old: &Side, path: &Path, errors: &mut Errors) {
    let started = new.status.at("startTime") != old.status.at("startTime");
    let ended = new.status.at("completionTime") != old.status.at("completionTime");
    let complete = new.is("Complete");
    let looked_at = complete != old.is("Complete") || ended;
    let at = path.of("completionTime");
    let time = || new.status.at("completionTime").clone();
    if looked_at && new.status.has("completionTime") && !complete {
        errors.invalid(
            &at,
            time(),
            "cannot set completionTime when there is no Complete=True condition",
        );
    }
    if looked_at && !new.status.has("completionTime") && complete {
        errors.required(&at, "completionTime is required for Complete jobs");
    }
    if started || ended {
        let both = new.time("startTime").zip(new.time("completionTime"));
        if both.is_some_and(|(start, end)| end < start) {
            errors.invalid(&at, time(), "completionTime cannot be set before startTime");
        }
    }
    if ended && new.status.has("completionTime") && old.status.has("completionTime") {
        errors.invalid(&at, time(), "completionTime cannot be mutated");
    }
    if started && old.status.has("startTime") && !new.job.flag("spec.suspend") {
        errors.required(&path.of("startTime"), "startTime cannot be removed for unsuspended job");
    }
}

fn finished(new: &Side, old: &Side, path: &Path, errors: &mut Errors) {
    if !new.is_finished() {
        return;
    }
    let turned = !old.is_finished();
    let changed = |key: &str| turned || !same(new.status.at(key), old.status.at(key));
    let active = new.count("active");
    if changed("active") && active > 0 {
        errors.invalid(&path.of("active"), active, "active>0 is invalid for finished job");
    }
    if changed("startTime") && !new.status.has("startTime") {
        errors.required(&path.of("startTime"), "startTime is required for finished job");
    }
    let uncounted = new.status.at("uncountedTerminatedPods");
    let left = uncounted.items("succeeded").len() + uncounted.items("failed").len();
    if changed("uncountedTerminatedPods") && left > 0 {
        errors.invalid(
            &path.of("uncountedTerminatedPods"),
            uncounted.clone(),
            "uncountedTerminatedPods needs to be empty for finished job",
        );
    }
    let terminating = new.count("terminating");
    if changed("terminating") && terminating > 0 {
        errors.invalid(
            &path.of("terminating"),
            terminating,
            "terminating>0 is invalid for finished job",
        );
    }
}

fn index_texts(new: &Side, old: &Side, path: &Path, errors: &mut Errors) {
    let (done, lost) = (new.status.text("completedIndexes"), new.status.at("failedIndexes"));
    let done_changed = done != old.status.text("completedIndexes");
    let lost_changed = *lost != *old.status.at("failedIndexes");
    let completions = new.job.int("spec.completions");
    let (done_at, lost_at) = (path.of("completedIndexes"), path.of("failedIndexes"));
    if let Some(completions) = completions {
        if done_changed && let Err(why) = indexes::count(done, completions) {
            errors.invalid(&done_at, done, &format!("error parsing completedIndexes: {why}"));
        }
        if lost_changed
            && new.job.has("spec.backoffLimitPerIndex")
            && let Some(text) = lost.as_str()
            && let Err(why) = indexes::count(text, completions)
        {
            errors.invalid(&lost_at, text, &format!("error parsing failedIndexes: {why}"));
        }
    }
    if done_changed && !done.is_empty() && !new.is_indexed() {
        errors.invalid(
            &done_at,
            done,
            "cannot set non-empty completedIndexes when non-indexed completion mode",
        );
    }
    if lost_changed && !lost.is_null() && !new.job.has("spec.backoffLimitPerIndex") {
        errors.invalid(
            &lost_at,
            lost.clone(),
            "cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        );
    }
    if (done_changed || lost_changed)
        && let (Some(completions), Some(text)) = (completions, lost.as_str())
        && let Some(index) = indexes::overlap(done, text, completions)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.invalid(&lost_at, text, &why);
    }
}

fn counters(new: &Side, old: &Side, path: &Path, errors: &mut Errors) {
    let changed = |key: &str| new.count(key) != old.count(key);
    let ready = new.count("ready");
    if (changed("ready") || changed("active")) && ready > new.count("active") {
        errors.invalid(&path.of("ready"), ready, "cannot set more ready pods than active");
    }
    if new.count("failed") < old.count("failed") {
        errors.invalid(
            &path.of("failed"),
            new.count("failed"),
            "cannot decrease the failed counter",
        );
    }
    // An indexed job whose two figures are one may be made smaller.
    let elastic = new.is_indexed() && new.job.int("spec.completions") == new.job.int("spec.parallelism");
    if !elastic && new.count("succeeded") < old.count("succeeded") {
        errors.invalid(
            &path.of("succeeded"),
            new.count("succeeded"),
            "cannot decrease the succeeded counter",
        );
    }
}
