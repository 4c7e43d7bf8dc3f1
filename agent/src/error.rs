//! Everything that can go wrong on a node, said with the object it went wrong for.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot {action} {path}", path = path.display())]
    Os {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: nix::Error,
    },
    #[error("containerd does not answer on {socket}; see {log}", socket = socket.display(), log = log.display())]
    ContainerdSilent { socket: PathBuf, log: PathBuf },
    #[error("cannot start containerd ({binary}); install containerd or set its path", binary = binary.display())]
    ContainerdStart {
        binary: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("containerd refused to {action}: {message}", message = source.message())]
    Runtime {
        action: &'static str,
        #[source]
        source: Box<tonic::Status>,
    },
    #[error("cannot connect to containerd")]
    Connect(#[source] tonic::transport::Error),
    #[error("the API server refused to {action}")]
    Api {
        action: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("the node's own copy is damaged: {0}")]
    Copy(String),
    #[error("no usable address for this node: pass --node-ip")]
    NoNodeAddress,
    #[error("{0}")]
    Image(String),
    #[error("{0}")]
    Volume(String),
    /// A claim stands for nothing that could be mounted.
    #[error("{0}")]
    Claim(String),
    /// A PersistentVolume cannot be mounted.
    #[error("{text}")]
    Mount { volume: String, text: String },
    /// A pod's devices cannot be made ready, or given back.
    #[error("{0}")]
    Devices(String),
    /// Why a pod, as it is described, cannot run.
    #[error("{0}")]
    Pod(String),
}

impl Error {
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub fn os(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(nix::Error) -> Self {
        let path = path.into();
        move |source| Self::Os { action, path, source }
    }

    pub fn runtime(action: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        move |source| Self::Runtime {
            action,
            source: Box::new(source),
        }
    }

    pub fn api(action: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api {
            action,
            source: Box::new(source),
        }
    }

    /// The runtime's own words, as Kubernetes shows them of a container.
    pub fn bare(&self) -> String {
        match self {
            Self::Runtime { source, .. } => source.message().to_owned(),
            other => other.chain(),
        }
    }

    /// The same as a gRPC client of upstream prints it.
    pub fn rpc(&self) -> String {
        match self {
            Self::Runtime { source, .. } => {
                format!("rpc error: code = {:?} desc = {}", source.code(), source.message())
            }
            other => other.chain(),
        }
    }

    /// The message with every cause, as an event or a log line wants it.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.contains(&next) && !matches!(self, Self::Runtime { .. }) {
                text = format!("{text}: {next}");
            }
            cause = error.source();
        }
        text
    }
}
