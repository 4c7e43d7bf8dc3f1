//! Devices, their classes and claims are followed from the first pod on that claims some. A pod gets devices
//! with its node: they are its own from the decision on, and are written into its claims before it is bound.

use super::Driver;
use super::observe::Listing;
use crate::call::{self, STRATEGIC};
use crate::devices::{ClaimState, ClassState, DeviceId, News, Slice, Wants, owned, wants};
use crate::filter::Candidate;
use crate::hints::Change;
use crate::plugin::Plugin;
use crate::queue::Plugins;
use crate::report::Regarding;
use crate::schedule::{Deallocation, Unschedulable};
use crate::snapshot::PodKey;
use http::{Method, StatusCode};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceClass, ResourceClaim, ResourceClaimConsumerReference, ResourceSlice,
};
use kube::api::{Api, PostParams};
use kube::runtime::watcher::Event;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// Keeps a claim that has devices until they are given back.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Somebody else changed the claim so often meanwhile.
const TRIES_MAX: usize = 5;

#[derive(Default)]
pub(super) struct Following {
    started: bool,
    claims: Listing<PodKey>,
    classes: Listing<String>,
    slices: Listing<String>,
    /// Pods that wait for the lists.
    waiting: Vec<PodKey>,
}

impl Following {
    fn complete(&self) -> bool {
        self.claims.once && self.classes.once && self.slices.once
    }
}

/// What is to be written into a claim.
pub(super) struct Reservation {
    pub key: PodKey,
    claim: Arc<ResourceClaim>,
    /// `None`: it has its devices.
    allocation: Option<AllocationResult>,
}

/// Why a claim could not be made the pod's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("claim {0} got deleted in the meantime")]
    Deleted(String),
    #[error("claim {0} got allocated elsewhere in the meantime")]
    Allocated(String),
    #[error(transparent)]
    Api(#[from] kube::Error),
}

