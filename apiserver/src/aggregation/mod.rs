//! API aggregation: group versions that other servers answer, told by APIService
//! objects. This server stands in front of them, authenticates and authorises, and
//! passes requests on under the client's name
//! (<https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/>).
//!
//! ```text
//! APIServices, Services, EndpointSlices -> keep -> routes --> handler: forward
//!                                           |         '-----> discovery, OpenAPI: merge
//!                                           '-> check (slowly, and when something changed)
//! ```
//!
//! APIServices of what this server answers itself are written here too. While there
//! is no remote one, nothing is watched but what could bring one, and no timer runs.

mod availability;
mod check;
mod forward;
mod keep;
mod local;
mod merge;
mod openapi;
mod remote;
mod write;

use local::METRICS;
pub(crate) use merge::{Group, RemoteVersion, aggregated, groups};
pub(crate) use openapi::{join as join_openapi, to_v3 as openapi_v3_of};
pub(crate) use remote::Remote;

use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::Notify;

/// The remote group versions as they are now.
#[derive(Default)]
pub(crate) struct Aggregation {
    routes: ArcSwap<Vec<Arc<Remote>>>,
    /// Told when the kinds that this server answers are others.
    pub wake: Arc<Notify>,
}

impl Aggregation {
    /// The remote group version that a path (`/apis/<group>/<version>` and below) belongs to.
    pub fn find(&self, path: &str) -> Option<Arc<Remote>> {
        let routes = self.routes.load();
        if routes.is_empty() {
            return None;
        }
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        if parts.next() != Some("apis") {
            return None;
        }
        let (group, version) = (parts.next()?, parts.next()?);
        routes
            .iter()
            .find(|r| r.group == group && r.version == version)
            .cloned()
    }

    /// Group versions that are no kinds of this server's table: other servers', and the one
    /// of resource metrics, which this server answers while no other one does.
    pub fn remotes(&self) -> Vec<RemoteVersion> {
        let mut all: Vec<RemoteVersion> = self.routes.load().iter().map(|r| r.described()).collect();
        let own = |r: &RemoteVersion| (r.group.as_str(), r.version.as_str()) == (METRICS.group, METRICS.version);
        if !all.iter().any(own) {
            all.push(local::resource_metrics());
        }
        all
    }

    pub fn routes(&self) -> Arc<Vec<Arc<Remote>>> {
        self.routes.load_full()
    }
}
