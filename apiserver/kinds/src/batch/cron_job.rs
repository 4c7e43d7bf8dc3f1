//! Cron jobs.

use super::job;
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
    warnings: |o| {
        pod::warnings(
            o.at("spec.jobTemplate.spec.template.spec"),
            "spec.jobTemplate.spec.template.spec",
        )
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

fn validate(o: &Value) -> Vec<FieldError> {
    gather(|errors| {
        let path = Path::new("spec");
        let spec = o.at("spec");
        let name = o.text("metadata.name");
        if name.len() > NAME_MAX {
            errors.invalid(&Path::new("metadata.name"), name, "must be no more than 52 bytes");
        }
        schedule(spec.text("schedule"), &path.of("schedule"), errors);
        let zone = spec.text("timeZone");
        if spec.has("timeZone") && (zone.is_empty() || zone.eq_ignore_ascii_case("local")) {
            errors.invalid(
                &path.of("timeZone"),
                zone,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            );
        }
        for key in [
            "startingDeadlineSeconds",
            "successfulJobsHistoryLimit",
            "failedJobsHistoryLimit",
        ] {
            errors.non_negative(spec, &path, key);
        }
        errors.choice(spec, &path, "concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
        let at = path.of("jobTemplate");
        let below = at.of("spec");
        if spec.at("jobTemplate.spec").has("manualSelector") && spec.flag("jobTemplate.spec.manualSelector") {
            errors.not_supported(&below.of("manualSelector"), "true", &["nil", "false"]);
        }
        job::validate_spec(spec.at("jobTemplate.spec"), &below, false, errors);
    })
}

const MACROS: [&str; 8] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
    "@reboot",
];

/// Five fields of cron, or a macro. Ranges of values are checked, not months' lengths.
fn schedule(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    if text.contains("TZ") {
        errors.invalid(
            path,
            text,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        );
        return;
    }
    if text.starts_with('@') {
        if !MACROS[..7].contains(&text) && !text.starts_with("@every ") {
            errors.invalid(path, text, &format!("unrecognized descriptor: {text}"));
        }
        return;
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        errors.invalid(
            path,
            text,
            &format!(
                "expected exactly 5 fields, found {}: [{}]",
                fields.len(),
                fields.join(" ")
            ),
        );
        return;
    }
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    for (field, (min, max)) in fields.iter().zip(bounds) {
        if let Err(why) = field.split(',').try_for_each(|part| cron_part(part, min, max)) {
            errors.invalid(path, text, &why);
            return;
        }
    }
}

const WORDS: &str = "jan feb mar apr may jun jul aug sep oct nov dec sun mon tue wed thu fri sat";

fn cron_part(part: &str, min: u32, max: u32) -> Result<(), String> {
    let (range, step) = part.split_once('/').map_or((part, None), |(r, s)| (r, Some(s)));
    if let Some(step) = step
        && step.parse::<u32>().map_or(true, |n| n == 0)
    {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if range == "*" || range == "?" {
        return Ok(());
    }
    let number = |text: &str| -> Result<Option<u32>, String> {
        if WORDS.split(' ').any(|w| w.eq_ignore_ascii_case(text)) {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
    };
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    let (from, to) = (number(from)?, number(to)?);
    if let Some(low) = from.filter(|n| *n < min) {
        return Err(format!("beginning of range ({low}) below minimum ({min}): {part}"));
    }
    if let Some(high) = to.filter(|n| *n > max) {
        return Err(format!("end of range ({high}) above maximum ({max}): {part}"));
    }
    match (from, to) {
        (Some(a), Some(b)) if a > b => Err(format!("beginning of range ({a}) beyond end of range ({b}): {part}")),
        _ => Ok(()),
    }
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
