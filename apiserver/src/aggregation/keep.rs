//! Keeps APIServices, their conditions and the routes as they should be: one task
//! that wakes when one of the objects concerned changes, and, while there are
//! remote group versions, looks at their servers now and then.

use super::Remote;
use super::availability::{Availability, ServiceRef, precheck};
use super::check::{Checked, check};
use super::local::{Registration, plan};
use super::write::TRUST;
use crate::proxy::{Place, service_addresses};
use crate::registry::{StoreObjects, built_in, key_of, prefix_of, text_at};
use crate::server::ApiServer;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::select_all;
use serde_json::Value;
use skiff_access::Objects;
use skiff_api::ApiError;
use skiff_store::{Revision, Watch};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A server that answered is asked again after this.
const RECHECK: Duration = Duration::from_secs(60);
/// One that did not is asked sooner at first.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Group versions of custom resources that went are forgotten after this: another
/// server may have heard of them sooner than this one.
const FORGET_AFTER: Duration = Duration::from_secs(2);
/// After the store failed.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What the keeper remembers of one remote group version.
struct Kept {
    remote: Arc<Remote>,
    /// Revisions of its Service and slices when it was looked at last.
    inputs: Vec<Revision>,
    due: Instant,
    failures: u32,
    looking: bool,
}

#[derive(Default)]
pub(super) struct Keeper {
    remotes: BTreeMap<String, Kept>,
    looks: JoinSet<(Arc<Remote>, Checked)>,
    /// Managed APIServices that nothing here stands behind any more, since when.
    unwanted: HashMap<String, Instant>,
    started: bool,
}

impl ApiServer {
    /// Writes the APIServices of what is answered here, then keeps all of them.
    pub(crate) async fn start_aggregation(self: &Arc<Self>) -> Result<(), ApiError> {
        let mut keeper = Keeper::default();
        let revision = keeper.pass(self).await?;
        tokio::spawn(run(Arc::downgrade(self), keeper, revision));
        Ok(())
    }
}

