//! HorizontalPodAutoscalers: gives targets the size that their metrics ask for.
//!
//! ```text
//! every 15 s per autoscaler: scale of the target --> first (bounds)
//!                            pods, metrics ------> calculate --> limit --> scale, status, event
//! ```
//! While there is no autoscaler, there is nothing to do and no timer runs.

mod calculate;
mod fetch;
mod limit;
mod measure;
mod plan;
pub mod quantity;
mod select;

use crate::cache::Cache;
use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::Key;
use crate::queue::Queue;
use crate::worker::work;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersion};
use kube::runtime::watcher;
use limit::History;
use measure::Scaled;
use plan::{ACTIVE, Chosen, Draft, First};
use select::Selector;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Upstream's --horizontal-pod-autoscaler-sync-period.
const PERIOD: Duration = Duration::from_secs(15);
/// Upstream's --concurrent-horizontal-pod-autoscaler-syncs.
const WORKERS: usize = 5;

type Hpa = HorizontalPodAutoscaler;

/// What is remembered from one look to the next.
#[derive(Default)]
struct Memory {
    histories: HashMap<Key, History>,
    /// What each autoscaler's target selects.
    selectors: BTreeMap<Key, (String, Selector)>,
    /// Of group, version and kind.
    kinds: HashMap<(String, String), ApiResource>,
}

#[derive(Clone)]
struct Autoscale {
    context: Context,
    cache: Arc<Cache<Hpa>>,
    queue: Arc<Queue<Key>>,
    memory: Arc<Mutex<Memory>>,
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let watching = context.client.clone();
    let this = Autoscale {
        context,
        cache: Arc::new(Cache::new(|_| Vec::new(), |_| {})),
        queue: Arc::new(Queue::new("horizontalpodautoscaler")),
        memory: Arc::default(),
    };
    this.cache.on_change({
        let queue = this.queue.clone();
        move |change| {
            // What only the status says is no news.
            let same = |a: &Arc<Hpa>, b: &Arc<Hpa>| a.spec == b.spec && a.metadata.uid == b.metadata.uid;
            if !matches!((change.old, change.new), (Some(old), Some(new)) if same(old, new))
                && let Some(hpa) = change.object()
            {
                queue.add(Key::of(&hpa.metadata));
            }
        }
    });
    let shutdown = this.context.shutdown.clone();
    let everything = watcher::Config::default();
    let cache = this.cache.clone();
    tasks.spawn(cache.run(Api::all(watching), everything, shutdown.clone()));
    tasks.spawn(async move {
        this.cache.synced().await;
        let reconcile = |key| {
            let this = this.clone();
            async move { this.reconcile(key).await }
        };
        work(this.context.name, this.queue.clone(), WORKERS, shutdown, reconcile).await;
    });
}

/// Why there is no scale.
struct NoScale(String);

impl Autoscale {
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconcile(&self, key: Key) -> Result<(), Error> {
        let Some(hpa) = self.cache.get(&key) else {
            let mut memory = self.memory();
            memory.histories.remove(&key);
            memory.selectors.remove(&key);
            return Ok(());
        };
        let mut draft = Draft::of(&hpa, Timestamp::now());
        let looked = self.look(&hpa, &key, &mut draft).await;
        let written = self.write(&hpa, &key, draft).await;
        self.queue.add_after(key.clone(), PERIOD);
        // Whatever went wrong is tried again with the next look and no earlier.
        for error in [looked.err(), written.err().map(|e| e.message())].into_iter().flatten() {
            tracing::debug!(%key, error, "an autoscaler could not do all it should");
        }
        Ok(())
    }

