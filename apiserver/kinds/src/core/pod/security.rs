//! Checks of security contexts, and of what each operating system leaves out.

use super::container::LISTS;
use super::{volume, windows};
use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

const ID_MAX: i64 = i32::MAX as i64;
/// The longest path that Linux takes, without the closing zero.
const PROFILE_BYTES_MAX: usize = 4095;
const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

/// Whether the pod shares the host's user namespace; it does unless it says no.
pub(super) fn host_users(spec: &Value) -> bool {
    spec.at("hostUsers").as_bool().unwrap_or(true)
}

pub(super) fn of_container(context: &Value, host_users: bool, path: &Path, errors: &mut Errors) {
    if context.is_null() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        errors.range(context, path, key, 0, ID_MAX);
    }
    let mount = context.text("procMount");
    if !mount.is_empty() {
        let at = path.of("procMount");
        if !matches!(mount, "Default" | "Unmasked") {
            errors.not_supported(&at, mount, &["Default", "Unmasked"]);
        }
        if host_users && mount == "Unmasked" {
            errors.invalid(&at, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(context, path, errors);
    if context.at("allowPrivilegeEscalation") == &Value::Bool(false) {
        if context.flag("privileged") {
            errors.invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        for _ in context
            .items("capabilities.add")
            .iter()
            .filter(|c| *c == "CAP_SYS_ADMIN")
        {
            errors.invalid(
                path,
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    windows::options(context.at("windowsOptions"), &path.of("windowsOptions"), errors);
    app_armor(context, path, errors);
}

pub(super) fn of_pod(spec: &Value, path: &Path, errors: &mut Errors) {
    let context = spec.at("securityContext");
    let path = path.of("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        errors.range(context, &path, key, 0, ID_MAX);
    }
    for (i, group) in context.items("supplementalGroups").iter().enumerate() {
        if group.as_i64().is_none_or(|g| !(0..=ID_MAX).contains(&g)) {
            errors.invalid(
                &path.of("supplementalGroups").at(i),
                group.clone(),
                "must be between 0 and 2147483647, inclusive",
            );
        }
    }
    if spec.flag("hostPID") && spec.flag("shareProcessNamespace") {
        errors.invalid(
            &path.of("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    sysctls(spec, &path.of("sysctls"), errors);
    errors.optional_choice(context, &path, "fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
    seccomp(context, &path, errors);
    windows::options(context.at("windowsOptions"), &path.of("windowsOptions"), errors);
    app_armor(context, &path, errors);
    errors.optional_choice(context, &path, "supplementalGroupsPolicy", &["Merge", "Strict"]);
    errors.optional_choice(context, &path, "seLinuxChangePolicy", &["MountOption", "Recursive"]);
}

/// The namespace that a sysctl belongs to, where the host's must not be changed.
fn namespace(sysctl: &str) -> &'static str {
    let dotted = sysctl.replace('/', ".");
    if dotted.starts_with("net.") {
        "net"
    } else if dotted == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|p| dotted.starts_with(p))
    {
        "ipc"
    } else {
        ""
    }
}

fn sysctls(spec: &Value, list: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, sysctl) in spec.items("securityContext.sysctls").iter().enumerate() {
        let item = list.at(i);
        let path = item.of("name");
        let name = sysctl.text("name");
        if name.is_empty() {
            errors.required(&path, "");
        } else if !names::is_sysctl(name) {
            let text = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&path, name, text);
        } else if seen.contains(name) {
            errors.duplicate(&path, name);
        }
        for (host, of) in [("hostNetwork", "net"), ("hostIPC", "ipc")] {
            if spec.flag(host) && namespace(name) == of {
                errors.invalid(&path, name, &format!("may not be specified when '{host}' is true"));
            }
        }
        seen.insert(name);
    }
}

fn seccomp(context: &Value, path: &Path, errors: &mut Errors) {
    let Some(profile) = context.get("seccompProfile").filter(|p| p.is_object()) else {
        return;
    };
    let path = path.of("seccompProfile");
    let kind = profile.text("type");
    match kind {
        "" => errors.required(&path.of("type"), "type is required when seccompProfile is set"),
        kind if !PROFILES.contains(&kind) => errors.not_supported(&path.of("type"), kind, PROFILES),
        _ => {}
    }
    let at = path.of("localhostProfile");
    match (kind, profile.get("localhostProfile").and_then(Value::as_str)) {
        ("Localhost", None) => errors.required(&at, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(local)) => volume::descending_path(local, &at, errors),
        (_, Some(_)) => errors.invalid(&at, profile.clone(), "can only be set when seccomp type is Localhost"),
        (_, None) => {}
    }
}

fn app_armor(context: &Value, path: &Path, errors: &mut Errors) {
    let Some(profile) = context.get("appArmorProfile").filter(|p| p.is_object()) else {
        return;
    };
    let path = path.of("appArmorProfile");
    let at = path.of("localhostProfile");
    let local = profile.get("localhostProfile").and_then(Value::as_str);
    match (profile.text("type"), local) {
        ("Localhost", None) => errors.required(&at, "must be set when AppArmor type is Localhost"),
        ("Localhost", Some(local)) => {
            if local.trim() != local {
                errors.invalid(&at, local, "must not be padded with whitespace");
            } else if local.is_empty() {
                errors.required(&at, "must be set when AppArmor type is Localhost");
            }
            if local.len() > PROFILE_BYTES_MAX {
                errors.too_long(&at, PROFILE_BYTES_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(local)) => {
            errors.invalid(&at, local, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => errors.required(&path.of("type"), "type is required when appArmorProfile is set"),
        (other, _) => errors.not_supported(&path.of("type"), other, PROFILES),
    }
}

/// A pod with a user namespace of its own shares no other with the host.
pub(super) fn user_namespace(spec: &Value, path: &Path, errors: &mut Errors) {
    if host_users(spec) {
        return;
    }
    for (key, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.flag(key) {
            errors.forbidden(&path.of(shown), "when `pod.Spec.HostUsers` is false");
        }
    }
}

const NOT_ON_WINDOWS_POD: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const NOT_ON_WINDOWS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// `spec.os.name`, and what the operating system it names does not have.
pub(super) fn operating_system(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(os) = spec.get("os").filter(|o| o.is_object()) else {
        return;
    };
    let at = path.of("os");
    match os.text("name") {
        "" => errors.required(&at.of("name"), "cannot be empty"),
        "linux" => {
            const TEXT: &str = "windows options cannot be set for a linux pod";
            each_context(spec, path, &mut |context, path| {
                if context.has("windowsOptions") {
                    errors.forbidden(&path.of("windowsOptions"), TEXT);
                }
            });
        }
        "windows" => not_on_windows(spec, path, errors),
        other => errors.not_supported(&at, other, &["linux", "windows"]),
    }
}

/// The pod's security context, then those of all containers.
fn each_context(spec: &Value, path: &Path, visit: &mut dyn FnMut(&Value, &Path)) {
    visit(spec.at("securityContext"), &path.of("securityContext"));
    for list in LISTS {
        let at = path.of(list);
        for (i, container) in spec.items(list).iter().enumerate() {
            visit(container.at("securityContext"), &at.at(i).of("securityContext"));
        }
    }
}

fn not_on_windows(spec: &Value, path: &Path, errors: &mut Errors) {
    const TEXT: &str = "cannot be set for a windows pod";
    for key in ["hostUsers", "shareProcessNamespace"] {
        if spec.has(key) {
            errors.forbidden(&path.of(key), TEXT);
        }
    }
    for key in ["hostPID", "hostIPC"] {
        if spec.flag(key) {
            errors.forbidden(&path.of(key), TEXT);
        }
    }
    let mut keys: &[&str] = &NOT_ON_WINDOWS_POD;
    each_context(spec, path, &mut |context, path| {
        for key in keys.iter().filter(|k| context.has(k)) {
            let empty = context.at(key).as_array().is_some_and(Vec::is_empty);
            if !empty {
                errors.forbidden(&path.of(key), TEXT);
            }
        }
        keys = &NOT_ON_WINDOWS;
    });
}
