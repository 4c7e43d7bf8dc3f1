//! `skiff-cni`: the CNI plugin of a Skiff node, a small stand-alone executable.
//!
//! ```text
//! containerd --env, stdin--> request --> config --> ipam (pure) --> leases (disk)
//!                                             \--> wire (netlink) --> result --stdout-->
//! ```
//!
//! It gives each pod a routed veth: a /32 (or /128) address in the pod, a host
//! route to it, static neighbours on both sides, no bridge and no ARP. It never
//! talks to the API and never touches nftables: that is the dataplane's.
//!
//! Called as `loopback` (by name or by the configuration's `type`) it is the
//! loopback plugin, which containerd asks for in every sandbox.

mod config;
mod error;
mod ipam;
mod leases;
mod netlink;
mod request;
mod result;
mod wire;

use crate::config::NetConf;
use crate::error::Error;
use crate::request::{Command, Request};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::ExitCode;

/// More than any real configuration with a `prevResult`; keeps a broken caller from filling memory.
const STDIN_BYTES_MAX: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut stdin = Vec::new();
    let read = std::io::stdin().take(STDIN_BYTES_MAX).read_to_end(&mut stdin);
    let version = config::version_of(&stdin);
    let outcome = match read {
        Ok(_) => run(&stdin),
        Err(source) => Err(Error::Io {
            action: "read the network configuration from stdin".into(),
            source,
        }),
    };
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (result::error(&version, &error), ExitCode::FAILURE),
    };
    // Nobody is left to tell when stdout is gone.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

fn run(stdin: &[u8]) -> Result<String, Error> {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .filter(|(k, _)| k.starts_with("CNI_"))
        .collect();
    let command = request::command(&env)?;
    if command == Command::Version {
        return Ok(result::versions(&config::version_of(stdin)));
    }
    let conf = config::parse(stdin)?;
    if conf.kind == "loopback" {
        return loopback(&conf, command, &env);
    }
    match command {
        Command::Status => status(&conf),
        Command::Gc => gc(&conf),
        Command::Add => add(&conf, &request::parse(command, &env)?),
        Command::Del => del(&conf, &request::parse(command, &env)?),
        Command::Check => check(&conf, &request::parse(command, &env)?),
        Command::Version => Ok(result::versions(&conf.cni_version)),
    }
}

fn add(conf: &NetConf, request: &Request) -> Result<String, Error> {
    let pool = conf.pool()?;
    let store = leases::Store::open(&conf.data_dir, &conf.name)?;
    let addresses = store.change(|leases| {
        let next = ipam::allocate(&pool, leases, &request.lease())?;
        let addresses = next.addresses_of(&request.owner);
        Ok((next, addresses))
    })?;
    let plan = wire::plan(request, &addresses, conf.mtu);
    if let Err(error) = wire::connect(&plan, request.netns_path()?) {
        // The caller sends DEL after a failed ADD, but nothing obliges it to.
        let _ = wire::remove(&plan.host_name);
        let _ = store.change(|leases| Ok((ipam::release(leases, &request.lease()), ())));
        return Err(error);
    }
    Ok(result::added(conf, request, &plan))
}

/// Idempotent: what is already gone is fine. The link goes before the lease, so
/// that the address is never free while a route to the old pod still stands.
fn del(conf: &NetConf, request: &Request) -> Result<String, Error> {
    wire::remove(&wire::host_name(&request.container, &request.ifname))?;
    let store = leases::Store::open(&conf.data_dir, &conf.name)?;
    store.change(|leases| Ok((ipam::release(leases, &request.lease()), ())))?;
    Ok(String::new())
}

fn check(conf: &NetConf, request: &Request) -> Result<String, Error> {
    let store = leases::Store::open(&conf.data_dir, &conf.name)?;
    let leases = store.read()?;
    let addresses = leases.held_by(&request.container, &request.ifname);
    if addresses.is_empty() {
        return Err(Error::UnknownContainer {
            container: request.container.clone(),
        });
    }
    if let Some(previous) = &conf.prev_result {
        config::previous_matches(previous, &addresses)?;
    }
    wire::verify(&wire::plan(request, &addresses, conf.mtu), request.netns_path()?)?;
    Ok(String::new())
}

/// Removes every attachment the caller does not name. Carries on over failures
/// and reports the first.
fn gc(conf: &NetConf) -> Result<String, Error> {
    let store = leases::Store::open(&conf.data_dir, &conf.name)?;
    let stale = ipam::stale(&store.read()?, &conf.valid_attachments);
    let mut first = None;
    for lease in &stale {
        if let Err(error) = wire::remove(&wire::host_name(&lease.container, &lease.ifname)) {
            first.get_or_insert(error);
            continue;
        }
        if let Err(error) = store.change(|leases| Ok((ipam::release(leases, lease), ()))) {
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(String::new()), Err)
}

fn status(conf: &NetConf) -> Result<String, Error> {
    let pool = conf.pool()?;
    let leases = leases::Store::open(&conf.data_dir, &conf.name)
        .and_then(|store| store.read())
        .map_err(|error| Error::NotAvailable {
            reason: error.to_string(),
        })?;
    let probe = ipam::LeaseRequest {
        owner: String::new(),
        container: String::new(),
        ifname: String::new(),
    };
    match ipam::allocate(&pool, &leases, &probe) {
        Ok(_) => Ok(String::new()),
        Err(exhausted) => Err(Error::NotAvailable {
            reason: exhausted.to_string(),
        }),
    }
}

fn loopback(conf: &NetConf, command: Command, env: &BTreeMap<String, String>) -> Result<String, Error> {
    match command {
        Command::Add | Command::Check => {
            let request = request::parse(command, env)?;
            wire::loopback_up(request.netns_path()?)?;
            Ok(if command == Command::Add {
                result::loopback(conf, &request)
            } else {
                String::new()
            })
        }
        // The loopback device goes with its namespace.
        _ => Ok(String::new()),
    }
}
