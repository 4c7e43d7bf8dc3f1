//! Events in their core form, which is also how events.k8s.io ones are stored.

use crate::check::{Errors, Path};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::row::{cell, integer, text, wide};
use crate::rules::Rules;
use crate::tree::{Tree, object, set_text};
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
        set_text(o, "type", "Normal");
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
    validate: |o| gather(|errors| involved(o, errors)),
    ..BASE
};

/// Events written through events.k8s.io/v1 obey that group's stricter rules.
pub(crate) static STRICT: Rules = Rules {
    validate: |o| {
        gather(|errors| {
            involved(o, errors);
            strict(o, errors);
        })
    },
    ..BASE
};

fn involved(o: &Value, errors: &mut Errors) {
    let (own, about) = (o.text("metadata.namespace"), o.text("involvedObject.namespace"));
    let ok = if about.is_empty() {
        matches!(own, "default" | "kube-system" | "")
    } else {
        own == about || own.is_empty()
    };
    if !ok {
        errors.invalid(
            &Path::new("involvedObject.namespace"),
            about,
            "does not match event.namespace",
        );
    }
}

fn strict(o: &Value, errors: &mut Errors) {
    if !o.has("eventTime") {
        errors.required(&Path::new("eventTime"), "");
        return;
    }
    for (key, shown) in [
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ] {
        if o.text(key).is_empty() {
            errors.required(&Path::new(shown), "");
        }
    }
    if !matches!(o.text("type"), "Normal" | "Warning") {
        errors.invalid(&Path::new("type"), "", "has invalid value: ");
    }
    if o.text("message").len() > 1024 {
        errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
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
