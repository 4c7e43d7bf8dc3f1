//! Which claims of devices are prepared on this node, and for which pods: what is kept on the disk. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// By `namespace/name`.
    claims: BTreeMap<String, Held>,
}

/// A claim that pods of this node use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// UIDs of the pods.
    pods: BTreeSet<String>,
    /// By driver, what it made ready.
    drivers: BTreeMap<String, Vec<Prepared>>,
    /// The machine's start in which all drivers have made it ready.
    prepared: Option<String>,
}

/// A device as its driver made it ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// None: of all requests.
    pub requests: Vec<String>,
    pub pool: String,
    pub device: String,
    pub cdi: Vec<String>,
}

impl Held {
    pub fn drivers(&self) -> impl Iterator<Item = &str> {
        self.drivers.keys().map(String::as_str)
    }

    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The names of the pod's claims, by entry. The error is upstream's.
pub fn claims_of(pod: &Pod) -> Result<Vec<(&str, &str, bool)>, String> {
    let status = pod
        .status
        .as_ref()
        .and_then(|status| status.resource_claim_statuses.as_ref());
    let mut all = Vec::new();
    for entry in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
        if let Some(name) = &entry.resource_claim_name {
            all.push((entry.name.as_str(), name.as_str(), false));
            continue;
        }
        let known = status.into_iter().flatten().find(|known| known.name == entry.name);
        let Some(known) = known else {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            return Err(format!("pod \"{namespace}/{name}\": ResourceClaim not found"));
        };
        if let Some(name) = &known.resource_claim_name {
            all.push((entry.name.as_str(), name.as_str(), true));
        }
    }
    Ok(all)
}

/// Whether the pod may use the claim; the error is upstream's. `made`: it must be the pod's own.
pub fn may_use(pod: &Pod, claim: &ResourceClaim, made: bool) -> Result<(), String> {
    let (meta, own) = (&pod.metadata, &claim.metadata);
    let uid = meta.uid.as_deref().unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut owners = own.owner_references.iter().flatten();
    if made && !owners.any(|owner| owner.controller == Some(true) && owner.uid == uid) {
        let (namespace, name, pod) = (text(&own.namespace), text(&own.name), text(&meta.name));
        return Err(format!(
            "ResourceClaim {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
        ));
    }
    let consumers = claim.status.as_ref().and_then(|status| status.reserved_for.as_ref());
    if !consumers.into_iter().flatten().any(|consumer| consumer.uid == uid) {
        let (name, own_uid, pod) = (text(&own.name), text(&own.uid), text(&meta.name));
        return Err(format!(
            "pod {pod} ({uid}) is not allowed to use ResourceClaim {name} ({own_uid})"
        ));
    }
    Ok(())
}

/// The drivers that have to make it ready here.
pub fn drivers_of(claim: &ResourceClaim) -> Result<BTreeSet<String>, String> {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    let Some(allocation) = allocation else {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        return Err(format!("ResourceClaim {name}: not allocated"));
    };
    let devices = allocation.devices.as_ref().and_then(|devices| devices.results.as_ref());
    Ok(devices
        .into_iter()
        .flatten()
        .map(|result| result.driver.clone())
        .collect())
}

impl Book {
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub fn has_pod(&self, pod: &str) -> bool {
        self.claims.values().any(|held| held.pods.contains(pod))
    }