    async fn write(&self, hpa: &Hpa, key: &Key, draft: Draft) -> Result<(), Error> {
        if hpa.status.as_ref() == Some(&draft.status) {
            return Ok(());
        }
        let mut updated = hpa.clone();
        updated.status = Some(draft.status);
        let api: Api<Hpa> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &updated).await;
        let written = written.doing(|| format!("write the status of autoscaler {key}"));
        if let Err(error) = &written
            && !error.is_conflict()
            && !error.is_not_found()
        {
            self.context.warning(hpa, "FailedUpdateStatus", error.message());
        }
        gone_is_fine(written)
    }

    /// One look: what is to be done is done, what is to be said is in the draft.
    async fn look(&self, hpa: &Hpa, key: &Key, draft: &mut Draft) -> Result<(), String> {
        let (api, scale) = match self.scale(hpa, key).await {
            Ok(found) => found,
            Err(NoScale(why)) => {
                self.context.warning(hpa, "FailedGetScale", why.clone());
                let message = format!("the HPA controller was unable to get the target's current scale: {why}");
                draft.condition(plan::ABLE, false, "FailedGetScale", message);
                return Err(why);
            }
        };
        draft.found_scale();
        let current = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        let now = Timestamp::now();
        let mut history = self.memory().histories.remove(key).unwrap_or_default();
        history.begin(current, now);
        let decided = self.decide(hpa, key, &scale, current, &mut history, draft).await;
        let result = match decided {
            Ok(Some((to, why, metrics))) => {
                let done = self.rescale(hpa, &api, scale, to, &why, draft).await;
                match &done {
                    Ok(()) => {
                        history.scaled(hpa.spec.behavior.as_ref(), current, to, now);
                        draft.sizes(current, to, metrics);
                    }
                    Err(_) => keep_sizes(draft, current),
                }
                done
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.memory().histories.insert(key.clone(), history);
        result
    }

    /// The size that the target is to be given, why, and what was measured; `None`: it stays.
    async fn decide(
        &self,
        hpa: &Hpa,
        key: &Key,
        scale: &Scale,
        current: i32,
        history: &mut History,
        draft: &mut Draft,
    ) -> Result<Option<(i32, String, Vec<MetricStatus>)>, String> {
        match plan::first(&hpa.spec, current) {
            First::Disabled => {
                draft.disabled();
                draft.sizes(current, 0, Vec::new());
                return Ok(None);
            }
            First::Resize { to, why } => return Ok(Some((to, why.to_owned(), Vec::new()))),
            First::Measure => {}
        }
        let (chosen, metrics) = match self.measured(hpa, key, scale, current, draft).await {
            Ok(found) => found,
            Err(error) => {
                let warned = error.clone();
                self.context.warning(hpa, "FailedComputeMetricsReplicas", warned);
                return Err(error);
            }
        };
        let desired = draft.limit(history, hpa, current, chosen.replicas);
        if desired == current {
            draft.sizes(current, current, metrics);
            return Ok(None);
        }
        Ok(Some((desired, plan::reason(current, &chosen), metrics)))
    }

    async fn measured(
        &self,
        hpa: &Hpa,
        key: &Key,
        scale: &Scale,
        current: i32,
        draft: &mut Draft,
    ) -> Result<(Chosen, Vec<MetricStatus>), String> {
        let status = scale.status.as_ref();
        let selector = status.and_then(|s| s.selector.clone()).unwrap_or_default();
        let pods = match self.pods(hpa, key, &selector).await {
            Ok(pods) => pods,
            Err(Unselected {
                reason,
                event,
                condition,
            }) => {
                self.context.warning(hpa, event, reason.clone());
                let message = condition.map_or_else(|| reason.clone(), ToOwned::to_owned);
                let kind = if event == "SelectorRequired" {
                    "InvalidSelector"
                } else {
                    event
                };
                draft.condition(ACTIVE, false, kind, message);
                keep_sizes(draft, current);
                return Err(reason);
            }
        };
        let scaled = Scaled {
            namespace: &key.namespace,
            selector: &selector,
            pods: &pods,
            replicas: current,
            shown: status.map_or(0, |s| s.replicas),
            now: Timestamp::now(),
        };
        let tolerance = measure::tolerance(&hpa.spec);
        let mut results = Vec::new();
        for metric in hpa.spec.metrics.iter().flatten() {
            let result = measure::measure(&self.context, &scaled, metric, tolerance).await;
            if let Err(failed) = &result {
                self.context.warning(hpa, failed.reason, failed.message.clone());
            }
            results.push(result);
        }
        let chosen = plan::choose(current, &results);
        let metrics: Vec<MetricStatus> = results.into_iter().flatten().map(|m| m.status).collect();
        match chosen {
            Ok(chosen) => {
                draft.metric(&chosen);
                Ok((chosen, metrics))
            }
            Err((first, error)) => {
                draft.no_metric(&first);
                let desired = draft.status.desired_replicas;
                draft.sizes(current, desired, metrics);
                Err(error)
            }
        }
    }

    /// The pods that the selector selects, unless they are others' too.
    async fn pods(&self, hpa: &Hpa, key: &Key, selector: &str) -> Result<Vec<Pod>, Unselected> {
        if selector.is_empty() {
            return Err(Unselected {
                reason: "selector is required".into(),
                event: "SelectorRequired",
                condition: Some("the HPA target's scale is missing a selector"),
            });
        }
        let other = |reason: String, event: &'static str| Unselected {
            reason,
            event,
            condition: None,
        };
        let parsed = Selector::parse(selector).map_err(|e| {
            let reason = format!("couldn't convert selector into a corresponding internal selector object: {e}");
            other(reason, "InvalidSelector")
        })?;
        self.memory()
            .selectors
            .insert(key.clone(), (selector.to_owned(), parsed));
        let namespace = hpa.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let found = api.list(&ListParams::default().labels(selector)).await.map_err(|e| {
            let reason = format!("unable to get pods while calculating replica count: {}", fetch::said(e));
            other(reason, "FailedGetPods")
        })?;
        let others = self.others(key, &found.items);
        if !others.is_empty() {
            let names: Vec<String> = others.iter().map(ToString::to_string).collect();
            let list = names.join(" ");
            let reason = format!("pods by selector {selector} are controlled by multiple HPAs: [{list}]");
            return Err(other(reason, "AmbiguousSelector"));
        }
        Ok(found.items)
    }

    /// All autoscalers that one of these pods belongs to, if they are several.
    fn others(&self, key: &Key, pods: &[Pod]) -> Vec<Key> {
        let memory = self.memory();
        let near: Vec<_> = memory
            .selectors
            .iter()
            .filter(|(k, _)| k.namespace == key.namespace)
            .collect();
        if near.len() < 2 {
            return Vec::new();
        }
        for pod in pods {
            let labels = pod.metadata.labels.as_ref();
            let of: Vec<Key> = near
                .iter()
                .filter(|(_, (_, s))| s.matches(labels))
                .map(|(k, _)| (*k).clone())
                .collect();
            if of.len() > 1 {
                return of;
            }
        }
        Vec::new()
    }

    async fn scale(&self, hpa: &Hpa, key: &Key) -> Result<(Api<DynamicObject>, Scale), NoScale> {
        let target = &hpa.spec.scale_target_ref;
        let version = target.api_version.clone().unwrap_or_else(|| "v1".into());
        let name = (version.clone(), target.kind.clone());
        let known = self.memory().kinds.get(&name).cloned();
        let kind = match known {
            Some(kind) => kind,
            None => {
                let parsed: GroupVersion = version
                    .parse()
                    .map_err(|_| NoScale(format!("unexpected GroupVersion string: {version}")))?;
                let kind = self.kind(&parsed, &target.kind).await?;
                self.memory().kinds.insert(name.clone(), kind.clone());
                kind
            }
        };
        let api = Api::namespaced_with(self.context.client.clone(), &key.namespace, &kind);
        match api.get_scale(&target.name).await {
            Ok(scale) => Ok((api, scale)),
            Err(error) => {
                self.memory().kinds.remove(&name);
                Err(NoScale(fetch::said(error)))
            }
        }
    }

    /// The kind in the named version, or in any that its group still has.
    async fn kind(&self, version: &GroupVersion, kind: &str) -> Result<ApiResource, NoScale> {
        let client = &self.context.client;
        let none = || match version.group.as_str() {
            "" => NoScale(format!("no matches for kind {kind:?} in group \"\"")),
            group => NoScale(format!("no matches for kind {kind:?} in group {group:?}")),
        };
        if let Ok((found, _)) = kube::discovery::pinned_kind(client, &version.clone().with_kind(kind)).await {
            return Ok(found);
        }
        let group = kube::discovery::group(client, &version.group)
            .await
            .map_err(|_| none())?;
        group.recommended_kind(kind).map(|(found, _)| found).ok_or_else(none)
    }

    async fn rescale(
        &self,
        hpa: &Hpa,
        api: &Api<DynamicObject>,
        mut scale: Scale,
        to: i32,
        why: &str,
        draft: &mut Draft,
    ) -> Result<(), String> {
        scale.spec.get_or_insert_default().replicas = Some(to);
        let name = &hpa.spec.scale_target_ref.name;
        match api.replace_scale(name, &PostParams::default(), &scale).await {
            Ok(_) => {
                draft.rescaled(to);
                let message = format!("New size: {to}; reason: {why}");
                self.context.normal(hpa, "SuccessfulRescale", message);
                Ok(())
            }
            Err(error) => {
                let error = fetch::said(error);
                let message = format!("New size: {to}; reason: {why}; error: {error}");
                self.context.warning(hpa, "FailedRescale", message);
                let message = format!("the HPA controller was unable to update the target scale: {error}");
                draft.condition(plan::ABLE, false, "FailedUpdateScale", message);
                Err(error)
            }
        }
    }
}

/// Why no pods can be told from the target's selector.
struct Unselected {
    reason: String,
    event: &'static str,
    condition: Option<&'static str>,
}

/// Nothing new is known but how many there are.
fn keep_sizes(draft: &mut Draft, current: i32) {
    let desired = draft.status.desired_replicas;
    let metrics = draft.status.current_metrics.clone().unwrap_or_default();
    draft.sizes(current, desired, metrics);
}
