//! What must be true once a cluster is left alone. Each check says what is wrong; nothing: it is right.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Endpoints, Event, Namespace, Node, Pod, ReplicationController, ResourceQuota, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::kubelet::{api, is_ready, labels, phase};
use crate::workloads::{Asked, DOOMED, MAIN};

async fn list<K>(client: &Client) -> Vec<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let all: Api<K> = api(client, MAIN);
    all.list(&ListParams::default()).await.expect("a list").items
}

fn name<K: kube::Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

fn owner<K: kube::Resource>(object: &K) -> Option<String> {
    let owners = object.meta().owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
}

/// Everything, read once.
struct World {
    pods: Vec<Pod>,
    deployments: Vec<Deployment>,
    sets: Vec<ReplicaSet>,
    stateful: Vec<StatefulSet>,
    daemons: Vec<DaemonSet>,
    controllers: Vec<ReplicationController>,
    jobs: Vec<Job>,
    wrong: Vec<String>,
}

pub async fn wrong(client: &Client, asked: &Asked) -> Vec<String> {
    let mut world = World {
        pods: list(client).await,
        deployments: list(client).await,
        sets: list(client).await,
        stateful: list(client).await,
        daemons: list(client).await,
        controllers: list(client).await,
        jobs: list(client).await,
        wrong: Vec::new(),
    };
    world.nothing_hangs();
    world.no_orphans(asked);
    world.deployments(asked);
    world.replicas();
    world.stateful_sets(asked);
    world.daemon_sets(asked);
    world.jobs(asked);
    world.gone(client).await;
    world.quota(client).await;
    world.services(client).await;
    world.budgets(client).await;
    world.nodes(client).await;
    world.wrong
}

impl World {
    fn check(&mut self, right: bool, message: impl FnOnce() -> String) {
        if !right {
            self.wrong.push(message());
        }
    }

    fn of(&self, uid: &Option<String>) -> Vec<&Pod> {
        self.pods.iter().filter(|pod| owner(*pod) == *uid).collect()
    }

    fn nothing_hangs(&mut self) {
        let hanging: Vec<String> = self
            .pods
            .iter()
            .filter(|pod| {
                let spec = pod.spec.as_ref();
                let bound = spec.is_some_and(|spec| spec.node_name.is_some());
                // One that failed before it had a node never gets one, and stays as it is.
                let ended = matches!(phase(pod), "Succeeded" | "Failed");
                let held = pod.metadata.finalizers.iter().flatten().next().is_some();
                pod.metadata.deletion_timestamp.is_some() || !(bound || ended) || held
            })
            .map(|pod| {
                let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                let node = spec.and_then(|spec| spec.node_name.as_deref());
                let going = meta.deletion_timestamp.as_ref().map(|at| at.0);
                let held = meta.finalizers.as_deref().unwrap_or_default();
                format!(
                    "{} ({phase:?} on {node:?}, to go {going:?}, held by {held:?})",
                    name(pod)
                )
            })
            .collect();
        self.check(hanging.is_empty(), || format!("pods hang: {hanging:?}"));
    }

    fn no_orphans(&mut self, asked: &Asked) {
        let mut uids: BTreeSet<String> = BTreeSet::new();
        uids.extend(self.deployments.iter().filter_map(|object| object.metadata.uid.clone()));
        uids.extend(self.sets.iter().filter_map(|object| object.metadata.uid.clone()));
        uids.extend(self.stateful.iter().filter_map(|object| object.metadata.uid.clone()));
        uids.extend(self.daemons.iter().filter_map(|object| object.metadata.uid.clone()));
        uids.extend(self.controllers.iter().filter_map(|object| object.metadata.uid.clone()));
        uids.extend(self.jobs.iter().filter_map(|object| object.metadata.uid.clone()));
        let lost: Vec<String> = self
            .pods
            .iter()
            .filter(|pod| owner(*pod).is_none_or(|owner| !uids.contains(&owner)))
            .map(name)
            .collect();
        self.check(lost.is_empty(), || format!("pods without an owner: {lost:?}"));
        let sets = self.sets.iter().filter(|set| {
            let of = app_of(set);
            let stays = asked.orphaned.contains(&of) || asked.replica_sets.contains(&of);
            match owner(*set) {
                None => !stays,
                Some(owner) => stays || !uids.contains(&owner),
            }
        });
        let lost: Vec<String> = sets.map(name).collect();
        self.check(lost.is_empty(), || {
            format!("replica sets with the wrong owner: {lost:?}")
        });
        let left: Vec<String> = self
            .sets
            .iter()
            .filter(|set| asked.gone.contains(&app_of(set)))
            .map(name)
            .collect();
        self.check(left.is_empty(), || {
            format!("replica sets outlived their deployment: {left:?}")
        });
    }

