//! Devices of pods (dynamic resource allocation): has drivers make a pod's claims ready before its sandbox, tells
//! containers what they get, and gives it all back when the last pod of a claim has ended.
//!
//! ```text
//! plugins --register--> drivers <--prepare-- sandbox        book (on disk) --> CDI names --> containers
//!                          ^---- unprepare -- end of pod      '--> edits, where the runtime knows no CDI
//! ```
//!
//! What is ready is ready since the machine's start: an agent that starts anew asks for nothing twice, one
//! after a reboot does, since drivers keep what containers are given in memory.

mod book;
pub mod cdi;
mod driver;
mod wipe;

use crate::cache::disk;
use crate::error::Error;
use crate::plugins::{Handler, Plugin};
use async_trait::async_trait;
use book::{Book, Held, Prepared};
use driver::Driver;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::{Api, Client};
use skiff_proto::kubelet::dra;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the book is, below the data directory.
const BOOK: &str = "devices.json";

pub struct Devices {
    client: Client,
    node: String,
    path: PathBuf,
    /// Which start of the machine this is.
    boot: String,
    book: Mutex<Book>,
    /// By name, the newest last.
    drivers: Mutex<BTreeMap<String, Vec<Driver>>>,
    /// Who is at a claim.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn asked(held: &Held) -> dra::Claim {
    dra::Claim {
        namespace: held.namespace.clone(),
        uid: held.uid.clone(),
        name: held.name.clone(),
    }
}

impl Devices {
    /// A book that cannot be read is begun anew: drivers bear to be asked twice.
    pub fn open(client: Client, node: &str, data_dir: &Path) -> Self {
        let path = data_dir.join(BOOK);
        let book = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(%error, path = %path.display(), "what pods have of devices is not known any more");
                Book::default()
            }),
            Err(_) => Book::default(),
        };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            client,
            node: node.to_string(),
            path,
            boot: boot.trim().to_string(),
            book: Mutex::new(book),
            drivers: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    fn save(&self) -> Result<(), String> {
        let bytes = serde_json::to_vec(&*self.book()).map_err(|error| error.to_string())?;
        let written = disk::write_atomically(&self.path, &bytes, 0o600);
        written.map_err(|error| format!("checkpoint ResourceClaim cache: {error}"))
    }

    fn driver(&self, name: &str) -> Result<Driver, String> {
        let drivers = lock(&self.drivers);
        let newest = drivers.get(name).and_then(|all| all.last()).cloned();
        newest.ok_or_else(|| format!("DRA driver {name} is not registered"))
    }

    /// Claims are worked on by one at a time; taken in order, so that nobody waits in a circle.
    async fn turns(&self, keys: &BTreeSet<String>) -> Vec<tokio::sync::OwnedMutexGuard<()>> {
        let mut held = Vec::new();
        for key in keys {
            let turn = lock(&self.turns).entry(key.clone()).or_default().clone();
            held.push(turn.lock_owned().await);
        }
        held
    }

    fn end_turns(&self, keys: &BTreeSet<String>, held: Vec<tokio::sync::OwnedMutexGuard<()>>) {
        drop(held);
        let mut turns = lock(&self.turns);
        for key in keys {
            if turns.get(key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
                turns.remove(key);
            }
        }
    }

    /// Makes the pod's claims ready. Idempotent; costs nothing for pods that have none.
    pub async fn prepare(&self, pod: &Pod) -> Result<(), Error> {
        let entries = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
        if entries.is_none_or(Vec::is_empty) || self.book().is_ready(pod, &self.boot) {
            return Ok(());
        }
        let prepared = self.try_prepare(pod).await;
        prepared.map_err(|why| Error::Devices(format!("prepare dynamic resources: {why}")))
    }

    async fn try_prepare(&self, pod: &Pod) -> Result<(), String> {
        // All is checked before anything is noted, so that a pod that cannot begin can end.
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<ResourceClaim> = Api::namespaced(self.client.clone(), namespace);
        let mut claims = BTreeMap::new();
        for (_, name, made) in book::claims_of(pod)? {
            let key = format!("{namespace}/{name}");
            // Who was let in is not asked for again: a node that boots without the API makes ready what it had.
            if let Some(drivers) = self.book().drivers_for(pod, &key) {
                drivers.iter().try_for_each(|driver| self.driver(driver).map(drop))?;
                claims.insert(key, (None, drivers));
                continue;
            }
            let claim = api.get(name).await;
            let claim = claim.map_err(|error| format!("fetch ResourceClaim {name}: {}", words(&error)))?;
            book::may_use(pod, &claim, made)?;
            let drivers = book::drivers_of(&claim)?;
            drivers.iter().try_for_each(|driver| self.driver(driver).map(drop))?;
            claims.insert(key, (Some(claim), drivers));
        }
        let keys: BTreeSet<String> = claims.keys().cloned().collect();
        let turns = self.turns(&keys).await;
        let prepared = self.prepare_claims(pod, claims).await;
        self.end_turns(&keys, turns);
        prepared
    }

    async fn prepare_claims(
        &self,
        pod: &Pod,
        claims: BTreeMap<String, (Option<ResourceClaim>, BTreeSet<String>)>,
    ) -> Result<(), String> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut batches: BTreeMap<String, Vec<dra::Claim>> = BTreeMap::new();
        let mut unready = Vec::new();
        for (key, (claim, drivers)) in claims {
            let mut book = self.book();
            if let Some(claim) = claim {
                book.begin(uid, &claim, drivers.clone())?;
            }
            let Some(held) = book.unready(&key, &self.boot).map(asked) else {
                continue;
            };
            for driver in drivers {
                batches.entry(driver).or_default().push(held.clone());
            }
            unready.push(key);
        }
        self.save()?;
        for (driver, claims) in batches {
            self.prepare_batch(&driver, claims).await?;
        }
        for key in unready {
            self.book().ready(&key, &self.boot);
        }
        self.save()
    }

    async fn prepare_batch(&self, driver: &str, claims: Vec<dra::Claim>) -> Result<(), String> {
        let answer = self.driver(driver)?.prepare(claims.clone()).await;
        let mut answer = answer.map_err(|status| said("NodePrepareResources", &status))?;
        for claim in &claims {
            let Some(result) = answer.claims.remove(&claim.uid) else {
                return Err("NodePrepareResources skipped 1 ResourceClaims".into());
            };
            if !result.error.is_empty() {
                let (name, error) = (&claim.name, &result.error);
                return Err(format!("NodePrepareResources failed for ResourceClaim {name}: {error}"));
            }
            let devices = result.devices.into_iter().map(|device| Prepared {
                requests: device.request_names,
                pool: device.pool_name,
                device: device.device_name,
                cdi: device.cdi_device_ids,
            });
            let key = format!("{}/{}", claim.namespace, claim.name);
            self.book().made_ready(&key, driver, devices.collect());
        }
        match answer.claims.keys().next() {
            Some(uid) => Err(format!(
                "NodePrepareResources returned result for unknown claim UID {uid}"
            )),
            None => Ok(()),
        }
    }

    /// Whether something is to be given back when the pod has ended.
    pub fn holds(&self, pod: &str) -> bool {
        self.book().has_pod(pod)
    }

    /// UIDs of all pods that have devices.
    pub fn pods(&self) -> BTreeSet<String> {
        let book = self.book();
        if book.is_empty() { BTreeSet::new() } else { book.pods() }
    }

    /// What the pod had is its drivers' again, but for what other pods use. Its containers have ended. Idempotent.
    pub async fn unprepare(&self, pod: &str) -> Result<(), Error> {
        if !self.holds(pod) {
            return Ok(());
        }
        let given_back = self.try_unprepare(pod).await;
        given_back.map_err(|why| Error::Devices(format!("unprepare dynamic resources: {why}")))
    }

    async fn try_unprepare(&self, pod: &str) -> Result<(), String> {
        // Of all its claims: who is the last one that has a claim is settled among its pods in turn.
        let keys = self.book().held_by(pod);
        let turns = self.turns(&keys).await;
        let given_back = self.unprepare_claims(pod).await;
        self.end_turns(&keys, turns);
        given_back
    }

    async fn unprepare_claims(&self, pod: &str) -> Result<(), String> {
        let last = self.book().last_held_by(pod);
        let mut batches: BTreeMap<&str, Vec<dra::Claim>> = BTreeMap::new();
        for held in &last {
            for driver in held.drivers() {
                batches.entry(driver).or_default().push(asked(held));
            }
        }
        for (driver, claims) in batches {
            let answer = self.driver(driver)?.unprepare(claims.clone()).await;
            let mut answer = answer.map_err(|status| said("NodeUnprepareResources", &status))?;
            for claim in &claims {
                let Some(result) = answer.claims.remove(&claim.uid) else {
                    return Err("NodeUnprepareResources skipped 1 ResourceClaims".into());
                };
                if !result.error.is_empty() {
                    let (name, error) = (&claim.name, &result.error);
                    return Err(format!(
                        "NodeUnprepareResources failed for ResourceClaim {name}: {error}"
                    ));
                }
            }
        }
        self.book().leave(pod, &last);
        self.save()
    }

    /// The CDI names of what a container is to have.
    pub fn cdi(&self, pod: &Pod, container: &Container) -> Result<Vec<String>, String> {
        self.book().cdi(pod, container)
    }
}

