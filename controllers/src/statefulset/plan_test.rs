use super::*;
use crate::pods::testing::at;
use crate::revisions::REVISION_HASH;
use crate::statefulset::pod::identity;
use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use serde_json::{Value, json};

fn set(replicas: i32, policy: Option<&str>) -> StatefulSet {
    StatefulSet {
        metadata: ObjectMeta {
            name: Some("db".to_string()),
            ..Default::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            pod_management_policy: policy.map(ToString::to_string),
            ..Default::default()
        }),
        status: None,
    }
}

fn rolling(mut set: StatefulSet, rolling: Value) -> StatefulSet {
    set.spec.get_or_insert_default().update_strategy =
        serde_json::from_value(json!({"type": "RollingUpdate", "rollingUpdate": rolling})).ok();
    set
}

fn pod(ordinal: i32, ready: bool, revision: &str) -> Arc<Pod> {
    let own_name = format!("db-{ordinal}");
    let mut made = crate::pods::testing::pod(&own_name, "Running", Some("n"), ready.then_some(1));
    let mut labels: crate::selector::Labels = identity(&own_name, ordinal)
        .map(|(key, value)| (key.to_string(), value))
        .into();
    labels.insert(REVISION_HASH.to_string(), revision.to_string());
    made.labels = Some(labels.into());
    Arc::new(made)
}

fn changed(pod: &Arc<Pod>, change: impl Fn(&mut Pod)) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    change(&mut pod);
    Arc::new(pod)
}

fn leaving(pod: &Arc<Pod>) -> Arc<Pod> {
    changed(pod, |pod| {
        pod.metadata.deletion_timestamp = Some(crate::key::time(at(9)))
    })
}

fn in_phase(pod: &Arc<Pod>, phase: &str) -> Arc<Pod> {
    changed(pod, |pod| {
        let status = pod.status.get_or_insert_default();
        status.phase = Some(phase.to_string());
    })
}

