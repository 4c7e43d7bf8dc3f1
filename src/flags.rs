//! What this process was started with, for `/flagz`.

use crate::cli::Cli;
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Their values are nobody's business.
const SECRET: [&str; 1] = ["token"];

/// The values of all flags of the command that is run, given or not.
pub fn values(arguments: &[OsString]) -> BTreeMap<String, String> {
    let command = Cli::command();
    let Ok(matches) = command.clone().try_get_matches_from(arguments) else {
        return BTreeMap::new();
    };
    let Some((name, matches)) = matches.subcommand() else {
        return BTreeMap::new();
    };
    let flags = command
        .find_subcommand(name)
        .into_iter()
        .flat_map(clap::Command::get_arguments);
    let named = flags.filter_map(|flag| Some((flag.get_id().as_str(), flag.get_long()?)));
    named
        .filter_map(|(id, flag)| {
            let values = matches.try_get_raw(id).ok()??;
            let values: Vec<String> = values.map(|value| value.to_string_lossy().into_owned()).collect();
            let value = if SECRET.contains(&flag) {
                "[REDACTED]".to_owned()
            } else {
                values.join(",")
            };
            Some((flag.to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::values;
    use std::ffi::OsString;

    #[test]
    fn flags_have_values_and_secrets_have_none() {
        let arguments = [
            "skiff",
            "agent",
            "--server",
            "https://a:6443",
            "--token",
            "skiff1.secret",
        ];
        let arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
        let found = values(&arguments);
        assert_eq!(found.get("server").map(String::as_str), Some("https://a:6443"));
        assert_eq!(found.get("token").map(String::as_str), Some("[REDACTED]"));
        assert_eq!(
            found.get("containerd").map(String::as_str),
            Some("containerd"),
            "a default"
        );
        assert!(!found.values().any(|value| value.contains("secret")), "{found:?}");
        assert!(values(&["skiff".into(), "no-such".into()]).is_empty());
    }
}
