//! The `skiff` program: reads the command line and the configuration, then
//! wires the parts together. Nothing is decided here that a part could decide.

mod address;
mod agent;
mod check;
mod cli;
mod client;
mod config;
mod duration;
mod etcd;
mod files;
mod flags;
mod join;
mod logging;
mod mutual;
mod node;
mod parts;
mod paths;
mod remote;
mod reset;
mod resources;
mod role;
mod scheduler;
mod server;
mod servers;
mod signals;
mod snapshot;
mod status;
mod token;

use anyhow::Result;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// As `skiff version` prints it.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.0)");

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // One line: the whole chain, so that the cause is not lost.
            eprintln!("skiff: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    // A heap of small objects, sparsely touched, costs three times its size in huge
    // pages. What is started from here and is not ours gets them back; see `skiff_agent`.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let typed: Vec<OsString> = std::env::args_os().collect();
    // A missing file matters only to those who named it.
    let first = cli::Cli::parse_from(&typed);
    let common = match &first.command {
        cli::Command::Server(server) if server.action.is_none() => Some(&server.common),
        cli::Command::Agent(agent) => Some(&agent.common),
        _ => None,
    };
    let cli = match common {
        Some(common) => {
            let named = std::env::var_os("SKIFF_CONFIG").is_some()
                || typed
                    .iter()
                    .any(|argument| argument.to_string_lossy().starts_with("--config"));
            let merged = config::with_file(typed.clone(), first.command.name(), &common.config, !named)?;
            skiff_metrics::about::begin(flags::values(&merged));
            cli::Cli::parse_from(merged)
        }
        None => first,
    };
    let done = match cli.command {
        cli::Command::Scheduler(args) => return runtime()?.block_on(scheduler::run(args)),
        cli::Command::Version => {
            println!("skiff {VERSION}");
            Ok(())
        }
        cli::Command::Check(args) => check_command(&args),
        cli::Command::Server(mut args) => match args.action.take() {
            Some(action) => runtime()?.block_on(servers::command(action)),
            None => {
                logging::start(&args.common.log_level, &args.common.log_format)?;
                runtime()?.block_on(server::run(*args))
            }
        },
        cli::Command::Agent(args) => {
            logging::start(&args.common.log_level, &args.common.log_format)?;
            runtime()?.block_on(agent::run(*args))
        }
        cli::Command::Token(args) => runtime()?.block_on(token::run(args)),
        cli::Command::Snapshot(args) => runtime()?.block_on(snapshot::run(args)),
        cli::Command::Status(args) => runtime()?.block_on(status::run(args)),
        cli::Command::Reset(args) => runtime()?.block_on(reset::run(args)),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn check_command(args: &cli::CheckArgs) -> Result<()> {
    let plan = check::Plan {
        data_dir: args.data_dir.clone(),
        containerd: Some(args.containerd.clone()),
        ports: vec![
            (args.https_listen_port, "--https-listen-port"),
            (args.kubelet_port, "--kubelet-port"),
        ],
        node: true,
        thorough: true,
    };
    if !check::print(&plan) {
        std::process::exit(1);
    }
    Ok(())
}

/// Readers of nested bodies and expressions bound their depth by the default of 2 MB less
/// what lies below them; only pages that are touched cost memory.
const THREAD_STACK_BYTES: usize = 8 << 20;

fn runtime() -> Result<tokio::runtime::Runtime> {
    rustls::crypto::ring::default_provider().install_default().ok();
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()?)
}
