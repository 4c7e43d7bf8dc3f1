//! Rollouts in a simulated cluster: whatever the sizes and the order in which pods become available, a
//! rolling update stays within its bounds, finishes, and then rests.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetStatus, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use crate::key::{annotation, name, time, uid};

use super::plan::{Action, Observed, reconcile, without_idle_status};
use super::revision::REVISION;
use super::size::{Size, available, spec_replicas};
use super::status::{NEW_SET_AVAILABLE, PROGRESSING, condition};

struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: Timestamp,
    made: u32,
}

fn template(image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels()),
            ..Default::default()
        }),
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "c".to_string(),
                image: Some(image.to_string()),
                ..Default::default()
            }],
            ..Default::default()
        }),
    }
}

fn labels() -> std::collections::BTreeMap<String, String> {
    [("app".to_string(), "web".to_string())].into()
}

impl World {
    fn new(replicas: i32, surge: IntOrString, unavailable: IntOrString) -> Self {
        let deployment = Deployment {
            metadata: ObjectMeta {
                name: Some("web".to_string()),
                namespace: Some("default".to_string()),
                uid: Some("d".to_string()),
                generation: Some(1),
                ..Default::default()
            },
            spec: Some(DeploymentSpec {
                replicas: Some(replicas),
                selector: LabelSelector {
                    match_labels: Some(labels()),
                    match_expressions: None,
                },
                template: template("v1"),
                progress_deadline_seconds: Some(600),
                revision_history_limit: Some(2),
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".to_string()),
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: Some(surge),
                        max_unavailable: Some(unavailable),
                    }),
                }),
                ..Default::default()
            }),
            status: None,
        };
        Self {
            deployment,
            sets: Vec::new(),
            now: Timestamp::UNIX_EPOCH,
            made: 0,
        }
    }

    fn actions(&self) -> Vec<Action> {
        let with_pods = self
            .sets
            .iter()
            .filter(|set| set.status.as_ref().is_some_and(|status| status.replicas > 0))
            .map(|set| uid(&set.metadata).to_string())
            .collect();
        let observed = Observed {
            deployment: self.deployment.clone(),
            sets: self.sets.clone(),
            with_pods,
        };
        let written = self.deployment.status.clone().unwrap_or_default();
        without_idle_status(reconcile(&observed, self.now), &written)
    }

    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Create(mut set) => {
                    assert!(self.sets.iter().all(|known| known.metadata.name != set.metadata.name));
                    self.made += 1;
                    set.metadata.uid = Some(format!("set-{}", self.made));
                    set.metadata.creation_timestamp = Some(time(self.now));
                    self.sets.push(*set);
                }
                Action::Update { set, .. } => {
                    let found = self
                        .sets
                        .iter_mut()
                        .find(|known| known.metadata.uid == set.metadata.uid);
                    *found.expect("an updated set exists") = *set;
                }
                Action::Delete(meta) => self.sets.retain(|known| known.metadata.uid != meta.uid),
                Action::SetRevision(revision) => {
                    let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                    annotations.insert(REVISION.to_string(), revision);
                }
                Action::SetStatus(status) => self.deployment.status = Some(*status),
                Action::Warn { .. } => {}
            }
        }
        self.now = self
            .now
            .checked_add(SignedDuration::from_secs(1))
            .expect("a short simulation");
    }

    /// The ReplicaSet controller: pods follow the spec at once, unready ones leave first, and up to `ready`
    /// more become available.
    fn run_pods(&mut self, mut ready: i32) {
        for set in &mut self.sets {
            let replicas = spec_replicas(set);
            let before = available(set).min(replicas);
            let more = (replicas - before).min(ready);
            ready -= more;
            set.status = Some(ReplicaSetStatus {
                replicas,
                ready_replicas: Some(before + more),
                available_replicas: Some(before + more),
                ..Default::default()
            });
        }
    }

    fn step(&mut self, ready: i32) {
        let actions = self.actions();
        self.apply(actions);
        self.run_pods(ready);
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            self.step(100);
        }
        assert_eq!(self.actions(), [], "a finished rollout rests");
    }

    fn change_image(&mut self, image: &str) {
        if let Some(spec) = &mut self.deployment.spec {
            spec.template = template(image);
        }
        self.bump();
    }

    fn bump(&mut self) {
        let generation = self.deployment.metadata.generation.get_or_insert(0);
        *generation += 1;
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(spec_replicas).sum()
    }

    fn available(&self) -> i32 {
        self.sets.iter().map(available).sum()
    }

    fn active(&self) -> Vec<(String, i32)> {
        let active = self.sets.iter().filter(|set| spec_replicas(set) > 0);
        active
            .map(|set| (name(&set.metadata).to_string(), spec_replicas(set)))
            .collect()
    }

    fn revision(&self) -> Option<&str> {
        annotation(&self.deployment.metadata, REVISION)
    }
}

