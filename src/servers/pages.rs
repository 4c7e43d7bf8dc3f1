//! What servers say of themselves under `/skiff/v1/servers`, behind the API server's door.
//!
//! ```text
//! GET    /skiff/v1/servers        all servers                            administrators
//! POST   /skiff/v1/servers        the cluster's keys, for one that joins   tokens for servers
//! PUT    /skiff/v1/servers/<id>   makes it a member                      tokens for servers
//! DELETE /skiff/v1/servers/<id>   takes it out, by number or name        administrators
//! ```

use super::roster::{self, Record};
use super::{PAGES, Peers, keys};
use crate::cli::ServerArgs;
use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use skiff_api::ApiError;
use skiff_apiserver::OwnPages;
use skiff_store::{Peer, RaftStore, Store, StoreError};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long another server may take to answer before it counts as away.
const REACH_MAX: Duration = Duration::from_secs(3);

/// What all servers of a cluster must agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub cluster_cidr: String,
    pub service_cidr: String,
    pub cluster_dns: String,
    pub cluster_domain: String,
    pub https_listen_port: u16,
    pub service_node_port_range: String,
}

impl Cluster {
    pub fn of(args: &ServerArgs) -> Self {
        Cluster {
            cluster_cidr: args.cluster.cluster_cidr.clone(),
            service_cidr: args.cluster.service_cidr.clone(),
            cluster_dns: args.cluster.cluster_dns.to_string(),
            cluster_domain: args.cluster.cluster_domain.clone(),
            https_listen_port: args.https_listen_port,
            service_node_port_range: args.service_node_port_range.clone(),
        }
    }

    /// What must be given otherwise; nothing: they agree.
    fn differences(&self, theirs: &Cluster) -> Vec<String> {
        let port = |cluster: &Cluster| cluster.https_listen_port.to_string();
        let pairs = [
            ("--cluster-cidr", self.cluster_cidr.clone(), theirs.cluster_cidr.clone()),
            ("--service-cidr", self.service_cidr.clone(), theirs.service_cidr.clone()),
            ("--cluster-dns", self.cluster_dns.clone(), theirs.cluster_dns.clone()),
            (
                "--cluster-domain",
                self.cluster_domain.clone(),
                theirs.cluster_domain.clone(),
            ),
            ("--https-listen-port", port(self), port(theirs)),
            (
                "--service-node-port-range",
                self.service_node_port_range.clone(),
                theirs.service_node_port_range.clone(),
            ),
        ];
        let differing = pairs.into_iter().filter(|(_, ours, theirs)| ours != theirs);
        differing.map(|(flag, ours, _)| format!("{flag} {ours}")).collect()
    }
}

/// A server that wants the keys.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asking {
    pub cluster: Cluster,
}

/// A server that wants to be a member.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entering {
    /// Where other servers reach it.
    pub address: String,
    pub record: Record,
}

/// A server as it is listed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    pub id: String,
    pub name: String,
    pub api: String,
    pub address: String,
    pub role: String,
    pub answers: bool,
    pub version: String,
}

pub struct Pages {
    pub store: Arc<RaftStore>,
    pub peers: Peers,
    pub cluster: Cluster,
    /// This server's own.
    pub record: Record,
    /// Where others would reach this server.
    pub address: String,
    pub data_dir: PathBuf,
}

fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "the request cannot be read: {error}: use the same version of skiff on all servers"
        ))
    })
}

fn failed(error: StoreError) -> ApiError {
    match error {
        StoreError::Internal(why) => ApiError::bad_request(why),
        other => ApiError::unavailable(other.to_string()),
    }
}

fn to_value<T: Serialize>(value: T) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(ApiError::internal)
}

#[async_trait::async_trait]
impl OwnPages for Pages {
    async fn answer(&self, method: &Method, path: &str, bytes: &Bytes) -> Option<Result<Value, ApiError>> {
        let which = path.strip_prefix(PAGES)?.trim_matches('/');
        let answer = match (method.as_str(), which) {
            ("GET", "") => to_value(self.list().await),
            ("POST", "") => match body(bytes) {
                Ok(asking) => self.give_keys(&asking).await.and_then(to_value),
                Err(error) => Err(error),
            },
            ("PUT", id) if !id.is_empty() => match body(bytes) {
                Ok(entering) => self.enter(id, &entering).await,
                Err(error) => Err(error),
            },
            ("DELETE", which) if !which.is_empty() => self.remove(which).await,
            _ => Err(ApiError::no_method()),
        };
        Some(answer)
    }
}

impl Pages {
    async fn list(&self) -> Vec<Listed> {
        let records = roster::records(&*self.store.snapshot());
        let looked = self.store.members().into_iter().map(|member| {
            let record = match member.id == self.store.id() {
                true => Some(self.record.clone()),
                false => records.get(&member.id).cloned(),
            };
            async move {
                let api = record.as_ref().map(|r| r.api.to_string()).unwrap_or_default();
                let peer = Peer {
                    id: member.id,
                    address: member.address.clone(),
                };
                let answers = member.id == self.store.id() || self.store.reach(&peer, REACH_MAX).await.is_ok();
                Listed {
                    id: format!("{:x}", member.id),
                    name: record.as_ref().map(|r| r.name.clone()).unwrap_or_default(),
                    api,
                    address: member.address,
                    role: match (member.leader, member.voter) {
                        (true, _) => "leader",
                        (false, true) => "voter",
                        (false, false) => "learner",
                    }
                    .into(),
                    answers,
                    version: record.map(|r| r.version).unwrap_or_default(),
                }
            }
        });
        futures::future::join_all(looked).await
    }