    fn deployments(&mut self, asked: &Asked) {
        let names: BTreeSet<String> = self.deployments.iter().map(name).collect();
        self.check(names == asked.deployments.iter().cloned().collect(), || {
            format!("deployments: {names:?}")
        });
        for deployment in self.deployments.clone() {
            let (own, status) = (name(&deployment), deployment.status.clone().unwrap_or_default());
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let counts = [
                status.replicas,
                status.updated_replicas,
                status.ready_replicas,
                status.available_replicas,
            ]
            .map(|count| count.unwrap_or(0));
            let rests = status.observed_generation == deployment.metadata.generation
                && status.unavailable_replicas.unwrap_or(0) == 0
                && status.terminating_replicas.unwrap_or(0) == 0;
            self.check(counts == [wanted; 4] && rests, || {
                format!("deployment {own} of {wanted}: {status:?}")
            });
            let progress = status
                .conditions
                .iter()
                .flatten()
                .find(|known| known.type_ == "Progressing");
            let done = progress.is_some_and(|known| known.reason.as_deref() == Some("NewReplicaSetAvailable"));
            self.check(done, || format!("deployment {own} progresses: {progress:?}"));
            let sets = self.sets.iter().filter(|set| owner(*set) == deployment.metadata.uid);
            let sizes: Vec<i32> = sets
                .map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
                .collect();
            let live = sizes.iter().filter(|size| **size > 0).count();
            self.check(live <= 1 && sizes.iter().sum::<i32>() == wanted, || {
                format!("deployment {own}: sets of {sizes:?}")
            });
            let limit = deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.revision_history_limit)
                .unwrap_or(10);
            let kept = usize::try_from(limit).unwrap() + 1;
            self.check(sizes.len() <= kept, || {
                format!("deployment {own} keeps {} sets", sizes.len())
            });
        }
    }

    fn replicas(&mut self) {
        for set in self.sets.clone() {
            let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = set.status.clone().unwrap_or_default();
            let counts = [
                Some(status.replicas),
                status.ready_replicas,
                status.available_replicas,
                status.fully_labeled_replicas,
            ]
            .map(|count| count.unwrap_or(0));
            let live = self
                .of(&set.metadata.uid)
                .into_iter()
                .filter(|pod| is_ready(pod))
                .count();
            let own = name(&set);
            self.check(
                counts == [wanted; 4] && live == usize::try_from(wanted).unwrap(),
                || format!("replica set {own} of {wanted}: {live} pods, {status:?}"),
            );
        }
        for set in self.controllers.clone() {
            let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = set.status.clone().unwrap_or_default();
            let live = self
                .of(&set.metadata.uid)
                .into_iter()
                .filter(|pod| is_ready(pod))
                .count();
            let right = status.replicas == wanted && live == usize::try_from(wanted).unwrap();
            self.check(right, || {
                format!("replication controller of {wanted}: {live} pods, {status:?}")
            });
        }
    }

    fn stateful_sets(&mut self, asked: &Asked) {
        let names: BTreeSet<String> = self.stateful.iter().map(name).collect();
        self.check(names == asked.stateful_sets.iter().cloned().collect(), || {
            format!("stateful sets: {names:?}")
        });
        for set in self.stateful.clone() {
            let (own, spec, status) = (
                name(&set),
                set.spec.clone().unwrap_or_default(),
                set.status.clone().unwrap_or_default(),
            );
            let wanted = spec.replicas.unwrap_or(1);
            let start = spec.ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0);
            let expected: BTreeSet<String> = (start..start + wanted)
                .map(|ordinal| format!("{own}-{ordinal}"))
                .collect();
            let pods: BTreeSet<String> = self.of(&set.metadata.uid).into_iter().map(name).collect();
            self.check(pods == expected, || format!("stateful set {own}: {pods:?}"));
            let revisions: BTreeSet<Option<String>> = self
                .of(&set.metadata.uid)
                .into_iter()
                .map(|pod| labels(pod).get("controller-revision-hash").cloned())
                .collect();
            let updated = revisions.iter().all(|revision| *revision == status.update_revision);
            let counts = [
                Some(status.replicas),
                status.ready_replicas,
                status.available_replicas,
                status.updated_replicas,
                status.current_replicas,
            ]
            .map(|count| count.unwrap_or(0));
            let done = status.current_revision == status.update_revision
                && status.observed_generation == set.metadata.generation;
            self.check(updated && done && counts == [wanted; 5], || {
                format!("stateful set {own} of {wanted}: {revisions:?} {status:?}")
            });
        }
    }

    fn daemon_sets(&mut self, asked: &Asked) {
        for set in self.daemons.clone() {
            let (own, status) = (name(&set), set.status.clone().unwrap_or_default());
            let on: Vec<Option<String>> = self
                .of(&set.metadata.uid)
                .into_iter()
                .map(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()))
                .collect();
            let different: BTreeSet<&Option<String>> = on.iter().collect();
            self.check(on.len() == asked.nodes && different.len() == asked.nodes, || {
                format!("daemon set {own} is on {on:?}")
            });
            let wanted = i32::try_from(asked.nodes).unwrap();
            let counts = [
                status.desired_number_scheduled,
                status.current_number_scheduled,
                status.number_ready,
                status.number_available.unwrap_or(0),
                status.updated_number_scheduled.unwrap_or(0),
            ];
            let rests = status.number_misscheduled == 0 && status.number_unavailable.unwrap_or(0) == 0;
            self.check(counts == [wanted; 5] && rests, || {
                format!("daemon set {own}: {status:?}")
            });
        }
    }

    fn jobs(&mut self, asked: &Asked) {
        for (own, end) in &asked.jobs {
            let Some(job) = self.jobs.iter().find(|job| name(*job) == *own).cloned() else {
                self.wrong.push(format!("job {own} is not there"));
                continue;
            };
            let (spec, status) = (
                job.spec.clone().unwrap_or_default(),
                job.status.clone().unwrap_or_default(),
            );
            let conditions: Vec<&str> = status
                .conditions
                .iter()
                .flatten()
                .map(|known| known.type_.as_str())
                .collect();
            let before = if *end == "Complete" {
                "SuccessCriteriaMet"
            } else {
                "FailureTarget"
            };
            self.check(conditions == [before, *end], || format!("job {own}: {status:?}"));
            let notes = status.uncounted_terminated_pods.clone().unwrap_or_default();
            let open = notes.failed.is_some() || notes.succeeded.is_some();
            let rests = status.active.unwrap_or(0) == 0 && status.terminating.unwrap_or(0) == 0 && !open;
            self.check(rests, || format!("job {own} rests: {status:?}"));
            let succeeded = status.succeeded.unwrap_or(0);
            if *end == "Complete" && spec.success_policy.is_none() {
                self.check(Some(succeeded) == spec.completions, || {
                    format!("job {own}: {succeeded} succeeded")
                });
                let pods = self.of(&job.metadata.uid).into_iter();
                let done = pods
                    .filter(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded"));
                let done = i32::try_from(done.count()).unwrap();
                self.check(done <= succeeded, || {
                    format!("job {own}: {done} pods succeeded, {succeeded} counted")
                });
            }
        }
    }

    async fn gone(&mut self, client: &Client) {
        let all: Api<Namespace> = Api::all(client.clone());
        let left = all.get_opt(DOOMED).await.expect("namespaces");
        self.check(left.is_none(), || {
            format!("namespace {DOOMED} is there: {:?}", left.unwrap().status)
        });
        let pods: Api<Pod> = api(client, DOOMED);
        let pods = pods.list(&ListParams::default()).await.expect("pods").items;
        self.check(pods.is_empty(), || format!("{} pods of namespace {DOOMED}", pods.len()));
    }

    async fn quota(&mut self, client: &Client) {
        let live = |pod: &&Pod| {
            !matches!(
                pod.status.as_ref().and_then(|status| status.phase.as_deref()),
                Some("Succeeded" | "Failed")
            )
        };
        let pods = self.pods.iter().filter(live).count();
        let services = list::<Service>(client).await.len();
        let expected: BTreeMap<&str, String> = [
            ("pods", pods.to_string()),
            ("requests.cpu", cpu(pods * 10)),
            ("count/jobs.batch", self.jobs.len().to_string()),
            ("count/replicasets.apps", self.sets.len().to_string()),
            ("services", services.to_string()),
        ]
        .into();
        for quota in list::<ResourceQuota>(client).await {
            let used = quota.status.and_then(|status| status.used).unwrap_or_default();
            let used: BTreeMap<&str, String> = used
                .iter()
                .map(|(key, value)| (key.as_str(), value.0.clone()))
                .collect();
            self.check(used == expected, || {
                format!("quota: used {used:?}, there are {expected:?}")
            });
        }
    }

    async fn services(&mut self, client: &Client) {
        let slices = list::<EndpointSlice>(client).await;
        let endpoints = list::<Endpoints>(client).await;
        for service in list::<Service>(client).await {
            let own = name(&service);
            let expected: BTreeSet<String> = self
                .pods
                .iter()
                .filter(|pod| labels(pod).get("app") == Some(&own) && is_ready(pod))
                .filter_map(|pod| pod.status.as_ref()?.pod_ip.clone())
                .collect();
            let of = slices
                .iter()
                .filter(|slice| labels_of(*slice).get("kubernetes.io/service-name") == Some(&own));
            let ready = of.flat_map(|slice| slice.endpoints.iter().flatten());
            let ready = ready.filter(|endpoint| endpoint.conditions.as_ref().and_then(|all| all.ready) == Some(true));
            let ready: Vec<String> = ready.flat_map(|endpoint| endpoint.addresses.clone()).collect();
            let different: BTreeSet<String> = ready.iter().cloned().collect();
            self.check(different == expected && ready.len() == expected.len(), || {
                format!("slices of {own}: {} endpoints, {} pods", ready.len(), expected.len())
            });
            let old = endpoints
                .iter()
                .filter(|object| name(*object) == own)
                .flat_map(|object| object.subsets.iter().flatten());
            let old: BTreeSet<String> = old
                .flat_map(|subset| subset.addresses.iter().flatten())
                .map(|address| address.ip.clone())
                .collect();
            self.check(old == expected, || {
                format!("endpoints of {own}: {} of {}", old.len(), expected.len())
            });
        }
    }

    async fn budgets(&mut self, client: &Client) {
        for budget in list::<PodDisruptionBudget>(client).await {
            let own = name(&budget);
            let Some(deployment) = self.deployments.iter().find(|deployment| name(*deployment) == own) else {
                continue;
            };
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = budget.status.unwrap_or_default();
            let may_go = (wanted * 20 + 99) / 100;
            let right = status.current_healthy == Some(wanted)
                && status.expected_pods == Some(wanted)
                && status.disruptions_allowed == Some(may_go)
                && status.disrupted_pods.is_none();
            self.check(right, || format!("budget {own} of {wanted}: {status:?}"));
        }
    }

    async fn nodes(&mut self, client: &Client) {
        let all: Api<Node> = Api::all(client.clone());
        for node in all.list(&ListParams::default()).await.expect("nodes").items {
            let taints = node
                .spec
                .as_ref()
                .and_then(|spec| spec.taints.clone())
                .unwrap_or_default();
            let own = name(&node);
            self.check(taints.is_empty(), || format!("node {own} is tainted: {taints:?}"));
        }
    }
}

