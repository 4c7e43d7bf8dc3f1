//! Cron jobs.

use super::{job, schedule};
use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::{self, gather};
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::tree::{Tree, existing, object, set_default, set_text};
use crate::workload;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::FieldError;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Schedule", "When jobs are made, in cron's notation."),
    text("Timezone", "Time zone of the schedule."),
    text("Suspend", "Whether no further jobs are made."),
    integer("Active", "Jobs that run now."),
    text("Last Schedule", "Time since the last job was made."),
    AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    workload::SELECTOR,
];

pub(super) static STRATEGY: Rules = Rules {
    default,
    prepare_create: |o| workload::status(o, json!({})),
    validate,
    validate_create,
    validate_update,
    warnings: |o| {
        let mut out = workload::name_warnings(o);
        out.extend(job::spec_warnings(
            o.at("spec.jobTemplate.spec"),
            "spec.jobTemplate.spec",
        ));
        if o.text("spec.schedule").contains("TZ") {
            out.push("CRON_TZ or TZ used in spec.schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".into());
        }
        out
    },
    row,
    ..Rules::SPLIT
};

fn default(o: &mut Value) {
    let Some(spec) = object(o, "spec") else { return };
    set_text(spec, "concurrencyPolicy", "Allow");
    set_default(spec, "suspend", false);
    set_default(spec, "successfulJobsHistoryLimit", 3);
    set_default(spec, "failedJobsHistoryLimit", 1);
    let template = existing(spec, "jobTemplate")
        .and_then(|t| existing(t, "spec"))
        .and_then(|s| existing(s, "template"));
    if let Some(template) = template {
        pod::defaults::template(template);
    }
}

/// Eleven characters stay for the suffix of the jobs' names.
const NAME_MAX: usize = 52;

fn validate_create(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let name = o.text("metadata.name");
        if name.len() > NAME_MAX {
            let text = format!("must be no more than {NAME_MAX} characters");
            errors.invalid(&Path::new("metadata.name"), name, &text);
        }
        zone(o, errors);
        let schedule = o.text("spec.schedule");
        if schedule.contains("TZ") {
            errors.invalid(
                &Path::new("spec.schedule"),
                schedule,
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            );
        }
    })
}

fn validate_update(sub: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    gather(|errors| {
        if !sub.is_empty() {
            return;
        }
        if new.at("spec.timeZone") != old.at("spec.timeZone") {
            zone(new, errors);
        }
        let (schedule, path) = (new.text("spec.schedule"), Path::new("spec.schedule"));
        let zoned = schedule.contains("TZ");
        match old.text("spec.schedule").contains("TZ") {
            true if zoned && new.has("spec.timeZone") => errors.invalid(
                &path,
                schedule,
                "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            ),
            false if zoned => errors.invalid(
                &path,
                schedule,
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            _ => {}
        }
    })
}

fn zone(o: &Value, errors: &mut Errors) {
    if let Some(zone) = o.at("spec").get("timeZone").and_then(Value::as_str)
        && let Some(why) = schedule::zone_fault(zone)
    {
        errors.invalid(&Path::new("spec.timeZone"), zone, &why);
    }
}

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        match spec.text("schedule") {
            "" => errors.required(&path.of("schedule"), ""),
            text => {
                if let Err(why) = schedule::check(text) {
                    errors.invalid(&path.of("schedule"), text, &why);
                }
            }
        }
        errors.non_negative(spec, &path, "startingDeadlineSeconds");
        errors.choice(spec, &path, "concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
        let at = path.of("jobTemplate");
        let below = at.of("spec");
        let job = spec.at("jobTemplate.spec");
        super::validate::spec(job, &below, errors);
        if job.has("selector") {
            errors.invalid(
                &below.of("selector"),
                job.at("selector").clone(),
                "`selector` will be auto-generated",
            );
        }
        if job.flag("manualSelector") {
            errors.not_supported_value(&below.of("manualSelector"), &Value::Bool(true), &["nil", "false"]);
        }
        for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            errors.non_negative(spec, &path, key);
        }
    })
}

fn row(o: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = cell::containers(o.at("spec.jobTemplate.spec.template.spec"));
    let last = if o.has("status.lastScheduleTime") {
        cell::since(o, "status.lastScheduleTime", now)
    } else {
        "<none>".into()
    };
    vec![
        cell::name(o),
        cell::text(o, "spec.schedule"),
        cell::text_or(o, "spec.timeZone", "<none>"),
        cell::truth(o.at("spec.suspend")),
        cell::count(o, "status.active"),
        last,
        cell::age(o, now),
        containers,
        images,
        crate::selector::text(o.at("spec.jobTemplate.spec.selector")).into(),
    ]
}
