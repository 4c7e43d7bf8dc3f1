//! The Services that the server itself keeps: `kubernetes` with its endpoints,
//! `kube-dns`, and the ServiceCIDR they are taken from.

use super::plan::nth;
use crate::handler::Change;
use crate::registry::{built_in, key_of};
use crate::server::{ApiServer, ServerError};
use bytes::Bytes;
use serde_json::{Value, json};
use skiff_api::ApiError;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Place of the cluster's DNS server in the service network, as everywhere.
const DNS_OFFSET: u64 = 10;
/// What comes back when somebody deletes it (`kubectl delete all --all` does).
const KEPT: [(&str, &str, &str, &str); 4] = [
    ("", "services", "default", "kubernetes"),
    ("", "services", "kube-system", "kube-dns"),
    ("", "endpoints", "default", "kubernetes"),
    ("discovery.k8s.io", "endpointslices", "default", "kubernetes"),
];
/// How long after a deletion the object is made again: others may be about to
/// delete what belongs to it, and a store that cannot write is not asked in a loop.
const KEEP_AFTER: Duration = Duration::from_millis(500);

impl ApiServer {
    pub(crate) async fn bootstrap_services(&self) -> Result<(), ServerError> {
        let cidrs: Vec<String> = self.config.service_cidrs.iter().map(ToString::to_string).collect();
        let Some(first) = self.config.service_cidrs.first() else {
            return Err(ApiError::internal("the configuration names no service network").into());
        };
        let address = |n| {
            nth(first, n)
                .map(|ip| ip.to_string())
                .ok_or_else(|| ApiError::internal(format!("the service network {first} is too small")))
        };
        let cidr = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
        self.ensure("networking.k8s.io", "servicecidrs", "", cidr).await?;
        self.ensure(
            "",
            "services",
            "default",
            kubernetes_service(&address(1)?, self.config.advertise_port),
        )
        .await?;
        self.ensure("", "services", "kube-system", dns_service(&address(DNS_OFFSET)?))
            .await?;
        self.keep_endpoints().await
    }

    /// Makes the server's own objects again when they are deleted; sleeps otherwise.
    pub(crate) fn start_keeping_services(self: &Arc<Self>) {
        for (group, plural, namespace, name) in KEPT {
            let Ok(kind) = built_in(group, plural) else {
                continue;
            };
            let key = key_of(kind, namespace, name);
            let (server, closing) = (Arc::downgrade(self), self.closing.clone());
            tokio::spawn(async move {
                while let Some(gone) = wait_for_deletion(&server, &key, &closing).await {
                    tokio::select! {
                        () = closing.cancelled() => return,
                        () = tokio::time::sleep(KEEP_AFTER) => {}
                    }
                    let Some(server) = server.upgrade().filter(|_| gone) else {
                        continue;
                    };
                    if let Err(error) = server.bootstrap_services().await {
                        tracing::warn!(plural, name, %error, "could not make the server's own object again; trying again");
                    }
                }
            });
        }
    }

    /// Keeps the endpoints of `kubernetes` at the servers that answer.
    pub(crate) fn start_following_servers(self: &Arc<Self>) {
        let Some(mut servers) = self.config.servers.clone() else {
            return;
        };
        let (server, closing) = (Arc::downgrade(self), self.closing.clone());
        tokio::spawn(async move {
            loop {
                let changed = tokio::select! {
                    () = closing.cancelled() => return,
                    changed = servers.changed() => changed,
                };
                let Some(server) = server.upgrade().filter(|_| changed.is_ok()) else {
                    return;
                };
                if let Err(error) = server.keep_endpoints().await {
                    tracing::warn!(%error, "could not write which servers answer; trying again");
                    servers.mark_changed();
                    tokio::time::sleep(KEEP_AFTER).await;
                }
            }
        });
    }

    /// Where the servers are reached, as Endpoints and EndpointSlice.
    async fn keep_endpoints(&self) -> Result<(), ServerError> {
        let own = self.config.advertise_address;
        if own.is_loopback() || own.is_unspecified() {
            tracing::warn!(%own, "pods cannot reach the server at this address: give it another one with --advertise-address");
            return Ok(());
        }
        let servers = match &self.config.servers {
            Some(servers) => servers.borrow().clone(),
            None => Some(vec![own]),
        };
        let Some(mut servers) = servers else {
            return Ok(());
        };
        // A slice has addresses of one family only: the family of the first server's.
        servers.retain(|ip| ip.is_ipv4() == own.is_ipv4());
        servers.sort();
        let port = self.config.advertise_port;
        let addresses: Vec<Value> = servers.iter().map(|ip| json!({"ip": ip})).collect();
        let subsets = json!([{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]);
        let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
        let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels}, "subsets": subsets});
        self.keep("", "endpoints", endpoints, &["subsets"]).await?;
        let endpoints: Vec<Value> = servers
            .iter()
            .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
            .collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if own.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": endpoints,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        });
        self.keep("discovery.k8s.io", "endpointslices", slice, &["endpoints", "ports"])
            .await
    }

    /// Creates the object, or sets these of its fields where they differ.
    async fn keep(&self, group: &str, plural: &str, object: Value, fields: &[&str]) -> Result<(), ServerError> {
        self.ensure(group, plural, "default", object.clone()).await?;
        let kind = built_in(group, plural)?;
        self.modify(kind, "default", "kubernetes", false, |old, _| {
            let mut new = old.clone();
            for field in fields {
                new[*field] = object[*field].clone();
            }
            kind.strategy().default(&mut new);
            Ok(if new == *old { Change::Keep } else { Change::Write(new) })
        })
        .await?;
        Ok(())
    }
}

/// Waits until the key is absent. `Some(false)`: look again; `None`: the server is going.
async fn wait_for_deletion(
    server: &Weak<ApiServer>,
    key: &Bytes,
    closing: &tokio_util::sync::CancellationToken,
) -> Option<bool> {
    let mut changes = {
        let server = server.upgrade()?;
        let snapshot = server.store.snapshot();
        if snapshot.get(key).is_none() {
            return Some(true);
        }
        match server.store.watch(key.clone(), snapshot.revision()) {
            Ok(changes) => changes,
            Err(_) => return Some(false),
        }
    };
    loop {
        let batch = tokio::select! {
            () = closing.cancelled() => return None,
            batch = changes.next() => batch,
        };
        let Some(batch) = batch else { return Some(false) };
        if batch.events.iter().any(|e| *e.key() == **key && e.entry.is_none()) {
            return Some(true);
        }
    }
}

fn kubernetes_service(ip: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]}})
}

/// Without a selector: every node answers at this address itself.
fn dns_service(ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "sessionAffinity": "None",
            "ports": [{"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53}, {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53}]}})
}
