//! Test hosts from the command line:
//!
//! ```text
//! testhost up DIR NAME NETWORK INDEX    make a host (INDEX 2..254 on segment NETWORK)
//! testhost exec DIR COMMAND [ARG...]    run a command on it
//! testhost cut DIR | heal DIR           cut its link, join it again
//! testhost down DIR                     end it
//! testhost network up|down NETWORK      make or remove the segment
//! testhost registry LISTEN ARCHIVE [--user NAME:PASSWORD] [--token] [--tls CERT KEY] [--log FILE] IMAGE...
//!                                       serve the archive's image under these names
//! ```

use anyhow::{Context, Result, bail};
use skiff_tests::{Host, Network, init, registry};
use std::os::unix::process::CommandExt;
use std::path::Path;

fn main() {
    if let Err(error) = run() {
        eprintln!("testhost: {error:#}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["init", name, dir] => init::run(name, Path::new(dir)),
        ["up", dir, name, network, index] => {
            let program = std::env::current_exe()?;
            let host = match Host::open(Path::new(dir))? {
                Some(host) => host,
                None => Host::create(
                    &program,
                    Path::new(dir),
                    name,
                    Network { id: network.parse()? },
                    index.parse()?,
                )?,
            };
            println!("{}", host.address());
            Ok(())
        }
        ["exec", dir, program, rest @ ..] => {
            Err(opened(dir)?.command(program).args(rest).exec()).context("cannot run nsenter")
        }
        ["cut", dir] => opened(dir)?.cut(),
        ["heal", dir] => opened(dir)?.heal(),
        ["down", dir] => match Host::open(Path::new(dir))? {
            Some(host) => host.destroy(),
            None => Ok(()),
        },
        ["network", "up", network] => Network { id: network.parse()? }.up(),
        ["network", "down", network] => Network { id: network.parse()? }.down(),
        ["registry", rest @ ..] => registry::run(&registry::Options::from_words(rest)?),
        _ => bail!(
            "usage: testhost up DIR NAME NETWORK INDEX | exec DIR COMMAND... | cut DIR | heal DIR | down DIR | network up|down NETWORK | registry LISTEN ARCHIVE [FLAG...] IMAGE..."
        ),
    }
}

fn opened(dir: &str) -> Result<Host> {
    Host::open(Path::new(dir))?.with_context(|| format!("there is no running host in {dir}"))
}
