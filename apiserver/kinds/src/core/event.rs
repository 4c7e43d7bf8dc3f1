//! Events in their core form, which is also how events.k8s.io ones are stored.

use crate::check::{Errors, IMMUTABLE, Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{cell, integer, text, wide};
use crate::rules::{NameRule, Rules};
use crate::tree::{Tree, object};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) const COLUMNS: &[Column] = &[
    text("Last Seen", "Time since it was last seen."),
    text("Type", "Normal or Warning."),
    text("Reason", "Short, machine-readable reason."),
    text("Object", "What it is about."),
    wide("Subobject", "Part of the object that it is about."),
    wide("Source", "Who reports it."),
    text("Message", "What happened."),
    wide("First Seen", "Time since it was first seen."),
    Column {
        priority: 1,
        ..integer("Count", "How often it was seen.")
    },
    Column {
        priority: 1,
        ..crate::row::NAME
    },
];

const BASE: Rules = Rules {
    default: |o| {
        object(o, "source");
    },
    row,
    fields,
    field_names: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    ..Rules::BASE
};

pub(crate) static STRATEGY: Rules = Rules {
    // Upstream looks at the metadata of events in the newer group only.
    name: NameRule::PathSegment,
    validate: |o| gather(|errors| lenient(o, errors)),
    ..BASE
};

/// Events written through events.k8s.io/v1 obey that group's stricter rules.
pub(crate) static STRICT: Rules = Rules {
    validate: |o| gather(|errors| lenient(o, errors)),
    validate_create: |o| gather(|errors| strict(o, errors)),
    validate_update: |_, new, old| {
        gather(|errors| {
            if new.at("series") != old.at("series") {
                series(new, errors);
            }
            for (key, shown) in UNCHANGING {
                if !same(new.at(key), old.at(key)) {
                    errors.invalid(&Path::new(shown), new.at(key).clone(), IMMUTABLE);
                }
            }
        })
    },
    ..BASE
};

/// Everything but the series, under the names that errors show.
const UNCHANGING: [(&str, &str); 13] = [
    ("involvedObject", "involvedObject"),
    ("reason", "reason"),
    ("message", "message"),
    ("source", "source"),
    ("firstTimestamp", "firstTimestamp"),
    ("lastTimestamp", "lastTimestamp"),
    ("count", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

/// What every event must be: new ones, known by their time, say who reports them.
fn lenient(o: &Value, errors: &mut Errors) {
    const NAME_MAX: usize = 128;
    const NOTE_MAX: usize = 1024;
    let (own, about) = (o.text("metadata.namespace"), o.text("involvedObject.namespace"));
    let timed = o.has("eventTime");
    let fine = match (timed, about.is_empty()) {
        (false, true) => matches!(own, "default" | ""),
        (false, false) => own == about,
        (true, true) => matches!(own, "default" | "kube-system"),
        (true, false) => true,
    };
    if !fine {
        errors.invalid(
            &Path::new("involvedObject.namespace"),
            about,
            "does not match event.namespace",
        );
    }
    if timed {
        let controller = o.text("reportingComponent");
        let at = Path::new("reportingController");
        if controller.is_empty() {
            errors.required(&at, "");
        }
        errors.all(&at, controller, names::qualified_name(controller));
        for key in ["reportingInstance", "action", "reason"] {
            let (at, text) = (Path::new(key), o.text(key));
            if text.is_empty() {
                errors.required(&at, "");
            }
            if text.len() > NAME_MAX {
                errors.invalid(&at, "", &format!("can have at most {NAME_MAX} characters"));
            }
        }
        if o.text("message").len() > NOTE_MAX {
            let text = format!("can have at most {NOTE_MAX} characters");
            errors.invalid(&Path::new("message"), "", &text);
        }
    }
}

fn series(o: &Value, errors: &mut Errors) {
    if !o.has("series") {
        return;
    }
    if o.int("series.count").unwrap_or(0) < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if !o.has("series.lastObservedTime") {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

fn strict(o: &Value, errors: &mut Errors) {
    series(o, errors);
    if !o.has("eventTime") {
        errors.required(&Path::new("eventTime"), "");
    }
    let kind = o.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&Path::new("type"), "", &format!("has invalid value: {kind}"));
    }
    let source = !o.text("source.component").is_empty() || !o.text("source.host").is_empty();
    for (key, set) in [
        ("firstTimestamp", o.has("firstTimestamp")),
        ("lastTimestamp", o.has("lastTimestamp")),
        ("count", o.int("count").unwrap_or(0) != 0),
        ("source", source),
    ] {
        if set {
            errors.invalid(&Path::new(key), "", "needs to be unset");
        }
    }
}

fn component(o: &Value) -> &str {
    match o.text("source.component") {
        "" => o.text("reportingComponent"),
        text => text,
    }
}

fn fields(o: &Value) -> Vec<(&'static str, String)> {
    let text = |path: &str| o.text(path).to_string();
    vec![
        ("involvedObject.kind", text("involvedObject.kind")),
        ("involvedObject.namespace", text("involvedObject.namespace")),
        ("involvedObject.name", text("involvedObject.name")),
        ("involvedObject.uid", text("involvedObject.uid")),
        ("involvedObject.apiVersion", text("involvedObject.apiVersion")),
        ("involvedObject.resourceVersion", text("involvedObject.resourceVersion")),
        ("involvedObject.fieldPath", text("involvedObject.fieldPath")),
        ("reason", text("reason")),
        ("reportingComponent", text("reportingComponent")),
        ("source", component(o).to_string()),
        ("type", text("type")),
    ]
}

fn row(o: &Value, now: Timestamp) -> Vec<Value> {
    let event_time = if o.has("eventTime") {
        "eventTime"
    } else {
        "firstTimestamp"
    };
    let first = if o.has("firstTimestamp") {
        "firstTimestamp"
    } else {
        event_time
    };
    let (last, count) = if o.has("series") {
        ("series.lastObservedTime", o.int("series.count").unwrap_or(0))
    } else {
        (
            if o.has("lastTimestamp") { "lastTimestamp" } else { first },
            o.int("count").unwrap_or(0).max(1),
        )
    };
    let kind = o.text("involvedObject.kind").to_lowercase();
    let name = o.text("involvedObject.name");
    let about = if name.is_empty() {
        kind
    } else {
        format!("{kind}/{name}")
    };
    let host = match o.text("source.host") {
        "" => o.text("reportingInstance"),
        host => host,
    };
    let source = if host.is_empty() {
        component(o).to_string()
    } else {
        format!("{}, {host}", component(o))
    };
    vec![
        cell::since(o, last, now),
        cell::text(o, "type"),
        cell::text(o, "reason"),
        about.into(),
        cell::text(o, "involvedObject.fieldPath"),
        source.into(),
        o.text("message").trim().into(),
        cell::since(o, first, now),
        json!(count),
        cell::name(o),
    ]
}
