//! What the API server does about Services: their addresses and node ports,
//! reserved in the same transaction that stores the Service, and the objects of
//! its own (`kubernetes`, `kube-dns`).
//!
//! An address is reserved by its IPAddress object, a node port by a key of its
//! own; the transaction compares that they are absent, so two servers cannot
//! give out the same one.

mod own;
mod plan;
mod ranges;

use crate::registry::{StoreObjects, built_in, encode, key_of, text_at};
use crate::respond;
use crate::server::ApiServer;
use bytes::Bytes;
use plan::{Given, Pool};
use serde_json::{Value, json};
use skiff_access::Objects;
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::{Compare, Op, Record};
use std::net::IpAddr;

/// Where node ports are reserved; the value says for which Service.
const NODE_PORTS: &str = "/registry/ranges/servicenodeports/";

impl ApiServer {
    /// What else a write of this object checks and changes: `old` is what is
    /// stored, `new` what will be (none: it goes away). Fills addresses and
    /// ports into `new`.
    pub(crate) fn companions(
        &self,
        kind: &Kind,
        old: Option<&Value>,
        mut new: Option<&mut Value>,
        objects: &StoreObjects<'_>,
    ) -> Result<(Vec<Compare>, Vec<Op>), ApiError> {
        let (mut compare, mut ops) = self.quota_ops(kind, "", old, new.as_deref_mut(), objects)?;
        if kind.plural != "services" || !kind.group.is_empty() {
            return Ok((compare, ops));
        }
        let before = old.map(Given::of).unwrap_or_default();
        let after = match new {
            None => Given::default(),
            Some(service) => {
                let addresses = built_in("networking.k8s.io", "ipaddresses")?;
                let stored = objects.list(ranges::GROUP, "servicecidrs", "");
                let pool = Pool {
                    cidrs: &self.config.service_cidrs,
                    ranges: &ranges::usable(&self.config.service_cidrs, &stored),
                    node_ports: self.config.node_port_range,
                    address_taken: &|ip| objects.snapshot.get(&address_key(addresses, ip)).is_some(),
                    port_taken: &|port| objects.snapshot.get(&port_key(port)).is_some(),
                    seed: rand::random(),
                };
                let after = plan::allocate(service, old, &before, &pool)?;
                for ip in after.addresses.difference(&before.addresses) {
                    let key = address_key(addresses, *ip);
                    compare.push(Compare::ModRevision(key.clone(), 0));
                    ops.push(Op::Put {
                        key,
                        record: encode(addresses, &address_object(*ip, service))?,
                    });
                }
                for port in after.ports.difference(&before.ports) {
                    let owner = format!(
                        "{}/{}",
                        text_at(service, &["metadata", "namespace"]),
                        text_at(service, &["metadata", "name"])
                    );
                    compare.push(Compare::ModRevision(port_key(*port), 0));
                    ops.push(Op::Put {
                        key: port_key(*port),
                        record: Record {
                            body: Bytes::from(owner),
                            ..Record::default()
                        },
                    });
                }
                after
            }
        };
        let addresses = built_in("networking.k8s.io", "ipaddresses")?;
        ops.extend(before.addresses.difference(&after.addresses).map(|ip| Op::Delete {
            key: address_key(addresses, *ip),
        }));
        ops.extend(
            before
                .ports
                .difference(&after.ports)
                .map(|port| Op::Delete { key: port_key(*port) }),
        );
        Ok((compare, ops))
    }
}

fn port_key(port: u16) -> Bytes {
    Bytes::from(format!("{NODE_PORTS}{port}"))
}

/// IPAddress objects are named by the address in canonical form.
fn address_key(kind: &Kind, ip: IpAddr) -> Bytes {
    key_of(kind, "", &ip.to_string())
}

fn address_object(ip: IpAddr, service: &Value) -> Value {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(), "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": respond::now_text(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"},
        },
        "spec": {"parentRef": {"group": "", "resource": "services",
            "namespace": text_at(service, &["metadata", "namespace"]), "name": text_at(service, &["metadata", "name"])}},
    })
}
