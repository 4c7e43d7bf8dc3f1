//! Keeps the mirrors of hand-made Endpoints.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, name, namespace};
use crate::queue::Queue;
use crate::worker::work;

use super::mirror;
use super::plan::{Action, MANAGED_BY, SERVICE_NAME};

const WORKERS: usize = 5;

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(MANAGED_BY).map(String::as_str) == Some(mirror::MIRRORER);
    let service = labels.get(SERVICE_NAME).filter(|_| ours)?;
    Some(Key::new(namespace(&slice.metadata), service))
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("endpoint_slice_mirroring"));
    let shared = context.shared.clone();
    shared.services.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(service) = change.object() {
                queue.add(Key::of(&service.metadata));
            }
        }
    });
    shared.endpoints.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(endpoints) = change.object() {
                queue.add(Key::of(&endpoints.metadata));
            }
        }
    });
    shared.endpoint_slices.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(service) = change.object().and_then(|slice| service_of(slice)) {
                queue.add(service);
            }
        }
    });
    tasks.spawn(async move {
        shared.services.synced().await;
        shared.endpoints.synced().await;
        shared.endpoint_slices.synced().await;
        let reconcile = |key| {
            let context = context.clone();
            async move { reconcile(&context, key).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

async fn reconcile(context: &Context, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let mut existing = shared.endpoint_slices.in_namespace(&key.namespace);
    existing.retain(|slice| service_of(slice).as_ref() == Some(&key));
    let bare = shared.services.get(&key).is_some_and(|service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.metadata.deletion_timestamp.is_none() && selector.is_none_or(|selector| selector.is_empty())
    });
    let endpoints = shared
        .endpoints
        .get(&key)
        .filter(|endpoints| bare && mirror::wanted(endpoints));
    let api: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &key.namespace);
    for action in mirror::reconcile(endpoints.as_deref(), &existing) {
        let done = match action {
            Action::Create(slice) => {
                let made = api.create(&PostParams::default(), &slice).await;
                made.map(|_| ()).doing(|| format!("mirror endpoints {key}"))
            }
            Action::Update(slice) => {
                let written = api.replace(name(&slice.metadata), &PostParams::default(), &slice).await;
                written.map(|_| ()).doing(|| format!("mirror endpoints {key}"))
            }
            Action::Delete(meta) => {
                let parameters = DeleteParams::default().preconditions(Preconditions {
                    uid: meta.uid.clone(),
                    resource_version: None,
                });
                let deleted = api.delete(name(&meta), &parameters).await;
                gone_is_fine(deleted.doing(|| format!("delete mirror {}", name(&meta))))
            }
        };
        match done {
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}