fn amount() -> impl Strategy<Value = IntOrString> {
    prop_oneof![
        (0..5i32).prop_map(IntOrString::Int),
        (0..101i32).prop_map(|percent| IntOrString::String(format!("{percent}%"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rolling_updates_keep_their_bounds(
        replicas in 1..30i32,
        surge in amount(),
        unavailable in amount(),
        pace in proptest::collection::vec(0..6i32, 60),
    ) {
        let mut world = World::new(replicas, surge, unavailable);
        world.settle();
        let size = Size::of(&world.deployment);
        world.change_image("v2");
        for ready in pace {
            world.step(ready);
            prop_assert!(world.total() <= size.max_total(), "surge: {} of {:?}", world.total(), size);
            prop_assert!(
                world.available() >= replicas - size.max_unavailable,
                "unavailable: {} of {:?}", world.available(), size
            );
        }
        world.settle();
        prop_assert_eq!(world.active().len(), 1);
        prop_assert_eq!(world.total(), replicas);
        prop_assert_eq!(world.revision(), Some("2"));
    }

    #[test]
    fn scaling_in_the_middle_of_a_rollout_still_finishes(
        replicas in 0..20i32,
        then in 0..20i32,
        pace in proptest::collection::vec(0..4i32, 8),
    ) {
        let quarter = || IntOrString::String("25%".to_string());
        let mut world = World::new(replicas, quarter(), quarter());
        world.settle();
        world.change_image("v2");
        for ready in pace {
            world.step(ready);
        }
        if let Some(spec) = &mut world.deployment.spec {
            spec.replicas = Some(then);
        }
        world.bump();
        world.step(0);
        let size = Size::of(&world.deployment);
        prop_assert!(world.total() <= size.max_total(), "{} of {:?}", world.total(), size);
        world.settle();
        prop_assert_eq!(world.total(), then);
    }
}

#[test]
fn going_back_reuses_the_old_set_under_a_new_revision() {
    let mut world = World::new(3, IntOrString::Int(1), IntOrString::Int(0));
    world.settle();
    let first = world.active();
    assert_eq!(world.revision(), Some("1"));
    world.change_image("v2");
    world.settle();
    assert_eq!(world.revision(), Some("2"));
    world.change_image("v1");
    world.settle();
    assert_eq!(world.revision(), Some("3"));
    assert_eq!(world.active(), first);
    assert_eq!(world.sets.len(), 2);
    let status = world.deployment.status.as_ref().expect("written");
    let progressing = condition(status, PROGRESSING).expect("set");
    assert_eq!(progressing.reason.as_deref(), Some(NEW_SET_AVAILABLE));
}

#[test]
fn old_revisions_beyond_the_limit_are_deleted() {
    let mut world = World::new(1, IntOrString::Int(1), IntOrString::Int(0));
    for version in 0..6 {
        world.change_image(&format!("v{version}"));
        world.settle();
    }
    assert_eq!(world.sets.len(), 3, "the current one and two old ones");
}

#[test]
fn recreate_starts_the_new_only_when_the_old_is_gone() {
    let mut world = World::new(3, IntOrString::Int(1), IntOrString::Int(0));
    if let Some(spec) = &mut world.deployment.spec {
        spec.strategy = Some(DeploymentStrategy {
            type_: Some("Recreate".to_string()),
            rolling_update: None,
        });
    }
    world.settle();
    world.change_image("v2");
    let actions = world.actions();
    world.apply(actions);
    assert_eq!(world.active(), [], "the old set shrinks first");
    let actions = world.actions();
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Create(_))),
        "old pods still run"
    );
    world.apply(actions);
    world.settle();
    assert_eq!(world.total(), 3);
}

#[test]
fn paused_deployments_scale_but_do_not_roll() {
    let mut world = World::new(3, IntOrString::Int(1), IntOrString::Int(0));
    world.settle();
    let first = world.active()[0].0.clone();
    if let Some(spec) = &mut world.deployment.spec {
        spec.paused = Some(true);
        spec.replicas = Some(5);
    }
    world.change_image("v2");
    world.settle();
    assert_eq!(world.active(), [(first, 5)]);
    let status = world.deployment.status.as_ref().expect("written");
    let progressing = condition(status, PROGRESSING).expect("set");
    assert_eq!(progressing.reason.as_deref(), Some("DeploymentPaused"));
}

#[test]
fn a_rollout_that_does_not_move_times_out() {
    let mut world = World::new(2, IntOrString::Int(1), IntOrString::Int(0));
    world.settle();
    world.change_image("broken");
    for _ in 0..5 {
        world.step(0);
    }
    world.now = world.now.checked_add(SignedDuration::from_secs(601)).expect("in range");
    world.step(0);
    let status = world.deployment.status.as_ref().expect("written");
    let progressing = condition(status, PROGRESSING).expect("set");
    assert_eq!(
        (progressing.status.as_str(), progressing.reason.as_deref()),
        ("False", Some("ProgressDeadlineExceeded"))
    );
}
