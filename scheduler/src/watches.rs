//! Follows the API: one watch per kind, each decoded in a task of its own, all told to the
//! driver through one bounded channel.

use crate::kin::Source;
use crate::wire::{Selecting, WatchedPod};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What was read and waits to be taken in; more waits in the API server.
const WAITING_MAX: usize = 2_048;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What a watch said. Boxed where objects are large, as most of a full channel is room.
pub enum Observed {
    Node(Box<Event<Node>>),
    Pod(Box<Event<WatchedPod>>),
    Namespace(Box<Event<Namespace>>),
    Selector(Source, Event<Selected>),
    Budget(Box<Event<PodDisruptionBudget>>),
    Claim(Box<Event<PersistentVolumeClaim>>),
    Volume(Box<Event<PersistentVolume>>),
    StorageClass(Box<Event<StorageClass>>),
    ResourceClaim(Box<Event<ResourceClaim>>),
    DeviceClass(Box<Event<DeviceClass>>),
    ResourceSlice(Box<Event<ResourceSlice>>),
}

/// What an object selects pods by.
pub struct Selected {
    pub namespace: String,
    pub name: String,
    pub selector: Option<LabelSelector>,
}

#[derive(Clone)]
pub struct Watches {
    client: Client,
    told: mpsc::Sender<Observed>,
    shutdown: CancellationToken,
}

impl Watches {
    /// All but those of budgets, of storage and of devices, which few need.
    pub fn start(client: Client, shutdown: CancellationToken) -> (Self, mpsc::Receiver<Observed>) {
        let (told, heard) = mpsc::channel(WAITING_MAX);
        let this = Self { client, told, shutdown };
        // Pods that are done occupy nothing.
        let living = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        this.follow(living, |event| Observed::Pod(Box::new(event)));
        this.follow(watcher::Config::default(), |event| Observed::Node(Box::new(event)));
        this.follow(watcher::Config::default(), |event| Observed::Namespace(Box::new(event)));
        this.follow_selectors::<Service>(Source::Service);
        this.follow_selectors::<ReplicationController>(Source::ReplicationController);
        this.follow_selectors::<ReplicaSet>(Source::ReplicaSet);
        this.follow_selectors::<StatefulSet>(Source::StatefulSet);
        (this, heard)
    }

    pub fn start_budgets(&self) {
        self.follow(watcher::Config::default(), |event| Observed::Budget(Box::new(event)));
    }

    pub fn start_storage(&self) {
        let config = watcher::Config::default;
        self.follow(config(), |event| Observed::Claim(Box::new(event)));
        self.follow(config(), |event| Observed::Volume(Box::new(event)));
        self.follow(config(), |event| Observed::StorageClass(Box::new(event)));
    }

    pub fn start_devices(&self) {
        let config = watcher::Config::default;
        self.follow(config(), |event| Observed::ResourceClaim(Box::new(event)));
        self.follow(config(), |event| Observed::DeviceClass(Box::new(event)));
        self.follow(config(), |event| Observed::ResourceSlice(Box::new(event)));
    }

    fn follow_selectors<K: Debug + Clone + Send + Sync + 'static>(&self, source: Source)
    where
        Selecting<K>: Resource<DynamicType = ()>,
    {
        self.follow(watcher::Config::default(), move |event: Event<Selecting<K>>| {
            Observed::Selector(source, selected(event))
        });
    }

    fn follow<K>(&self, config: watcher::Config, wrap: impl Fn(Event<K>) -> Observed + Send + Sync + 'static)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let (api, told, shutdown): (Api<K>, _, _) =
            (Api::all(self.client.clone()), self.told.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let following = async {
                let mut events = watcher::watcher(api, config).boxed();
                let mut pause = PAUSE_MIN;
                loop {
                    match events.try_next().await {
                        Ok(Some(event)) => {
                            pause = PAUSE_MIN;
                            if told.send(wrap(event)).await.is_err() {
                                return;
                            }
                        }
                        Ok(None) => return,
                        Err(error) => {
                            tracing::warn!(kind = %K::kind(&()), %error, "a watch was interrupted; it resumes");
                            tokio::time::sleep(pause).await;
                            pause = (pause * 2).min(PAUSE_MAX);
                        }
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = following => {}
            }
        });
    }
}

fn selected<K>(event: Event<Selecting<K>>) -> Event<Selected> {
    let slim = |object: Selecting<K>| Selected {
        namespace: object.metadata.namespace.unwrap_or_default(),
        name: object.metadata.name.unwrap_or_default(),
        selector: object.selector,
    };
    match event {
        Event::Apply(object) => Event::Apply(slim(object)),
        Event::InitApply(object) => Event::InitApply(slim(object)),
        Event::Delete(object) => Event::Delete(slim(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}