fn labels_of<K: kube::Resource>(object: &K) -> BTreeMap<String, String> {
    object.meta().labels.clone().unwrap_or_default()
}

/// The application whose pods a set is for.
fn app_of(set: &ReplicaSet) -> String {
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    selector
        .and_then(|labels| labels.get("app"))
        .cloned()
        .unwrap_or_default()
}

fn cpu(milli: usize) -> String {
    if milli.is_multiple_of(1000) {
        (milli / 1000).to_string()
    } else {
        format!("{milli}m")
    }
}

/// Nothing is written any more but heartbeats: whoever writes without need would go on for ever.
pub async fn rests(client: &Client) {
    let versions = || async {
        let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
        macro_rules! note {
            ($($kind:ty),*) => {$(
                for object in list::<$kind>(client).await {
                    all.insert(format!("{} {}", stringify!($kind), name(&object)), object.metadata.resource_version.clone());
                }
            )*};
        }
        note!(
            Pod,
            Deployment,
            ReplicaSet,
            StatefulSet,
            DaemonSet,
            ReplicationController,
            Job,
            Service,
            EndpointSlice
        );
        note!(Endpoints, PodDisruptionBudget, ResourceQuota, ControllerRevision, Event);
        all
    };
    // Events may still be on their way, and budgets forget evictions after a while.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let before = versions().await;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let after = versions().await;
        let changed: Vec<&String> = after
            .iter()
            .filter(|(key, version)| before.get(*key) != Some(*version))
            .map(|(key, _)| key)
            .collect();
        if changed.is_empty() {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "still written without need: {changed:?}"
        );
    }
}
