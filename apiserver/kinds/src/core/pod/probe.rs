//! Checks of probes and lifecycle hooks.

use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;

pub(super) const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// What the probes and hooks of a container need to know of its pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfPod<'a> {
    pub grace_seconds: Option<i64>,
    /// `spec.os.name`, empty if there is none.
    pub os: &'a str,
}

/// All probes and the hooks of a container that may have them.
pub(super) fn all(container: &Value, path: &Path, pod: OfPod, errors: &mut Errors) {
    if let Some(lifecycle) = container.get("lifecycle").filter(|l| l.is_object()) {
        let path = path.of("lifecycle");
        for key in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.get(key).filter(|h| h.is_object()) {
                handler(hook, &HOOK_HANDLERS, &path.of(key), pod, errors);
            }
        }
        stop_signal(lifecycle, &path.of("stopSignal"), pod.os, errors);
    }
    for key in PROBES {
        if let Some(probe) = container.get(key).filter(|p| p.is_object()) {
            self::probe(probe, key, &path.of(key), pod, errors);
        }
    }
}

fn probe(probe: &Value, kind: &str, path: &Path, pod: OfPod, errors: &mut Errors) {
    handler(probe, &PROBE_HANDLERS, path, pod, errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.non_negative(probe, path, key);
    }
    let grace = probe.int("terminationGracePeriodSeconds");
    let at = path.of("terminationGracePeriodSeconds");
    if let Some(seconds) = grace.filter(|s| *s <= 0) {
        errors.invalid(&at, seconds, "must be greater than 0");
    }
    match (kind, grace) {
        ("readinessProbe", Some(seconds)) => errors.invalid(&at, seconds, "must not be set for readinessProbes"),
        ("readinessProbe", None) => {}
        _ => {
            let threshold = probe.int("successThreshold").unwrap_or(0);
            if threshold != 1 {
                errors.invalid(&path.of("successThreshold"), threshold, "must be 1");
            }
        }
    }
}

/// A probe's or hook's handler: exactly one of `kinds`.
fn handler(holder: &Value, kinds: &[&str], path: &Path, pod: OfPod, errors: &mut Errors) {
    let present: Vec<&str> = kinds.iter().copied().filter(|k| holder.has(k)).collect();
    for extra in present.iter().skip(1) {
        errors.forbidden(&path.of(extra), "may not specify more than 1 handler type");
    }
    let Some(&key) = present.first() else {
        errors.required(path, "must specify a handler type");
        return;
    };
    let (action, path) = (holder.at(key), path.of(key));
    match key {
        "exec" if action.items("command").is_empty() => errors.required(&path.of("command"), ""),
        "httpGet" => {
            errors.text_required(action, &path, "path");
            port_or_name(action.at("port"), &path.of("port"), errors);
            let scheme = action.text("scheme");
            if !matches!(scheme, "HTTP" | "HTTPS") {
                errors.not_supported(&path.of("scheme"), scheme, &["HTTP", "HTTPS"]);
            }
            for header in action.items("httpHeaders") {
                let name = header.text("name");
                errors.all(&path.of("httpHeaders"), name, names::http_header(name));
            }
        }
        "tcpSocket" => port_or_name(action.at("port"), &path.of("port"), errors),
        "grpc" => errors.port(&path.of("port"), action.int("port").unwrap_or(0)),
        "sleep" => {
            let seconds = action.int("seconds").unwrap_or(0);
            if let Some(grace) = pod.grace_seconds
                && !(0..=grace).contains(&seconds)
            {
                let text = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.invalid(&path, seconds, &text);
            }
        }
        _ => {}
    }
}

/// A port by number or by name.
pub(crate) fn port_or_name(port: &Value, path: &Path, errors: &mut Errors) {
    match port {
        Value::String(name) => errors.all(path, name, names::port_name(name)),
        number => errors.port(path, number.as_i64().unwrap_or(0)),
    }
}

/// Signals that Linux containers can be stopped with, sorted as upstream lists them.
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
const WINDOWS_SIGNALS: &[&str] = &["SIGKILL", "SIGTERM"];

fn stop_signal(lifecycle: &Value, path: &Path, os: &str, errors: &mut Errors) {
    let signal = lifecycle.text("stopSignal");
    if signal.is_empty() {
        return;
    }
    let known = match os {
        "" => {
            errors.forbidden(path, "may not be set for containers with empty `spec.os.name`");
            return;
        }
        "windows" => WINDOWS_SIGNALS,
        _ => SIGNALS,
    };
    if !known.contains(&signal) {
        errors.not_supported(path, signal, known);
    }
}
