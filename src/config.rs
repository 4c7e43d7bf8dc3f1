//! The configuration file: the flags' names as keys, as YAML. A flag on the
//! command line wins over the environment, and that over the file. The file's
//! values are handed to the same parser as flags, so they are checked alike.

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Command, CommandFactory};
use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;

/// A file larger than this is no configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Commands that read the file. A key of either is valid for both, so that one
/// file serves a machine whatever it runs.
const COMMANDS: [&str; 2] = ["server", "agent"];

/// The arguments to parse: the file's values in front of those typed.
/// `optional`: the file was not asked for by name, so it may be missing.
pub fn with_file(typed: Vec<OsString>, command: &str, file: &Path, optional: bool) -> Result<Vec<OsString>> {
    if !COMMANDS.contains(&command) {
        return Ok(typed);
    }
    let text = match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && optional => return Ok(typed),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the configuration file {}", file.display()));
        }
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            bail!("the configuration file {} is larger than 1 MiB", file.display())
        }
        Ok(_) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the configuration file {}", file.display()))?,
    };
    let value: Value = serde_saphyr::from_str(&text)
        .with_context(|| format!("the configuration file {} is not YAML", file.display()))?;
    let cli = crate::cli::Cli::command();
    let from_file = arguments(&cli, command, &value, |name| std::env::var_os(name).is_some())
        .with_context(|| format!("in the configuration file {}", file.display()))?;
    // argv[0], the subcommand, the file's, then what was typed: the last one wins.
    let mut merged: Vec<OsString> = typed.iter().take(2).cloned().collect();
    merged.extend(from_file.into_iter().map(OsString::from));
    merged.extend(typed.into_iter().skip(2));
    Ok(merged)
}

/// Turns the file's keys into flags of `command`; those that the environment
/// sets are left to it.
fn arguments(cli: &Command, command: &str, file: &Value, in_env: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let keys = match file {
        Value::Null => return Ok(Vec::new()),
        Value::Object(keys) => keys,
        _ => bail!("expected `key: value` lines"),
    };
    let mut out = Vec::new();
    for (key, value) in keys {
        let known = COMMANDS.iter().any(|name| flag(cli, name, key).is_some());
        if !known || key == "config" {
            bail!("unknown key {key:?}; the keys are: {}", known_keys(cli).join(", "));
        }
        let Some(argument) = flag(cli, command, key) else {
            continue;
        };
        if argument.get_env().and_then(|name| name.to_str()).is_some_and(&in_env) {
            continue;
        }
        let switch = matches!(argument.get_action(), ArgAction::SetTrue);
        match (value, switch) {
            (Value::Null, _) => {}
            (Value::Bool(true), true) => out.push(format!("--{key}")),
            (Value::Bool(false), true) => {}
            (_, true) => bail!("{key} must be true or false, not {value}"),
            (Value::Array(items), false) => {
                let texts: Result<Vec<String>> = items.iter().map(|item| scalar(key, item)).collect();
                out.push(format!("--{key}={}", texts?.join(",")));
            }
            (_, false) => out.push(format!("--{key}={}", scalar(key, value)?)),
        }
    }
    Ok(out)
}

fn scalar(key: &str, value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => bail!("{key} must be one value or a list of values, not {value}"),
    }
}

fn flag<'a>(cli: &'a Command, command: &str, key: &str) -> Option<&'a clap::Arg> {
    cli.find_subcommand(command)?
        .get_arguments()
        .find(|argument| argument.get_long() == Some(key))
}

fn known_keys(cli: &Command) -> Vec<String> {
    let mut keys: Vec<String> = COMMANDS
        .iter()
        .filter_map(|name| cli.find_subcommand(name))
        .flat_map(Command::get_arguments)
        .filter_map(|argument| argument.get_long())
        .filter(|key| !["config", "help", "version"].contains(key))
        .map(str::to_string)
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flags(file: Value) -> Result<Vec<String>> {
        arguments(&crate::cli::Cli::command(), "server", &file, |name| {
            name == "SKIFF_NODE_NAME"
        })
    }

    #[test]
    fn keys_become_flags() {
        let got =
            flags(json!({"https-listen-port": 7443, "disable-agent": true, "tls-san": ["a", "b"]})).expect("valid");
        assert_eq!(got, ["--disable-agent", "--https-listen-port=7443", "--tls-san=a,b"]);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        assert_eq!(
            flags(json!({"node-name": "file"})).expect("valid"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_agents_key_is_known_but_not_the_servers() {
        assert_eq!(
            flags(json!({"server": "https://a:6443"})).expect("valid"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn mistakes_are_named() {
        let text = |file| format!("{:#}", flags(file).expect_err("a mistake"));
        assert!(text(json!({"https-listen-prot": 1})).starts_with("unknown key \"https-listen-prot\"; the keys are: "));
        assert_eq!(
            text(json!({"disable-agent": "maybe"})),
            "disable-agent must be true or false, not \"maybe\""
        );
        assert_eq!(
            text(json!({"cluster-domain": {"a": 1}})),
            "cluster-domain must be one value or a list of values, not {\"a\":1}"
        );
        assert_eq!(text(json!(["a"])), "expected `key: value` lines");
    }

    #[test]
    fn a_typed_flag_wins_over_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "https-listen-port: 7443\ncluster-domain: edge.local\n").expect("written");
        let typed = ["skiff", "server", "--https-listen-port", "8443"]
            .map(OsString::from)
            .to_vec();
        let merged = with_file(typed, "server", &file, false).expect("merged");
        let cli = <crate::cli::Cli as clap::Parser>::try_parse_from(merged).expect("parsed");
        let crate::cli::Command::Server(server) = cli.command else {
            panic!("a server")
        };
        assert_eq!(server.https_listen_port, 8443);
        assert_eq!(server.cluster.cluster_domain, "edge.local");
    }
}