fn said(method: &str, status: &tonic::Status) -> String {
    // As Go's gRPC shows a status.
    format!(
        "{method}: rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The plugins of drivers.
pub struct Registered(pub Arc<Devices>);

#[async_trait]
impl Handler for Registered {
    fn kind(&self) -> &'static str {
        "DRAPlugin"
    }

    async fn register(&self, plugin: Plugin) -> Result<(), String> {
        let driver = Driver::new(plugin.clone())?;
        wipe::watch(self.0.clone(), plugin.clone(), Arc::downgrade(&driver.registered));
        let mut drivers = lock(&self.0.drivers);
        let all = drivers.entry(plugin.name.clone()).or_default();
        all.retain(|known| known.plugin.endpoint != plugin.endpoint);
        all.push(driver);
        Ok(())
    }

    async fn gone(&self, plugin: &Plugin) {
        let last = {
            let mut drivers = lock(&self.0.drivers);
            let Some(all) = drivers.get_mut(&plugin.name) else {
                return;
            };
            all.retain(|known| known.plugin.endpoint != plugin.endpoint);
            let last = all.is_empty();
            if last {
                drivers.remove(&plugin.name);
            }
            last
        };
        if last {
            wipe::later(self.0.clone(), Some(plugin.name.clone()));
        }
    }
}

/// Follows the node's drivers until shutdown.
pub fn follow(devices: &Arc<Devices>) -> Arc<dyn Handler> {
    // Those that did not come back while the agent was away.
    wipe::later(devices.clone(), None);
    Arc::new(Registered(devices.clone()))
}
