//! The segment that test hosts share: a bridge of this machine's, with one
//! address on it, so that this machine can be a node too.

use anyhow::{Context, Result, bail};
use std::net::Ipv4Addr;
use std::process::Command;

/// Segment `id`: bridge `sktest<id>`, network 172.30.`id`.0/24, this machine at .1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub id: u8,
}

impl Network {
    pub fn bridge(self) -> String {
        format!("sktest{}", self.id)
    }

    /// Address of host `index`; this machine is 1.
    pub fn address(self, index: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, self.id, index)
    }

    /// Creates it unless it is there.
    pub fn up(self) -> Result<()> {
        let bridge = self.bridge();
        if std::path::Path::new("/sys/class/net").join(&bridge).exists() {
            return Ok(());
        }
        ip(&["link", "add", &bridge, "type", "bridge", "forward_delay", "0"])?;
        ip(&["address", "add", &format!("{}/24", self.address(1)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])
    }

    /// Removes it if it is there.
    pub fn down(self) -> Result<()> {
        if std::path::Path::new("/sys/class/net").join(self.bridge()).exists() {
            ip(&["link", "delete", &self.bridge()])?;
        }
        Ok(())
    }
}

pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

/// Runs to the end; what it said is in the error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
