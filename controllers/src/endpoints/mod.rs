//! EndpointSlices and Endpoints of Services with a selector, from the pods they select.

mod legacy;
mod mirror;
mod mirroring;
mod plan;
mod trigger;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::slim::Pod;
use k8s_openapi::api::core::v1::{Endpoints, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::task::JoinSet;

use crate::cache::Change;
use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, name, namespace, uid};
use crate::queue::Queue;
use crate::selector::contains;
use crate::shared::Shared;
use crate::worker::work;

use plan::{Action, MANAGED_BY, MANAGER, SERVICE_NAME};
use trigger::Triggers;

const WORKERS: usize = 5;
/// Own writes that the watch has not shown after this long are no longer waited for.
const WRITE_SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Own writes by Service: slice uid, generation (none: deleted) and when.
type Written = HashMap<Key, HashMap<String, (Option<i64>, Instant)>>;

struct Slices {
    context: Context,
    queue: Arc<Queue<Key>>,
    written: Mutex<Written>,
    triggers: Triggers,
}

/// The same Service events feed both controllers.
fn watch_services(shared: &Shared, queues: [Arc<Queue<Key>>; 2]) {
    let for_services = queues.clone();
    shared.services.on_change(move |change| {
        if let Some(service) = change.object() {
            for queue in &for_services {
                queue.add(Key::of(&service.metadata));
            }
        }
    });
    let services = shared.services.clone();
    shared.pods.on_change(move |change| {
        if !concerns_endpoints(change) {
            return;
        }
        let Some(pod) = change.object() else { return };
        for service in services.in_namespace(namespace(&pod.metadata)) {
            let selects = |pod: &Arc<Pod>| selects(&service, pod);
            if change.old.is_some_and(selects) || change.new.is_some_and(selects) {
                for queue in &queues {
                    queue.add(Key::of(&service.metadata));
                }
            }
        }
    });
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| !wanted.is_empty() && contains(pod.labels.as_deref(), wanted))
}

/// Most pod updates (container states, annotations) change no endpoint.
fn concerns_endpoints(change: &Change<'_, Pod>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else {
        return true;
    };
    let of = |pod: &Arc<Pod>| {
        let status = pod.status.as_ref();
        (
            pod.labels.clone(),
            pod.metadata.deletion_timestamp.is_some(),
            crate::pods::is_ready(pod),
            crate::pods::is_finished(pod),
            status.and_then(|status| status.pod_ips.clone()),
            status.and_then(|status| status.pod_ip.clone()),
            crate::pods::node_name(pod).map(ToString::to_string),
        )
    };
    of(old) != of(new)
}

pub fn start(slices: Context, endpoints: Context, mirrors: Context, tasks: &mut JoinSet<()>) {
    let slice_queue = Arc::new(Queue::new("endpoint_slice"));
    let endpoints_queue = Arc::new(Queue::new("endpoint"));
    let shared = slices.shared.clone();
    watch_services(&shared, [slice_queue.clone(), endpoints_queue.clone()]);
    mirroring::start(mirrors, tasks);
    start_slices(slices, slice_queue, tasks);
    start_endpoints(endpoints, endpoints_queue, tasks);
}

fn start_slices(context: Context, queue: Arc<Queue<Key>>, tasks: &mut JoinSet<()>) {
    let shared = context.shared.clone();
    let controller = Arc::new(Slices {
        context,
        queue: queue.clone(),
        written: Mutex::default(),
        triggers: Triggers::default(),
    });
    shared.endpoint_slices.on_change({
        let controller = controller.clone();
        move |change| {
            if let Some(slice) = change.object().and_then(|slice| service_of(slice)) {
                controller.queue.add(slice);
            }
        }
    });
    // A node's zone is part of its pods' endpoints.
    shared.nodes.on_change({
        let (queue, services) = (queue.clone(), shared.services.clone());
        move |change| {
            let labels = |node: Option<&Arc<Node>>| node.and_then(|node| node.metadata.labels.clone());
            if change.old.is_some() && change.new.is_some() && labels(change.old) != labels(change.new) {
                for service in services.list() {
                    queue.add(Key::of(&service.metadata));
                }
            }
        }
    });
    tasks.spawn(async move {
        shared.services.synced().await;
        shared.pods.synced().await;
        shared.nodes.synced().await;
        shared.endpoint_slices.synced().await;
        let (name, shutdown) = (controller.context.name, controller.context.shutdown.clone());
        let reconcile = |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        };
        work(name, queue, WORKERS, shutdown, reconcile).await;
    });
}

