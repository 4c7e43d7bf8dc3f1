//! Why a pod is where it is, or nowhere: reads the cluster once and asks the same
//! functions that decide.

use crate::devices::{ClaimState as DevicesClaim, ClassState as DevicesClass, Slice};
use crate::explain::{Explanation, explain};
use crate::filter::Candidate;
use crate::hints::gated;
use crate::kin::{Kin, Source};
use crate::profile::Settings;
use crate::schedule::schedule;
use crate::snapshot::{ClaimState, ClassState, PodInfo, Snapshot, VolumeState, key_of};
use crate::wire::{Selecting, WatchedPod};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;

/// What can be said of one pod.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub namespace: String,
    pub name: String,
    /// The node it is on.
    pub node: Option<String>,
    /// `spec.schedulerName`.
    pub scheduler: String,
    /// What the scheduler would say if it were tried now; `None` where a node will do.
    pub refusal: Option<String>,
    /// Why it is not tried at all, whatever nodes there are.
    pub held_back: Option<String>,
    pub explanation: Explanation,
}

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("there is no pod {name:?} in the namespace {namespace:?}")]
    NoPod { namespace: String, name: String },
    #[error("the {what} cannot be read")]
    Read {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Looks at every node for this pod. A pod that is placed is looked at as if it were not.
pub async fn inspect(
    client: &Client,
    settings: &Settings,
    namespace: &str,
    name: &str,
) -> Result<Inspection, InspectError> {
    let pods: Api<WatchedPod> = Api::namespaced(client.clone(), namespace);
    let found = pods.get_opt(name).await.map_err(|source| cannot_read("pod", source))?;
    let Some(WatchedPod(mut pod)) = found else {
        return Err(InspectError::NoPod {
            namespace: namespace.into(),
            name: name.into(),
        });
    };
    let mut snapshot = cluster(client, &pod).await?;
    storage(client, &pod, &mut snapshot).await?;
    devices(client, &pod, &mut snapshot).await?;
    let kin = kin(client, namespace).await?;
    let spec = pod.spec.get_or_insert_default();
    let node = spec.node_name.take();
    let scheduler = spec.scheduler_name.clone().unwrap_or_default();
    let profile = settings.profiles.get(&scheduler);
    let held_back = match profile {
        _ if node.is_some() => None,
        None => Some(format!(
            "it waits for another scheduler, {scheduler:?}: this cluster's has the profiles {:?}, as whose first it is looked at here",
            settings.profiles.keys().collect::<Vec<_>>()
        )),
        Some(_) if gated(&pod) => Some("its scheduling gates are closed".to_string()),
        Some(_) if pod.metadata.deletion_timestamp.is_some() => Some("it is being deleted".to_string()),
        Some(_) => None,
    };
    let profile = profile.or_else(|| settings.profiles.values().next()).cloned();
    let mut candidate = Candidate::with(Arc::new(pod), profile.unwrap_or_default(), None);
    if crate::driver::spreads_by_default(&candidate) {
        candidate.kin = kin.of(&candidate.pod);
    }
    let refusal = schedule(&mut snapshot, &candidate, 0).err().map(|why| why.to_string());
    Ok(Inspection {
        namespace: namespace.into(),
        name: name.into(),
        node,
        scheduler,
        refusal,
        held_back,
        explanation: explain(&mut snapshot, &candidate),
    })
}

/// Nodes, and all pods but this one.
async fn cluster(client: &Client, but: &Pod) -> Result<Snapshot, InspectError> {
    let mut snapshot = Snapshot::default();
    for namespace in list::<Namespace>(Api::all(client.clone()), "").await? {
        let labels = namespace.metadata.labels.unwrap_or_default();
        snapshot.set_namespace(&namespace.metadata.name.unwrap_or_default(), labels);
    }
    for node in list::<Node>(Api::all(client.clone()), "").await? {
        snapshot.set_node(&node);
    }
    let living = "status.phase!=Succeeded,status.phase!=Failed";
    for WatchedPod(pod) in list::<WatchedPod>(Api::all(client.clone()), living).await? {
        if key_of(&pod) == key_of(but) {
            continue;
        }
        let info = Arc::new(PodInfo::new(&pod));
        let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let nominated = pod
            .status
            .as_ref()
            .and_then(|status| status.nominated_node_name.as_deref());
        match (placed, nominated) {
            (Some(node), _) => snapshot.set_pod(node, info),
            (None, Some(node)) => snapshot.nominate(node, info),
            (None, None) => {}
        }
    }
    Ok(snapshot)
}

/// What its claims are looked up in, if it has any.
async fn storage(client: &Client, pod: &Pod, snapshot: &mut Snapshot) -> Result<(), InspectError> {
    if Candidate::new(Arc::new(pod.clone())).claims.is_empty() {
        return Ok(());
    }
    let (namespace, _) = key_of(pod);
    let storage = snapshot.storage();
    for claim in list::<PersistentVolumeClaim>(Api::namespaced(client.clone(), &namespace), "").await? {
        let name = claim.metadata.name.clone().unwrap_or_default();
        storage.claims.insert((namespace.clone(), name), ClaimState::of(&claim));
    }
    for volume in list::<PersistentVolume>(Api::all(client.clone()), "").await? {
        let name = volume.metadata.name.clone().unwrap_or_default();
        storage.volumes.insert(name, VolumeState::of(&volume));
    }
    for class in list::<StorageClass>(Api::all(client.clone()), "").await? {
        let name = class.metadata.name.clone().unwrap_or_default();
        storage.classes.insert(name, ClassState::of(&class));
    }
    Ok(())
}

/// What its claims of devices are looked up in, if it has any.
async fn devices(client: &Client, pod: &Pod, snapshot: &mut Snapshot) -> Result<(), InspectError> {
    if Candidate::new(Arc::new(pod.clone())).devices.is_empty() {
        return Ok(());
    }
    let devices = snapshot.devices();
    for claim in list::<ResourceClaim>(Api::all(client.clone()), "").await? {
        let meta = &claim.metadata;
        let key = (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        );
        devices.set_claim(key, DevicesClaim::of(claim));
    }
    for class in list::<DeviceClass>(Api::all(client.clone()), "").await? {
        let name = class.metadata.name.clone().unwrap_or_default();
        devices.classes.insert(name, DevicesClass::of(&class));
    }
    for slice in list::<ResourceSlice>(Api::all(client.clone()), "").await? {
        devices.set_slice(Slice::of(&slice));
    }
    Ok(())
}

async fn kin(client: &Client, namespace: &str) -> Result<Kin, InspectError> {
    let mut kin = Kin::default();
    selectors::<Service>(client, namespace, Source::Service, &mut kin).await?;
    selectors::<ReplicationController>(client, namespace, Source::ReplicationController, &mut kin).await?;
    selectors::<ReplicaSet>(client, namespace, Source::ReplicaSet, &mut kin).await?;
    selectors::<StatefulSet>(client, namespace, Source::StatefulSet, &mut kin).await?;
    Ok(kin)
}

async fn selectors<K>(client: &Client, namespace: &str, source: Source, kin: &mut Kin) -> Result<(), InspectError>
where
    K: Debug + Clone,
    Selecting<K>: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    let api: Api<Selecting<K>> = Api::namespaced(client.clone(), namespace);
    for object in list(api, "").await? {
        let name = object.metadata.name.unwrap_or_default();
        kin.set(source, namespace, &name, object.selector);
    }
    Ok(())
}

async fn list<K>(api: Api<K>, fields: &str) -> Result<Vec<K>, InspectError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let parameters = match fields {
        "" => ListParams::default(),
        fields => ListParams::default().fields(fields),
    };
    let list = api.list(&parameters).await;
    Ok(list.map_err(|source| cannot_read(&K::plural(&()), source))?.items)
}

fn cannot_read(what: &str, source: kube::Error) -> InspectError {
    InspectError::Read {
        what: what.into(),
        source: Box::new(source),
    }
}
