//! What every controller is given, and the crate's error.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, Resource};
use tokio_util::sync::CancellationToken;

use crate::events::Recorder;
use crate::shared::Shared;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing}")]
    Api {
        doing: String,
        #[source]
        source: kube::Error,
    },
    #[error("configuration: {0}")]
    Config(String),
    /// Another try is needed, nothing is wrong.
    #[error("{0}")]
    Again(String),
    #[error("cannot sign {name}: {message}")]
    Signing { name: String, message: String },
}

impl Error {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Error::Api {
                source: kube::Error::Api(status),
                ..
            } => Some(status),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    pub fn is_conflict(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 409 && status.reason != "AlreadyExists")
    }

    pub fn is_already_exists(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 409 && status.reason == "AlreadyExists")
    }

    /// The namespace is going away, so the creation was refused and need not be tried again.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|status| {
            let mut causes = status.details.iter().flat_map(|details| &details.causes);
            status.code == 403
                && (causes.any(|cause| cause.reason == "NamespaceTerminating")
                    || status.message.contains("being terminated"))
        })
    }

    /// The server's message, for conditions and events.
    pub fn message(&self) -> String {
        self.status()
            .map_or_else(|| self.to_string(), |status| status.message.clone())
    }
}

/// Says what was being done when a call failed.
pub trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Api { doing: doing(), source })
    }
}

/// Treats "not found" as done: what was to be deleted or patched is gone.
pub fn gone_is_fine<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// One controller's identity and its view of the cluster.
#[derive(Clone)]
pub struct Context {
    pub name: &'static str,
    pub client: Client,
    pub shared: Arc<Shared>,
    pub recorder: Recorder,
    pub shutdown: CancellationToken,
}

impl Context {
    pub fn event<K: Resource<DynamicType = ()>>(&self, object: &K, kind: &str, reason: &str, message: String) {
        let meta = object.meta();
        let reference = ObjectReference {
            resource_version: meta.resource_version.clone(),
            ..object.object_ref(&())
        };
        self.recorder
            .record(&self.client, self.name, reference, kind, reason, message);
    }

    pub fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, message: String) {
        self.event(object, "Normal", reason, message);
    }

    pub fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, message: String) {
        self.event(object, "Warning", reason, message);
    }
}