    async fn give_keys(&self, asking: &Asking) -> Result<keys::Keys, ApiError> {
        let differences = self.cluster.differences(&asking.cluster);
        if !differences.is_empty() {
            return Err(ApiError::bad_request(format!(
                "all servers of a cluster are started alike: give {}",
                differences.join(" ")
            )));
        }
        let dir = self.data_dir.clone();
        let read = tokio::task::spawn_blocking(move || keys::read(&dir)).await;
        let read = read.map_err(ApiError::internal)?;
        // It comes with a question of its own when it has them; the port must be open by then.
        self.listen().await?;
        read.map_err(|error| ApiError::internal(format!("{error:#}")))
    }

    async fn listen(&self) -> Result<(), ApiError> {
        let listening = self.peers.listen(&self.store).await;
        listening.map_err(|error| {
            tracing::error!("other servers cannot be listened to: {error:#}");
            ApiError::unavailable(format!("{error:#}"))
        })
    }

    async fn enter(&self, id: &str, entering: &Entering) -> Result<Value, ApiError> {
        let Ok(id) = u64::from_str_radix(id, 16) else {
            return Err(ApiError::bad_request(format!("{id:?} is no server's number")));
        };
        if entering.address.parse::<SocketAddr>().is_err() {
            return Err(ApiError::bad_request(format!(
                "{:?} is no address and port",
                entering.address
            )));
        }
        self.listen().await?;
        // A server that was alone never said where others would find it.
        let me = self.store.id();
        if self
            .store
            .members()
            .iter()
            .any(|m| m.id == me && m.address != self.address)
        {
            self.store.add_member(me, &self.address).await.map_err(failed)?;
        }
        let peer = Peer {
            id,
            address: entering.address.clone(),
        };
        if let Err(error) = self.store.reach(&peer, REACH_MAX).await {
            return Err(ApiError::bad_request(format!(
                "server {} cannot reach the new one at {}: {}; let the port through its firewall, or give another address with --advertise-address and --peer-port",
                self.record.name, entering.address, error.why
            )));
        }
        let known = roster::records(&*self.store.snapshot());
        if let Some((other, _)) = known
            .iter()
            .find(|(other, r)| **other != id && r.name == entering.record.name)
        {
            return Err(ApiError::bad_request(format!(
                "there is a server named {} already: give another --node-name, or, if it is gone for good, `skiff server remove {other:x}` first",
                entering.record.name
            )));
        }
        roster::write(&self.store, me, &self.record).await.map_err(failed)?;
        self.store.add_member(id, &entering.address).await.map_err(failed)?;
        roster::write(&self.store, id, &entering.record).await.map_err(failed)?;
        tracing::info!(
            name = entering.record.name,
            address = entering.address,
            "a server joined"
        );
        to_value(self.list().await)
    }

    /// By number or by name.
    async fn remove(&self, which: &str) -> Result<Value, ApiError> {
        let listed = self.list().await;
        let by_name = listed.iter().find(|server| server.name == which);
        let Some(server) = listed.iter().find(|server| server.id == which).or(by_name) else {
            return Err(ApiError::new(
                404,
                "NotFound",
                format!("there is no server {which:?}; `skiff server list` shows them"),
            ));
        };
        let votes = |server: &&Listed| server.role != "learner";
        let stay: Vec<&Listed> = listed.iter().filter(votes).filter(|s| s.id != server.id).collect();
        let answering = stay.iter().filter(|s| s.answers).count();
        if votes(&server) && answering * 2 <= stay.len() {
            let away: Vec<&str> = stay.iter().filter(|s| !s.answers).map(|s| s.name.as_str()).collect();
            return Err(ApiError::bad_request(match stay.is_empty() {
                true => format!(
                    "{} is the only server: `skiff reset` on its machine ends the cluster",
                    server.name
                ),
                false => format!(
                    "without {} no majority of servers would answer: bring {} back or remove it first",
                    server.name,
                    away.join(" and ")
                ),
            }));
        }
        let id = u64::from_str_radix(&server.id, 16).map_err(ApiError::internal)?;
        self.store.remove_member(id).await.map_err(failed)?;
        roster::forget(&self.store, id).await.map_err(failed)?;
        tracing::info!(name = server.name, "a server was taken out");
        to_value(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_as_it_must_be_given() {
        let ours = Cluster {
            cluster_cidr: "10.42.0.0/16".into(),
            service_cidr: "10.43.0.0/16".into(),
            cluster_dns: "10.43.0.10".into(),
            cluster_domain: "cluster.local".into(),
            https_listen_port: 6443,
            service_node_port_range: "30000-32767".into(),
        };
        assert!(ours.differences(&ours.clone()).is_empty());
        let theirs = Cluster {
            service_cidr: "10.99.0.0/16".into(),
            https_listen_port: 7443,
            ..ours.clone()
        };
        assert_eq!(
            ours.differences(&theirs),
            ["--service-cidr 10.43.0.0/16", "--https-listen-port 6443"]
        );
    }
}