async fn run(weak: Weak<ApiServer>, mut keeper: Keeper, mut seen: Revision) {
    loop {
        let Some(server) = Weak::upgrade(&weak) else { return };
        let closing = server.closing.clone();
        let watches = watches(&server, &keeper, seen);
        let due = keeper.next_due();
        let wake = server.aggregation.wake.clone();
        // A server that nobody uses any more is not kept alive by being looked after.
        drop(server);
        let looked = tokio::select! {
            () = closing.cancelled() => return,
            () = wake.notified() => None,
            () = any(watches) => None,
            () = sleep_until(due) => None,
            Some(looked) = keeper.looks.join_next(), if !keeper.looks.is_empty() => looked.ok(),
        };
        let Some(server) = Weak::upgrade(&weak) else { return };
        if let Some((remote, checked)) = looked {
            keeper.looked(&server, &remote, checked).await;
        }
        match keeper.pass(&server).await {
            Ok(revision) => seen = revision,
            Err(error) => {
                tracing::warn!(%error, "API services could not be looked after; trying again");
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Until something under one of these changes.
async fn any(watches: Vec<Box<dyn Watch>>) {
    let waits = watches.into_iter().map(|mut watch| {
        async move {
            while let Some(batch) = watch.next().await {
                if !batch.events.is_empty() {
                    return;
                }
            }
        }
        .boxed()
    });
    select_all(waits).await;
}

/// What could change the routes: APIServices, definitions of custom resources, the
/// trust; and for each remote group version its Service and slices.
fn watches(server: &ApiServer, keeper: &Keeper, after: Revision) -> Vec<Box<dyn Watch>> {
    let mut prefixes: BTreeSet<Bytes> = BTreeSet::new();
    let table = |group, plural| built_in(group, plural).ok();
    prefixes.extend(table("apiregistration.k8s.io", "apiservices").map(|k| prefix_of(k, "")));
    prefixes.extend(table("", "configmaps").map(|k| key_of(k, TRUST.0, TRUST.1)));
    for kept in keeper.remotes.values() {
        let ServiceRef { namespace, name, .. } = &kept.remote.service;
        prefixes.extend(table("", "services").map(|k| key_of(k, namespace, name)));
        prefixes.extend(table("discovery.k8s.io", "endpointslices").map(|k| prefix_of(k, namespace)));
    }
    prefixes
        .into_iter()
        .filter_map(|prefix| server.store.watch(prefix, after).ok())
        .collect()
}

impl Keeper {
    /// Brings everything to what the objects say now; answers the revision that was read.
    async fn pass(&mut self, server: &Arc<ApiServer>) -> Result<Revision, ApiError> {
        server.write_trust().await?;
        let snapshot = server.store.snapshot();
        let revision = snapshot.revision();
        let objects = server.objects(snapshot);
        let all = objects.list("apiregistration.k8s.io", "apiservices", "");
        let steps = plan(&all, &server.catalog());
        let steps = self.due_steps(steps);
        if !steps.is_empty() {
            server.register(steps).await?;
        }
        self.started = true;
        for object in all.iter().filter(|o| ServiceRef::of(o).is_none()) {
            let (name, uid) = (
                text_at(object, &["metadata", "name"]),
                text_at(object, &["metadata", "uid"]),
            );
            if object["status"]["conditions"][0]["reason"] != "Local" {
                server.write_availability(name, uid, &Availability::local()).await?;
            }
        }
        self.route(server, &all);
        for name in self.remotes.keys().cloned().collect::<Vec<_>>() {
            self.look(server, &objects, &name).await?;
        }
        Ok(revision)
    }

    /// Deletions wait: of built-in group versions for the next start, of others a little.
    fn due_steps(&mut self, steps: Vec<Registration>) -> Vec<Registration> {
        let now = Instant::now();
        let mut unwanted = HashMap::new();
        let mut due = Vec::new();
        for step in steps {
            match step {
                Registration::Delete { name, built_in } if self.started && built_in => drop(name),
                Registration::Delete { name, .. } if self.started => {
                    let since = self.unwanted.get(&name).copied().unwrap_or(now);
                    if now >= since + FORGET_AFTER {
                        due.push(Registration::Delete { name, built_in: false });
                    } else {
                        unwanted.insert(name, since);
                    }
                }
                step => due.push(step),
            }
        }
        self.unwanted = unwanted;
        due
    }

    fn next_due(&self) -> Option<Instant> {
        let looks = self.remotes.values().filter(|k| !k.looking).map(|k| k.due);
        looks
            .chain(self.unwanted.values().map(|since| *since + FORGET_AFTER))
            .min()
    }

    /// Makes the routes those of these APIServices. What stayed the same keeps its
    /// connections and what is known of it.
    fn route(&mut self, server: &ApiServer, all: &[Arc<Value>]) {
        let identity = server.config.front_proxy_client.as_deref();
        let mut remotes = BTreeMap::new();
        let mut changed = false;
        for object in all {
            let name = text_at(object, &["metadata", "name"]);
            match self.remotes.remove(name) {
                Some(kept) if kept.remote.is_of(object) => {
                    remotes.insert(name.to_string(), kept);
                }
                old => {
                    changed |= old.is_some();
                    if let Some(remote) = Remote::of(object, identity) {
                        changed = true;
                        let kept = Kept {
                            remote: Arc::new(remote),
                            inputs: Vec::new(),
                            due: Instant::now(),
                            failures: 0,
                            looking: false,
                        };
                        remotes.insert(name.to_string(), kept);
                    }
                }
            }
        }
        changed |= !self.remotes.is_empty();
        self.remotes = remotes;
        if changed {
            let routes = self.remotes.values().map(|k| k.remote.clone()).collect();
            server.aggregation.routes.store(Arc::new(routes));
            server.documents.forget();
        }
    }

    /// Looks at a remote group version if something about it changed or it is time.
    async fn look(&mut self, server: &Arc<ApiServer>, objects: &StoreObjects<'_>, name: &str) -> Result<(), ApiError> {
        let Some(kept) = self.remotes.get_mut(name) else {
            return Ok(());
        };
        let remote = kept.remote.clone();
        let wanted = &remote.service;
        let inputs = inputs(objects, wanted)?;
        let now = Instant::now();
        let news = inputs != kept.inputs;
        if !news && (kept.looking || now < kept.due) {
            return Ok(());
        }
        kept.inputs = inputs;
        let service = objects.get("", "services", &wanted.namespace, &wanted.name);
        let slices = objects.list("discovery.k8s.io", "endpointslices", &wanted.namespace);
        let backends = service
            .as_deref()
            .map(|s| backends(s, &slices, wanted))
            .unwrap_or_default();
        remote.update(|state| state.backends.clone_from(&backends));
        if let Err(missing) = precheck(wanted, service.as_deref(), &slices) {
            // Only news can mend it.
            kept.due = now + RECHECK;
            if remote.state.load().available {
                remote.update(|state| state.available = false);
                server.documents.forget();
            }
            return server.write_availability(&remote.name, &remote.uid, &missing).await;
        }
        if kept.looking {
            // It is looked at again as soon as the present look ends.
            kept.due = now;
            return Ok(());
        }
        kept.looking = true;
        kept.due = now + RECHECK;
        self.looks.spawn(async move {
            let checked = check(&remote).await;
            (remote, checked)
        });
        Ok(())
    }

    async fn looked(&mut self, server: &ApiServer, remote: &Arc<Remote>, checked: Checked) {
        let Some(kept) = self
            .remotes
            .get_mut(&remote.name)
            .filter(|k| Arc::ptr_eq(&k.remote, remote))
        else {
            return;
        };
        kept.looking = false;
        let well = checked.availability.is_available();
        kept.failures = if well { 0 } else { kept.failures.saturating_add(1) };
        let wait = if well {
            RECHECK
        } else {
            RETRY_FIRST.saturating_mul(1 << kept.failures.min(10)).min(RETRY_MAX)
        };
        kept.due = kept.due.min(Instant::now() + wait);
        let before = remote.state.load_full();
        let differs = before.available != well
            || before.resources != checked.resources
            || before.openapi.v2 != checked.openapi.v2
            || before.openapi.v3 != checked.openapi.v3;
        remote.update(|state| {
            state.available = well;
            state.resources.clone_from(&checked.resources);
            state.openapi = checked.openapi.clone();
        });
        if differs {
            server.documents.forget();
        }
        let written = server
            .write_availability(&remote.name, &remote.uid, &checked.availability)
            .await;
        if let Err(error) = written {
            tracing::warn!(name = remote.name, %error, "the condition of an API service could not be written");
        }
    }
}

/// Where the Service's requests go: what its name stands for, or its ready endpoints.
fn backends(service: &Value, slices: &[Arc<Value>], wanted: &ServiceRef) -> Vec<(String, u16)> {
    if text_at(service, &["spec", "type"]) == "ExternalName" {
        let name = text_at(service, &["spec", "externalName"]);
        return vec![(name.to_string(), wanted.port)];
    }
    let place = Place {
        scheme: "https",
        name: &wanted.name,
        port: &wanted.port.to_string(),
    };
    service_addresses(service, slices, &place).unwrap_or_default()
}

/// Revisions of the Service and of its slices: other ones mean another look.
fn inputs(objects: &StoreObjects<'_>, wanted: &ServiceRef) -> Result<Vec<Revision>, ApiError> {
    let services = built_in("", "services")?;
    let slices = built_in("discovery.k8s.io", "endpointslices")?;
    let service = objects.snapshot.get(&key_of(services, &wanted.namespace, &wanted.name));
    let mut revisions = vec![service.map_or(0, |entry| entry.mod_revision())];
    let label = |entry: &skiff_store::Entry| {
        let labels = entry.labels();
        labels.get("kubernetes.io/service-name") == Some(&*wanted.name)
    };
    let found = objects
        .snapshot
        .range(&prefix_of(slices, &wanted.namespace), None, 0)
        .entries;
    revisions.extend(found.iter().filter(|e| label(e)).map(|e| e.mod_revision()));
    Ok(revisions)
}