fn key_of(claim: &ResourceClaim) -> PodKey {
    let meta = &claim.metadata;
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

impl Driver {
    /// False if the pod's claims are not known yet, or are not as they must be before it is tried at all.
    pub(super) fn has_claims(&mut self, candidate: &Candidate, now: Instant) -> bool {
        let key = &candidate.info.key;
        if !self.devices.complete() {
            self.devices.waiting.push(key.clone());
            if !self.devices.started {
                self.devices.started = true;
                self.snapshot.devices();
                self.watches.start_devices();
            }
            self.queue.making_room(key);
            return false;
        }
        let Err(why) = owned(self.snapshot.devices(), candidate).map(drop) else {
            return true;
        };
        tracing::debug!(namespace = key.0, pod = key.1, why, "waits for its claims");
        self.queue.held(key, Plugins::NONE.with(Plugin::DynamicResources), now);
        false
    }

    fn devices_listed(&mut self) {
        if self.devices.complete() {
            for key in std::mem::take(&mut self.devices.waiting) {
                self.queue.made_room(&key, true, Instant::now());
            }
        }
    }

    pub(super) fn resource_claim_event(&mut self, event: Event<ResourceClaim>) {
        match event {
            Event::Apply(claim) | Event::InitApply(claim) => {
                let key = key_of(&claim);
                self.devices.claims.saw(|| key.clone());
                let news = self.snapshot.devices().set_claim(key.clone(), ClaimState::of(claim));
                self.claim_is(&key, news);
            }
            Event::Delete(claim) => self.claim_gone(&key_of(&claim)),
            Event::Init => self.devices.claims.begin(),
            Event::InitDone => {
                let seen = self.devices.claims.end();
                for key in self.snapshot.devices().claims_but(&seen) {
                    self.claim_gone(&key);
                }
                self.devices_listed();
            }
        }
    }

    fn claim_gone(&mut self, key: &PodKey) {
        let news = self.snapshot.devices().remove_claim(key);
        if news == News::Freed {
            self.claim_is(key, news);
        }
    }

    fn claim_is(&mut self, key: &PodKey, news: News) {
        if news != News::None {
            self.wake(Change::ResourceClaim(key, news == News::Freed));
        }
    }

    pub(super) fn device_class_event(&mut self, event: Event<DeviceClass>) {
        let name = |class: &DeviceClass| class.metadata.name.clone().unwrap_or_default();
        let classes = &mut self.snapshot.devices().classes;
        match event {
            Event::Apply(class) | Event::InitApply(class) => {
                let name = name(&class);
                self.devices.classes.saw(|| name.clone());
                let new = ClassState::of(&class);
                if classes.insert(name, new.clone()) != Some(new) {
                    self.wake(Change::DeviceClass);
                }
            }
            Event::Delete(class) => drop(classes.remove(&name(&class))),
            Event::Init => self.devices.classes.begin(),
            Event::InitDone => {
                let seen = self.devices.classes.end();
                classes.retain(|name, _| seen.contains(name));
                self.devices_listed();
            }
        }
    }

    pub(super) fn resource_slice_event(&mut self, event: Event<ResourceSlice>) {
        match event {
            Event::Apply(slice) | Event::InitApply(slice) => {
                let slice = Slice::of(&slice);
                self.devices.slices.saw(|| slice.name.clone());
                if self.snapshot.devices().set_slice(slice) {
                    self.wake(Change::ResourceSlice);
                }
            }
            Event::Delete(slice) => {
                let name = slice.metadata.name.unwrap_or_default();
                self.snapshot.devices().remove_slice(&name);
            }
            Event::Init => self.devices.slices.begin(),
            Event::InitDone => {
                let seen = self.devices.slices.end();
                let devices = self.snapshot.devices();
                for name in devices.slices_but(&seen) {
                    devices.remove_slice(&name);
                }
                self.devices_listed();
            }
        }
    }

    /// What the pod's claims are to say before it is bound. From here on nobody else gets the same devices.
    pub(super) fn reserve(&mut self, candidate: &Candidate, node: &str) -> Vec<Reservation> {
        if candidate.devices.is_empty() {
            return Vec::new();
        }
        let crate::snapshot::Snapshot { state, memo } = &mut self.snapshot;
        let found: Vec<(PodKey, AllocationResult, Vec<DeviceId>)> =
            match (wants(state.devices.as_ref(), memo, candidate), state.slot_of(node)) {
                (Wants::Nodes(plan), Some(slot)) => {
                    let at = &state.slots[slot as usize];
                    plan.allocate(&at.name, &at.labels)
                }
                _ => Vec::new(),
            };
        let devices = self.snapshot.devices();
        let uid = &candidate.info.uid;
        let mut all = Vec::new();
        for (key, claim) in owned(devices, candidate).unwrap_or_default() {
            let allocation = found.iter().find(|(of, ..)| *of == key);
            if claim.is_reserved_for(uid) {
                continue;
            }
            all.push(Reservation {
                claim: claim.object.clone(),
                allocation: allocation.map(|(_, allocation, _)| allocation.clone()),
                key,
            });
        }
        for (key, _, taken) in found {
            devices.begin(key, taken);
        }
        all
    }

    /// The claims were written; or, if not all is well, some of them. Those that were not have nothing.
    pub(super) fn reserved(&mut self, keys: &[PodKey], written: Vec<ResourceClaim>, all_well: bool) {
        for claim in written {
            self.snapshot.devices().set_claim(key_of(&claim), ClaimState::of(claim));
        }
        for key in keys {
            if self.snapshot.devices().end(key) {
                self.wake(Change::ResourceClaim(key, !all_well));
            }
        }
    }

    /// A claim whose devices are elsewhere, and that nobody else uses, gives them back, so that it gets others.
    pub(super) fn deallocate(&mut self, candidate: &Candidate, why: &mut Unschedulable) {
        if candidate.devices.is_empty() || why.blocked.is_some() {
            return;
        }
        why.claims = Deallocation::InVain;
        if !why.plugins.contains(&Plugin::DynamicResources) {
            return;
        }
        let uid = &candidate.info.uid;
        let claims = owned(self.snapshot.devices(), candidate).unwrap_or_default();
        let unused = |claim: &ClaimState| claim.consumers.iter().all(|consumer| consumer == uid);
        let mut held = claims
            .into_iter()
            .filter(|(_, claim)| claim.nodes.is_some() && unused(claim));
        let Some((key, claim)) = held.next() else { return };
        let mut claim = ResourceClaim::clone(&claim.object);
        if let Some(status) = &mut claim.status {
            status.allocation = None;
            status.reserved_for = None;
        }
        why.claims = Deallocation::Begun;
        let client = self.client.clone();
        tokio::spawn(async move {
            let (namespace, name) = &key;
            let api: Api<ResourceClaim> = Api::namespaced(client, namespace);
            // Whether somebody changed it meanwhile shows at the next attempt.
            if let Err(error) = api.replace_status(name, &PostParams::default(), &claim).await {
                tracing::debug!(namespace, claim = name, %error, "a claim could not be deallocated");
            }
        });
    }
}

/// Writes all of them. What was written is in `written`, whatever comes of the others.
pub(super) async fn write(
    client: &kube::Client,
    pod: &Regarding,
    reservations: &[Reservation],
    written: &mut Vec<ResourceClaim>,
) -> Result<(), Refused> {
    for reservation in reservations {
        written.push(reservation.write(client, pod).await?);
    }
    Ok(())
}

/// The pod could not be bound: its claims are not its own any more. They keep their devices for its next attempt.
pub(super) async fn release(client: &kube::Client, pod: &Regarding, written: &[ResourceClaim]) {
    for claim in written {
        let (namespace, name) = key_of(claim);
        let path = format!("/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}/status");
        let patch = json!({"metadata": {"uid": claim.metadata.uid},
            "status": {"reservedFor": [{"$patch": "delete", "uid": pod.uid}]}});
        if let Err(error) = call::send(client, Method::PATCH, &path, STRATEGIC, &patch).await {
            tracing::debug!(namespace, claim = name, %error, "a claim could not be released");
        }
    }
}

impl Reservation {
    async fn write(&self, client: &kube::Client, pod: &Regarding) -> Result<ResourceClaim, Refused> {
        let (namespace, name) = &self.key;
        let api: Api<ResourceClaim> = Api::namespaced(client.clone(), namespace);
        let mut claim = ResourceClaim::clone(&self.claim);
        for _ in 1..TRIES_MAX {
            match self.try_write(&api, claim, pod).await {
                Err(Refused::Api(error)) if call::is(&error, StatusCode::CONFLICT) => {}
                done => return done,
            }
            claim = api.get(name).await?;
        }
        self.try_write(&api, claim, pod).await
    }

    async fn try_write(
        &self,
        api: &Api<ResourceClaim>,
        mut claim: ResourceClaim,
        pod: &Regarding,
    ) -> Result<ResourceClaim, Refused> {
        let (namespace, name) = &self.key;
        let shown = || format!("{namespace}/{name}");
        if claim.metadata.deletion_timestamp.is_some() || claim.metadata.uid != self.claim.metadata.uid {
            return Err(Refused::Deleted(shown()));
        }
        let parameters = PostParams::default();
        let allocated = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
        if let Some(allocation) = &self.allocation {
            if allocated {
                return Err(Refused::Allocated(shown()));
            }
            let finalizers = claim.metadata.finalizers.get_or_insert_default();
            if !finalizers.iter().any(|one| one == FINALIZER) {
                finalizers.push(FINALIZER.into());
                claim = api.replace(name, &parameters, &claim).await?;
            }
            claim.status.get_or_insert_default().allocation = Some(allocation.clone());
        }
        let consumers = claim
            .status
            .get_or_insert_default()
            .reserved_for
            .get_or_insert_default();
        if !consumers.iter().any(|consumer| consumer.uid == pod.uid) {
            consumers.push(ResourceClaimConsumerReference {
                api_group: None,
                resource: "pods".into(),
                name: pod.key.1.clone(),
                uid: pod.uid.clone(),
            });
        }
        Ok(api.replace_status(name, &parameters, &claim).await?)
    }
}