/// The Service that one of our slices belongs to.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
        return None;
    }
    Some(Key::new(namespace(&slice.metadata), labels.get(SERVICE_NAME)?))
}

fn selected_pods(shared: &Shared, service: &Service) -> Vec<Arc<Pod>> {
    let mut pods = shared.pods.in_namespace(namespace(&service.metadata));
    pods.retain(|pod| selects(service, pod));
    pods
}

fn has_selector(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
            && spec.type_.as_deref() != Some("ExternalName")
    })
}

impl Slices {
    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let shared = &self.context.shared;
        let mut existing = shared.endpoint_slices.in_namespace(&key.namespace);
        existing.retain(|slice| service_of(slice).as_ref() == Some(&key));
        let service = shared.services.get(&key);
        let Some(service) = service.filter(|service| service.metadata.deletion_timestamp.is_none()) else {
            self.written().remove(&key);
            self.triggers.forget(&key);
            for slice in existing {
                self.delete(&slice.metadata).await?;
            }
            return Ok(());
        };
        if !has_selector(&service) {
            return Ok(());
        }
        if self.lags(&key, &existing) {
            self.queue.add_after(key, WRITE_SEEN_WITHIN);
            return Ok(());
        }
        existing.retain(|slice| slice.metadata.deletion_timestamp.is_none());
        let pods = selected_pods(shared, &service);
        let nodes: HashMap<String, Arc<Node>> = shared
            .nodes
            .list()
            .into_iter()
            .map(|node| (name(&node.metadata).to_string(), node))
            .collect();
        let trigger = self.triggers.look(&service, &pods);
        for mut action in plan::reconcile(&service, &pods, &nodes, &existing) {
            if let Action::Create(slice) | Action::Update(slice) = &mut action {
                trigger::annotate(&mut slice.metadata, trigger);
            }
            if let Err(error) = self.act(&key, action).await {
                if error.is_namespace_terminating() {
                    return Ok(());
                }
                if !error.is_conflict() && !error.is_not_found() {
                    let message = format!("Error updating Endpoint Slices for Service {key}: {}", error.message());
                    self.context
                        .warning(service.as_ref(), "FailedToUpdateEndpointSlices", message);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether the cache does not show our own last writes yet: deciding on it would repeat them.
    fn lags(&self, service: &Key, existing: &[Arc<EndpointSlice>]) -> bool {
        let mut written = self.written();
        let Some(writes) = written.get_mut(service) else {
            return false;
        };
        writes.retain(|slice, (generation, at)| {
            let seen = existing.iter().find(|known| uid(&known.metadata) == slice);
            let shown = match generation {
                Some(generation) => seen.is_some_and(|known| known.metadata.generation.unwrap_or(0) >= *generation),
                None => seen.is_none(),
            };
            !shown && at.elapsed() < WRITE_SEEN_WITHIN
        });
        if writes.is_empty() {
            written.remove(service);
            return false;
        }
        true
    }

    fn note(&self, service: &Key, slice: &str, generation: Option<i64>) {
        let mut written = self.written();
        written
            .entry(service.clone())
            .or_default()
            .insert(slice.to_string(), (generation, Instant::now()));
    }

    fn api(&self, namespace: &str) -> Api<EndpointSlice> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    async fn act(&self, service: &Key, action: Action) -> Result<(), Error> {
        let api = self.api(&service.namespace);
        match action {
            Action::Create(slice) => {
                let made = api.create(&PostParams::default(), &slice).await;
                let made = made.doing(|| format!("create an endpoint slice of {service}"))?;
                self.note(service, uid(&made.metadata), made.metadata.generation.or(Some(0)));
                Ok(())
            }
            Action::Update(slice) => {
                let made = api.replace(name(&slice.metadata), &PostParams::default(), &slice).await;
                let made = made.doing(|| format!("update an endpoint slice of {service}"))?;
                self.note(service, uid(&made.metadata), made.metadata.generation.or(Some(0)));
                Ok(())
            }
            Action::Delete(meta) => {
                self.delete(&meta).await?;
                self.note(service, uid(&meta), None);
                Ok(())
            }
        }
    }

    async fn delete(&self, meta: &kube::core::ObjectMeta) -> Result<(), Error> {
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: meta.uid.clone(),
            resource_version: None,
        });
        let deleted = self.api(namespace(meta)).delete(name(meta), &parameters).await;
        gone_is_fine(deleted.doing(|| format!("delete endpoint slice {}", name(meta))))
    }
}

fn start_endpoints(context: Context, queue: Arc<Queue<Key>>, tasks: &mut JoinSet<()>) {
    let shared = context.shared.clone();
    shared.endpoints.on_change({
        let queue = queue.clone();
        move |change| {
            // Only what someone else took away or changed needs another look.
            if let Some(endpoints) = change.object() {
                queue.add(Key::of(&endpoints.metadata));
            }
        }
    });
    let triggers = Arc::new(Triggers::default());
    tasks.spawn(async move {
        shared.services.synced().await;
        shared.pods.synced().await;
        shared.endpoints.synced().await;
        let reconcile = |key| {
            let (context, triggers) = (context.clone(), triggers.clone());
            async move { reconcile_endpoints(&context, &triggers, key).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

async fn reconcile_endpoints(context: &Context, triggers: &Triggers, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let api: Api<Endpoints> = Api::namespaced(context.client.clone(), &key.namespace);
    let existing = shared.endpoints.get(&key);
    let Some(service) = shared.services.get(&key) else {
        triggers.forget(&key);
        // Endpoints without a Service are somebody's own, unless we made them.
        let ours = existing.is_some_and(|existing| {
            let labels = existing.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get("endpoints.kubernetes.io/managed-by"))
                .is_some()
        });
        if ours {
            let deleted = api.delete(&key.name, &DeleteParams::default()).await;
            gone_is_fine(deleted.doing(|| format!("delete endpoints {key}")))?;
        }
        return Ok(());
    };
    if !has_selector(&service) {
        return Ok(());
    }
    let pods = selected_pods(shared, &service);
    let trigger = triggers.look(&service, &pods);
    let Some(mut wanted) = legacy::reconcile(&service, &pods, existing.as_deref()) else {
        return Ok(());
    };
    trigger::annotate(&mut wanted.metadata, trigger);
    let parameters = PostParams::default();
    let written = if existing.is_some() {
        api.replace(&key.name, &parameters, &wanted).await
    } else {
        api.create(&parameters, &wanted).await
    };
    match written.doing(|| format!("write endpoints {key}")) {
        Ok(_) => Ok(()),
        Err(error) if error.is_namespace_terminating() => Ok(()),
        Err(error) => {
            if !error.is_conflict() && !error.is_not_found() {
                let (reason, what) = if existing.is_some() {
                    ("FailedToUpdateEndpoint", "update")
                } else {
                    ("FailedToCreateEndpoint", "create")
                };
                let message = format!("Failed to {what} endpoint {key}: {}", error.message());
                context.warning(service.as_ref(), reason, message);
            }
            Err(error)
        }
    }
}
