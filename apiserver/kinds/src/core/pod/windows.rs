//! Checks of `windowsOptions`, and of pods whose containers run as host processes.

use super::container::LISTS;
use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;

const CREDENTIALS_BYTES_MAX: usize = 64 * 1024;
const DOMAIN_CHARS_MAX: usize = 256;
const USER_CHARS_MAX: usize = 104;

pub(super) fn options(options: &Value, path: &Path, errors: &mut Errors) {
    errors.name_at(options, path, "gmsaCredentialSpecName", names::dns_subdomain);
    if let Some(spec) = options.get("gmsaCredentialSpec").and_then(Value::as_str) {
        let at = path.of("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&at, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > CREDENTIALS_BYTES_MAX {
            errors.invalid(&at, spec, "gmsaCredentialSpec size must be under 64 KiB");
        }
    }
    if let Some(name) = options.get("runAsUserName").and_then(Value::as_str) {
        let at = path.of("runAsUserName");
        for fault in user_name(name) {
            errors.invalid(&at, name, fault);
        }
    }
}

/// `DOMAIN\user` or `user`.
fn user_name(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.chars().any(char::is_control) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut faults = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= DOMAIN_CHARS_MAX {
            faults.push("runAsUserName's Domain length must be under 256 characters");
        }
        if !is_net_bios(domain) && !is_dns(domain) {
            faults.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        faults.push("runAsUserName's User cannot be empty");
    } else if user.len() > USER_CHARS_MAX {
        faults.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        faults.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains([
        '"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']',
    ]) {
        faults.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    faults
}

fn is_net_bios(domain: &str) -> bool {
    let count = domain.chars().count();
    (1..=15).contains(&count)
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let b = label.as_bytes();
        (1..=63).contains(&b.len())
            && b[0].is_ascii_alphanumeric()
            && b[b.len() - 1].is_ascii_alphanumeric()
            && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
    })
}

/// All containers of a pod run as host processes or none, and then on its network.
pub(super) fn host_process(spec: &Value, path: &Path, errors: &mut Errors) {
    let option = |holder: &Value| holder.at("securityContext.windowsOptions.hostProcess").as_bool();
    let of_pod = option(spec);
    let (mut containers, mut host) = (0, 0);
    for list in LISTS {
        let at = path.of(list);
        for (i, container) in spec.items(list).iter().enumerate() {
            containers += 1;
            let own = option(container);
            if let (Some(pod), Some(own)) = (of_pod, own)
                && pod != own
            {
                let at = at.at(i);
                let at = at.of("securityContext");
                let at = at.of("windowsOptions");
                let text = format!("pod hostProcess value must be identical if both are specified, was {pod}");
                errors.invalid(&at.of("hostProcess"), own, &text);
            }
            host += usize::from(own.or(of_pod).unwrap_or(false));
        }
    }
    if host == 0 {
        return;
    }
    if host != containers {
        errors.invalid(
            path,
            "",
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        );
    }
    if !spec.flag("hostNetwork") {
        errors.invalid(
            &path.of("hostNetwork"),
            false,
            "hostNetwork must be true if pod contains any hostProcess containers",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::user_name;

    #[test]
    fn user_names() {
        for (name, faults) in [
            ("user", 0),
            ("NT AUTHORITY\\SYSTEM", 0),
            ("corp.example.com\\user", 0),
            ("", 1),
            ("a\\b\\c", 1),
            ("a\nb", 1),
            ("a:b\\user", 1),
            ("corp\\", 1),
            ("...", 1),
            ("us@er", 1),
        ] {
            assert_eq!(user_name(name).len(), faults, "{name}");
        }
    }
}
