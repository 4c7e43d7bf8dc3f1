//! Checks of `dnsConfig`. The figures are those of the resolver in Linux' libc.

use crate::check::{Errors, Path};
use crate::names;
use crate::tree::Tree;
use serde_json::Value;

const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

pub(super) fn check(spec: &Value, path: &Path, errors: &mut Errors) {
    let config = spec.at("dnsConfig");
    let at = path.of("dnsConfig");
    let servers = config.items("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(&at, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(
                &at.of("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
            return;
        }
    }
    if servers.len() > SERVERS_MAX {
        let text = format!("must not have more than {SERVERS_MAX} nameservers");
        errors.invalid(&at.of("nameservers"), servers.to_vec(), &text);
    }
    for (i, server) in servers.iter().enumerate() {
        let text = server.as_str().unwrap_or("");
        errors.all(&at.of("nameservers").at(i), text, names::ip(text));
    }
    let searches = config.items("searches");
    let list = at.of("searches");
    if searches.len() > SEARCHES_MAX {
        let text = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&list, searches.to_vec(), &text);
    }
    let chars: usize = searches.iter().filter_map(Value::as_str).map(str::len).sum();
    if chars + searches.len().saturating_sub(1) > SEARCH_CHARS_MAX {
        let text =
            format!("must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list");
        errors.invalid(&list, searches.to_vec(), &text);
    }
    for (i, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        if search != "." {
            let bare = search.strip_suffix('.').unwrap_or(search);
            errors.all(&list.at(i), bare, names::underscored_subdomain(bare));
        }
    }
    for (i, option) in config.items("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&at.of("options").at(i), "must not be empty");
        }
    }
}