fn with<T>(set: &StatefulSet, pods: &[Arc<Pod>], current: &str, look: impl Fn(&Observed<'_>) -> T) -> T {
    let template = PodTemplateSpec::default();
    look(&Observed {
        set,
        pods,
        current: Version {
            name: current,
            template: &template,
        },
        update: Version {
            name: "new",
            template: &template,
        },
        waiting: &BTreeSet::new(),
    })
}

fn decide(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<String> {
    let shown = |action| match action {
        Action::Create { ordinal, updated } => format!("+{ordinal}{}", if updated { " new" } else { "" }),
        Action::Delete(pod) => format!("-{}", name(&pod.metadata)),
        Action::Claims(ordinal) => format!("claims {ordinal}"),
        Action::Label { ordinal, .. } => format!("label {ordinal}"),
    };
    with(set, pods, "old", |observed| {
        reconcile(observed, at(50)).into_iter().map(shown).collect()
    })
}

const NOTHING: [&str; 0] = [];

#[test]
fn one_after_the_other() {
    let three = set(3, None);
    assert_eq!(decide(&three, &[]), ["+0 new"]);
    assert_eq!(decide(&three, &[pod(0, false, "new")]), NOTHING, "waits for 0");
    assert_eq!(decide(&three, &[pod(0, true, "new")]), ["+1 new"]);
    assert_eq!(decide(&set(3, Some("Parallel")), &[]), ["+0 new", "+1 new", "+2 new"]);
    let many = [pod(0, true, "new"), pod(1, true, "new"), pod(2, true, "new")];
    assert_eq!(decide(&set(1, None), &many), ["-db-2"], "scales down from the top");
    assert_eq!(decide(&set(1, Some("Parallel")), &many), ["-db-2", "-db-1"]);
    let leaves = [pod(0, true, "new"), pod(1, true, "new"), leaving(&many[2])];
    assert_eq!(decide(&set(1, None), &leaves), NOTHING, "waits for 2 to be gone");
}

#[test]
fn scaling_halts_while_a_pod_is_unhealthy() {
    let sick = |ordinals: &[i32]| -> Vec<Arc<Pod>> {
        (0..3)
            .map(|ordinal| pod(ordinal, !ordinals.contains(&ordinal), "new"))
            .collect()
    };
    assert_eq!(decide(&set(5, None), &sick(&[1])), NOTHING);
    assert_eq!(decide(&set(1, None), &sick(&[0])), NOTHING);
    assert_eq!(
        decide(&set(0, None), &sick(&[0, 1, 2])),
        NOTHING,
        "2 waits for those below it"
    );
    assert_eq!(
        decide(&set(0, None), &sick(&[2])),
        ["-db-2"],
        "the first unhealthy one may go"
    );
    assert_eq!(decide(&set(0, None), &sick(&[1])), ["-db-2"], "a healthy one may go");
    assert_eq!(
        decide(&set(0, Some("Parallel")), &sick(&[0, 1, 2])),
        ["-db-2", "-db-1", "-db-0"]
    );
}

#[test]
fn finished_and_waiting_pods() {
    let failed = [pod(0, true, "new"), in_phase(&pod(1, false, "new"), "Failed")];
    assert_eq!(decide(&set(3, None), &failed), ["-db-1"]);
    let ends = [failed[0].clone(), leaving(&failed[1])];
    assert_eq!(decide(&set(3, None), &ends), NOTHING, "made again once it is gone");
    let done = [in_phase(&pod(0, false, "new"), "Succeeded")];
    assert_eq!(decide(&set(1, None), &done), ["-db-0"]);
    let pending = [in_phase(&pod(0, false, "new"), "Pending")];
    assert_eq!(decide(&set(1, None), &pending), ["claims 0"]);
}

#[test]
fn adopted_pods_get_their_labels() {
    let adopted = changed(&pod(0, true, "new"), |pod| {
        pod.labels = Some(crate::selector::Labels::from([(REVISION_HASH.to_string(), "new".to_string())]).into());
    });
    assert_eq!(decide(&set(1, None), &[adopted]), ["label 0"]);
}

#[test]
fn updates_from_the_top_down() {
    let pods = [pod(0, true, "old"), pod(1, true, "old"), pod(2, true, "old")];
    assert_eq!(decide(&set(3, None), &pods), ["-db-2"]);
    let pods = [pod(0, true, "old"), pod(1, true, "old"), pod(2, true, "new")];
    assert_eq!(decide(&set(3, None), &pods), ["-db-1"]);
    let pods_sick = [pods[0].clone(), pods[1].clone(), pod(2, false, "new")];
    assert_eq!(decide(&set(3, Some("Parallel")), &pods_sick), NOTHING, "waits for 2");
    let partitioned = rolling(set(3, None), json!({"partition": 2}));
    assert_eq!(decide(&partitioned, &pods), NOTHING);
    assert_eq!(
        decide(&partitioned, &pods[1..]),
        ["+0"],
        "below the partition the old template returns"
    );
    let mut by_hand = set(3, None);
    by_hand.spec.get_or_insert_default().update_strategy = serde_json::from_value(json!({"type": "OnDelete"})).ok();
    assert_eq!(decide(&by_hand, &pods), NOTHING);
    assert_eq!(decide(&by_hand, &pods[1..]), ["+0 new"]);
}

#[test]
fn several_may_be_replaced_together() {
    let two = rolling(set(3, None), json!({"maxUnavailable": "50%"}));
    let pods = [pod(0, true, "old"), pod(1, true, "old"), pod(2, true, "old")];
    assert_eq!(decide(&two, &pods), ["-db-2", "-db-1"]);
    let parallel = rolling(set(3, Some("Parallel")), json!({"maxUnavailable": 2}));
    let one_out = [pods[0].clone(), pods[1].clone(), pod(2, false, "new")];
    assert_eq!(decide(&parallel, &one_out), ["-db-1"]);
    let broken = [pods[0].clone(), pod(1, false, "old"), pods[2].clone()];
    assert_eq!(
        decide(
            &rolling(set(3, Some("Parallel")), json!({"maxUnavailable": 1})),
            &broken
        ),
        ["-db-1"],
        "2 must not go beside 1, and 1 would not come back by itself"
    );
    let broken_top = [pods[0].clone(), pods[1].clone(), pod(2, false, "old")];
    assert_eq!(
        decide(&set(3, Some("Parallel")), &broken_top),
        ["-db-2"],
        "a broken one costs nothing"
    );
}

#[test]
fn the_status_names_whole_revisions() {
    let pods = [pod(0, true, "old"), pod(1, true, "new"), leaving(&pod(2, true, "old"))];
    let status_of =
        |pods: &[Arc<Pod>], current| with(&set(3, None), pods, current, |observed| status(observed, at(50)));
    let half = status_of(&pods, "old");
    assert_eq!(
        (
            half.replicas,
            half.ready_replicas,
            half.current_replicas,
            half.updated_replicas
        ),
        (3, Some(3), Some(1), Some(1))
    );
    assert_eq!(
        (half.current_revision.as_deref(), half.update_revision.as_deref()),
        (Some("old"), Some("new"))
    );
    let all = [pod(0, true, "new"), pod(1, true, "new"), pod(2, true, "new")];
    let done = status_of(&all, "old");
    assert_eq!(
        (done.current_replicas, done.current_revision.as_deref()),
        (Some(3), Some("new"))
    );
}

/// A set whose pods come, become ready, fail, break and go in any order.
struct World {
    set: StatefulSet,
    pods: BTreeMap<i32, Arc<Pod>>,
    current: String,
}

impl World {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.values().cloned().collect()
    }

    fn healthy(&self) -> usize {
        let wanted = range(&self.set);
        let works = |pod: &Pod| phase(pod) == "Running" && is_ready(pod) && !is_terminating(pod);
        let well = |(ordinal, pod): &(&i32, &Arc<Pod>)| wanted.contains(ordinal) && works(pod);
        self.pods.iter().filter(well).count()
    }

    /// Returns whether anything was left to do.
    fn reconcile(&mut self) -> Result<bool, TestCaseError> {
        let (pods, current) = (self.pods(), self.current.clone());
        let actions = with(&self.set, &pods, &current, |observed| reconcile(observed, at(50)));
        let acts = actions.iter().any(|action| !matches!(action, Action::Claims(_)));
        let ordered = self
            .set
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_management_policy.as_deref())
            != Some("Parallel");
        let creations = actions
            .iter()
            .filter(|action| matches!(action, Action::Create { .. }))
            .count();
        prop_assert!(!ordered || creations <= 1);
        let (before, wanted) = (self.healthy(), usize::try_from(replicas(&self.set)).unwrap());
        let limit = usize::try_from(max_unavailable(&self.set)).unwrap();
        for action in actions {
            match action {
                Action::Create { ordinal, updated } => {
                    prop_assert!(range(&self.set).contains(&ordinal));
                    if ordered {
                        let below = range(&self.set).start..ordinal;
                        prop_assert!(
                            below
                                .into_iter()
                                .all(|below| self.pods.get(&below).is_some_and(|pod| is_ready(pod)))
                        );
                    }
                    let revision = if updated { "new" } else { &current };
                    let made = in_phase(&pod(ordinal, false, revision), "Pending");
                    prop_assert!(self.pods.insert(ordinal, made).is_none(), "two pods of one ordinal");
                }
                Action::Delete(pod) => {
                    let ordinal = ordinal(&self.set, &pod).unwrap();
                    self.pods.insert(ordinal, leaving(&pod));
                }
                Action::Claims(_) | Action::Label { .. } => {}
            }
        }
        // Only an update takes healthy pods of wanted ordinals away, and only so many.
        let after = self.healthy();
        prop_assert!(
            after == before || wanted - after <= limit,
            "{before} -> {after} of {wanted}, {limit} may go"
        );
        let status = with(&self.set, &self.pods(), &current, |observed| status(observed, at(50)));
        self.current = status.current_revision.unwrap();
        Ok(acts)
    }

    fn shake(&mut self, ordinal: i32, event: u8) {
        let Some(known) = self.pods.get(&ordinal).cloned() else {
            return;
        };
        let revision = pod_hash(&known).unwrap_or("").to_string();
        let next = match event {
            _ if is_terminating(&known) => None,
            0 => Some(in_phase(&known, "Failed")),
            1 => Some(pod(ordinal, false, &revision)),
            _ if is_finished(&known) => Some(known),
            _ => Some(pod(ordinal, true, &revision)),
        };
        match next {
            Some(pod) => self.pods.insert(ordinal, pod),
            None => self.pods.remove(&ordinal),
        };
    }
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_rules_and_ends_well(
        parallel in any::<bool>(), replicas in 0i32..6, start in 0i32..3, limit in 1i32..4, partition in 0i32..4,
        events in prop::collection::vec((0i32..8, 0u8..6), 0..80), old in 0i32..8,
    ) {
        let made = set(replicas, parallel.then_some("Parallel"));
        let mut made = rolling(made, json!({"maxUnavailable": limit, "partition": partition}));
        made.spec.as_mut().unwrap().ordinals = serde_json::from_value(json!({"start": start})).ok();
        let pods = (0..old).map(|ordinal| (ordinal, pod(ordinal, true, "old"))).collect();
        let mut world = World { set: made, pods, current: "old".to_string() };
        for (ordinal, event) in events {
            world.reconcile()?;
            world.shake(ordinal, event);
        }
        // No more mishaps: every pod that is left alone becomes ready or goes.
        let mut rounds = 0;
        loop {
            let acts = world.reconcile()?;
            let unsettled: Vec<i32> = world.pods.iter()
                .filter(|(_, pod)| is_terminating(pod) || (!is_ready(pod) && !is_finished(pod)) || phase(pod) == "Pending")
                .map(|(ordinal, _)| *ordinal).collect();
            if !acts && unsettled.is_empty() {
                break;
            }
            for ordinal in unsettled {
                world.shake(ordinal, 5);
            }
            rounds += 1;
            prop_assert!(rounds < 200, "does not settle");
        }
        let ordinals: Vec<i32> = world.pods.keys().copied().collect();
        prop_assert_eq!(ordinals, (start..start + replicas).collect::<Vec<_>>());
        for (ordinal, pod) in &world.pods {
            prop_assert!(*ordinal < start + partition || pod_hash(pod) == Some("new"));
        }
    }
}