    /// Whether all of the pod's claims are ready since the machine's start.
    pub fn is_ready(&self, pod: &Pod, boot: &str) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        claims_of(pod).is_ok_and(|claims| {
            claims.iter().all(|(_, name, _)| {
                let held = self.claims.get(&format!("{namespace}/{name}"));
                held.is_some_and(|held| held.pods.contains(uid) && held.prepared.as_deref() == Some(boot))
            })
        })
    }

    /// From here on the pod holds the claim, whatever comes of preparing it.
    pub fn begin(&mut self, pod: &str, claim: &ResourceClaim, drivers: BTreeSet<String>) -> Result<(), String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, name) = (text(&claim.metadata.namespace), text(&claim.metadata.name));
        let uid = text(&claim.metadata.uid);
        let held = self.claims.entry(format!("{namespace}/{name}")).or_insert(Held {
            namespace,
            name,
            uid: uid.clone(),
            pods: BTreeSet::new(),
            drivers: drivers.into_iter().map(|driver| (driver, Vec::new())).collect(),
            prepared: None,
        });
        if held.uid != uid {
            return Err(format!(
                "old ResourceClaim with same name {} and different UID {} still exists (previous pod force-deleted?!)",
                held.name, held.uid
            ));
        }
        held.pods.insert(pod.to_string());
        Ok(())
    }

    /// The claim, if it is not ready since the machine's start.
    pub fn unready(&self, key: &str, boot: &str) -> Option<&Held> {
        let held = self.claims.get(key);
        held.filter(|held| held.prepared.as_deref() != Some(boot))
    }

    /// The drivers of a claim that the pod holds already.
    pub fn drivers_for(&self, pod: &Pod, key: &str) -> Option<BTreeSet<String>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let held = self.claims.get(key).filter(|held| held.pods.contains(uid))?;
        Some(held.drivers.keys().cloned().collect())
    }

    pub fn made_ready(&mut self, key: &str, driver: &str, devices: Vec<Prepared>) {
        if let Some(known) = self.claims.get_mut(key).and_then(|held| held.drivers.get_mut(driver)) {
            *known = devices;
        }
    }

    /// By all of its drivers.
    pub fn ready(&mut self, key: &str, boot: &str) {
        if let Some(held) = self.claims.get_mut(key) {
            held.prepared = Some(boot.to_string());
        }
    }

    /// Keys of the pod's claims.
    pub fn held_by(&self, pod: &str) -> BTreeSet<String> {
        let own = self.claims.iter().filter(|(_, held)| held.pods.contains(pod));
        own.map(|(key, _)| key.clone()).collect()
    }

    /// The pod's claims that nobody else on the node uses.
    pub fn last_held_by(&self, pod: &str) -> Vec<Held> {
        let own = self.claims.values().filter(|held| held.pods.contains(pod));
        own.filter(|held| held.pods.len() == 1).cloned().collect()
    }

    /// The pod has ended; these of its claims were given back.
    pub fn leave(&mut self, pod: &str, given_back: &[Held]) {
        for held in given_back {
            self.claims.remove(&held.key());
        }
        for held in self.claims.values_mut() {
            if held.pods.len() > 1 {
                held.pods.remove(pod);
            }
        }
    }

    /// UIDs of all pods that hold claims.
    pub fn pods(&self) -> BTreeSet<String> {
        self.claims
            .values()
            .flat_map(|held| held.pods.iter().cloned())
            .collect()
    }

    /// The CDI names of the devices that a container is to have.
    pub fn cdi(&self, pod: &Pod, container: &Container) -> Result<Vec<String>, String> {
        let asked = container
            .resources
            .as_ref()
            .and_then(|resources| resources.claims.as_ref());
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            return Ok(Vec::new());
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let entries = claims_of(pod)?;
        let mut names: Vec<String> = Vec::new();
        for one in asked {
            for (_, claim, _) in entries.iter().filter(|(entry, ..)| *entry == one.name) {
                let Some(held) = self.claims.get(&format!("{namespace}/{claim}")) else {
                    return Err(format!(
                        "internal error: unable to get claim info for ResourceClaim {claim} in namespace {namespace}"
                    ));
                };
                let request = one.request.as_deref().filter(|request| !request.is_empty());
                let of = |device: &&Prepared| match request {
                    None => true,
                    Some(request) => {
                        device.requests.is_empty() || device.requests.iter().any(|name| is_of(name, request))
                    }
                };
                for id in held
                    .drivers
                    .values()
                    .flatten()
                    .filter(of)
                    .flat_map(|device| &device.cdi)
                {
                    if !names.contains(id) {
                        names.push(id.clone());
                    }
                }
            }
        }
        Ok(names)
    }
}

/// `request`, or one of its alternatives.
fn is_of(name: &str, request: &str) -> bool {
    name == request || name.split('/').next() == Some(request)
}

#[cfg(test)]
#[path = "book_test.rs"]
mod tests;
