//! The servers of one cluster: how one joins the others, how they reach each other, and
//! who of them answers.
//!
//! ```text
//! joining ──token, HTTPS──► pages ──► RaftStore members
//!    '── keys: the authorities and keys that every server has
//! peers: their connections (gRPC, mutual TLS)    roster: their addresses, who answers
//! command: `skiff server list` and `remove`
//! ```

mod command;
mod joining;
mod keys;
mod pages;
mod peers;
mod roster;

pub use command::run as command;
pub use joining::{Joining, begin};
pub use pages::{Cluster, Pages};
pub use peers::{Peers, transport};
pub use roster::{Record, Roster, follow_others, leads, wait_for_majority, watch_over};

use crate::cli::ServerArgs;
use crate::files;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where the pages of the servers are, for those who join and those who administer.
pub const PAGES: &str = "/skiff/v1/servers";

/// The group of tokens that servers join with.
pub const JOIN_GROUP: &str = "system:bootstrappers:skiff:servers";

/// Who this server is among the others. The first of a cluster has no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number in the Raft group: drawn once, never used again.
    pub id: u64,
    pub joined: bool,
}

impl Identity {
    const FIRST: Identity = Identity { id: 1, joined: true };

    fn path(data_dir: &Path) -> std::path::PathBuf {
        data_dir.join(crate::paths::SERVER_IDENTITY)
    }

    /// What is kept, if this server ever began to join others.
    pub fn read(data_dir: &Path) -> Result<Option<Identity>> {
        let path = Self::path(data_dir);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let read = serde_json::from_str(&text);
                read.map(Some)
                    .with_context(|| format!("{} cannot be read", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn write(self, data_dir: &Path) -> Result<()> {
        files::write_private(&Self::path(data_dir), &serde_json::to_string(&self)?)
    }
}

/// Who this server is: what is kept, or the first of a cluster.
pub fn identity(args: &ServerArgs) -> Result<Identity> {
    Ok(Identity::read(&args.common.data_dir)?.unwrap_or(Identity::FIRST))
}
