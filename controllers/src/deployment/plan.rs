//! What a Deployment does next: which ReplicaSets to create, scale, annotate or delete, and its status. Pure.
//!
//! One pass takes one step: create or grow the current set, or shrink the old ones. The watch brings the
//! next pass.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::{controller_reference, created, name, namespace, uid};
use crate::selector;

use super::revision::{
    REVISION, TEMPLATE_HASH, annotate_current, annotate_size, desired_annotation, max_revision, revision_of,
    same_template, template_hash,
};
use super::size::{Size, available, proportional, spec_replicas};
use super::status::{
    PROGRESSING, TIMED_OUT, condition, is_complete, new_condition, progress_deadline, resting, rolling, same_status,
    set_condition,
};

pub struct Observed {
    pub deployment: Deployment,
    /// The ReplicaSets it owns.
    pub sets: Vec<ReplicaSet>,
    /// Uids of sets that still have pods which are not finished. Only looked at for `Recreate`.
    pub with_pods: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Box<ReplicaSet>),
    /// Write the set; `from` is its size before.
    Update {
        set: Box<ReplicaSet>,
        from: i32,
    },
    Delete(Box<ObjectMeta>),
    /// Note the revision on the Deployment itself.
    SetRevision(String),
    SetStatus(Box<DeploymentStatus>),
    Warn {
        reason: &'static str,
        message: &'static str,
    },
}

/// The pass in progress: sets change here first, so that later decisions of the same pass see it.
struct Pass<'a> {
    deployment: Deployment,
    size: Size,
    sets: Vec<ReplicaSet>,
    with_pods: &'a [String],
    /// Index into `sets`.
    current: Option<usize>,
    actions: Vec<Action>,
    now: Timestamp,
}

pub fn reconcile(observed: &Observed, now: Timestamp) -> Vec<Action> {
    let deployment = observed.deployment.clone();
    let Some(spec) = &deployment.spec else {
        return Vec::new();
    };
    if selector::is_empty(&spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        return vec![Action::Warn {
            reason: "SelectingAll",
            message,
        }];
    }
    let mut sets = observed.sets.clone();
    sets.sort_by(|a, b| {
        created(&a.metadata)
            .cmp(&created(&b.metadata))
            .then_with(|| name(&a.metadata).cmp(name(&b.metadata)))
    });
    // Where several match, the oldest is the one that a lagging earlier pass meant.
    let current = sets.iter().position(|set| {
        set.spec
            .as_ref()
            .and_then(|set| set.template.as_ref())
            .is_some_and(|other| same_template(other, &spec.template))
    });
    let paused = spec.paused == Some(true);
    let recreate = !Size::of(&deployment).rolling;
    let mut pass = Pass {
        size: Size::of(&deployment),
        deployment,
        sets,
        with_pods: &observed.with_pods,
        current,
        actions: Vec::new(),
        now,
    };
    if pass.deployment.metadata.deletion_timestamp.is_some() {
        pass.report(false);
        return pass.actions;
    }
    pass.note_pause(paused);
    if paused || pass.is_scaling() {
        pass.adopt_current();
        pass.scale();
        if paused {
            pass.clean_up();
        }
        pass.report(false);
    } else {
        if recreate {
            pass.recreate();
        } else {
            pass.roll();
        }
        pass.report(true);
    }
    pass.actions
}

impl Pass<'_> {
    fn is_old(&self, index: usize) -> bool {
        self.current != Some(index)
    }

    fn old(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|index| self.is_old(*index)).collect()
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(spec_replicas).sum()
    }

    fn status(&mut self) -> &mut DeploymentStatus {
        self.deployment.status.get_or_insert_default()
    }

    /// Someone changed `spec.replicas` since the sets were last sized.
    fn is_scaling(&self) -> bool {
        self.sets
            .iter()
            .filter(|set| spec_replicas(set) > 0)
            .any(|set| desired_annotation(set).is_some_and(|desired| desired != self.size.replicas))
    }

    fn note_pause(&mut self, paused: bool) {
        if progress_deadline(&self.deployment).is_none() {
            return;
        }
        let now = self.now;
        let status = self.status();
        let reason = condition(status, PROGRESSING).and_then(|known| known.reason.clone());
        if reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let was_paused = reason.as_deref() == Some("DeploymentPaused");
        if paused && !was_paused {
            let message = "Deployment is paused".to_string();
            set_condition(
                status,
                new_condition(PROGRESSING, "Unknown", "DeploymentPaused", message, now),
            );
        } else if !paused && was_paused {
            let message = "Deployment is resumed".to_string();
            set_condition(
                status,
                new_condition(PROGRESSING, "Unknown", "DeploymentResumed", message, now),
            );
        }
    }

    /// Resizes a set and notes for which size of the Deployment.
    fn resize(&mut self, index: usize, replicas: i32) -> bool {
        let from = spec_replicas(&self.sets[index]);
        let noted = annotate_size(&mut self.sets[index], self.size.replicas, self.size.max_total());
        if from == replicas && !noted {
            return false;
        }
        if let Some(spec) = &mut self.sets[index].spec {
            spec.replicas = Some(replicas);
        }
        self.write(index, from);
        from != replicas
    }

    /// One update per set and pass: a later change of the same set replaces the earlier action.
    fn write(&mut self, index: usize, from: i32) {
        let set = Box::new(self.sets[index].clone());
        let earlier = self.actions.iter_mut().find_map(|action| match action {
            Action::Update { set: known, .. } if known.metadata.uid == set.metadata.uid => Some(known),
            _ => None,
        });
        match earlier {
            Some(known) => *known = set,
            None => self.actions.push(Action::Update { set, from }),
        }
    }

    /// Brings the existing current set's annotations and revision up to date.
    fn adopt_current(&mut self) {
        let Some(index) = self.current else { return };
        let revision = max_revision(self.old().into_iter().map(|old| &self.sets[old])) + 1;
        let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let from = spec_replicas(&self.sets[index]);
        let mut changed = annotate_current(&self.deployment, &mut self.sets[index], revision);
        if let Some(spec) = &mut self.sets[index].spec
            && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
        {
            spec.min_ready_seconds = min_ready;
            changed = true;
        }
        if changed {
            self.write(index, from);
        }
        self.note_revision(index);
        let now = self.now;
        let message = format!("Found new replica set {:?}", name(&self.sets[index].metadata));
        let deadline = progress_deadline(&self.deployment).is_some();
        let status = self.status();
        if deadline && condition(status, PROGRESSING).is_none() {
            set_condition(
                status,
                new_condition(PROGRESSING, "True", "FoundNewReplicaSet", message, now),
            );
        }
    }

    fn note_revision(&mut self, index: usize) {
        let revision = revision_of(self.sets[index].metadata.annotations.as_ref());
        if revision_of(self.deployment.metadata.annotations.as_ref()) != revision {
            self.actions.push(Action::SetRevision(revision.to_string()));
        }
    }

    /// Returns whether a set had to be created.
    fn ensure_current(&mut self) -> bool {
        if self.current.is_some() {
            self.adopt_current();
            return false;
        }
        let set = self.new_set();
        let now = self.now;
        let message = format!("Created new replica set {:?}", name(&set.metadata));
        let revision = set
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(REVISION))
            .cloned();
        self.actions.push(Action::Create(Box::new(set.clone())));
        if let Some(revision) = revision {
            self.actions.push(Action::SetRevision(revision));
        }
        if progress_deadline(&self.deployment).is_some() {
            let wanted = new_condition(PROGRESSING, "True", "NewReplicaSetCreated", message, now);
            set_condition(self.status(), wanted);
        }
        self.sets.push(set);
        self.current = Some(self.sets.len() - 1);
        true
    }

    fn new_set(&self) -> ReplicaSet {
        let deployment = &self.deployment;
        let spec = deployment.spec.clone().unwrap_or_default();
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template_hash(&spec.template, collisions);
        let mut template = spec.template;
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(TEMPLATE_HASH.to_string(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        selector
            .match_labels
            .get_or_insert_default()
            .insert(TEMPLATE_HASH.to_string(), hash.clone());
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", name(&deployment.metadata))),
                namespace: Some(namespace(&deployment.metadata).to_string()),
                labels: Some(labels),
                owner_references: Some(vec![controller_reference(
                    "apps/v1",
                    "Deployment",
                    &deployment.metadata,
                )]),
                ..Default::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(self.size.current_set(self.total(), 0)),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        annotate_current(deployment, &mut set, max_revision(&self.sets) + 1);
        annotate_size(&mut set, self.size.replicas, self.size.max_total());
        set
    }

    fn scale(&mut self) {
        let active: Vec<usize> = (0..self.sets.len())
            .filter(|index| spec_replicas(&self.sets[*index]) > 0)
            .collect();
        let only = match active.as_slice() {
            [] => self.current.or_else(|| self.sets.len().checked_sub(1)),
            [only] => Some(*only),
            _ => None,
        };
        if let Some(only) = only {
            // Not resized when it already fits: its annotations may stay.
            if spec_replicas(&self.sets[only]) != self.size.replicas || desired_annotation(&self.sets[only]).is_some() {
                self.resize(only, self.size.replicas);
            }
            return;
        }
        if self.is_saturated() {
            for index in self.old() {
                if spec_replicas(&self.sets[index]) > 0 {
                    self.resize(index, 0);
                }
            }
            return;
        }
        if self.size.rolling {
            let status_replicas = self
                .deployment
                .status
                .as_ref()
                .and_then(|status| status.replicas)
                .unwrap_or(0);
            let sets: Vec<&ReplicaSet> = active.iter().map(|index| &self.sets[*index]).collect();
            let sizes = proportional(&self.size, status_replicas, &sets);
            for (index, replicas) in active.into_iter().zip(sizes) {
                self.resize(index, replicas);
            }
        }
    }

    /// The current set has all the pods that are wanted, and they are available.
    fn is_saturated(&self) -> bool {
        self.current.is_some_and(|index| {
            let set = &self.sets[index];
            spec_replicas(set) == self.size.replicas
                && desired_annotation(set) == Some(self.size.replicas)
                && available(set) == self.size.replicas
        })
    }

    fn roll(&mut self) {
        let made = self.ensure_current();
        let Some(current) = self.current else { return };
        let have = spec_replicas(&self.sets[current]);
        let wanted = if have > self.size.replicas {
            self.size.replicas
        } else {
            self.size.current_set(self.total(), have)
        };
        if made || have != wanted && self.resize(current, wanted) {
            return;
        }
        if !self.shrink_old(current) {
            self.clean_up_when_complete();
        }
    }

    /// First the old pods that do not work anyway, then as many as availability allows.
    fn shrink_old(&mut self, current: usize) -> bool {
        let old = self.old();
        if old.iter().all(|index| spec_replicas(&self.sets[*index]) == 0) {
            return false;
        }
        let min_available = self.size.replicas - self.size.max_unavailable;
        let set = &self.sets[current];
        let unavailable = spec_replicas(set) - available(set);
        let may_go = self.total() - min_available - unavailable;
        if may_go <= 0 {
            return false;
        }
        let mut gone = 0;
        for &index in &old {
            let replicas = spec_replicas(&self.sets[index]);
            let broken = (replicas - available(&self.sets[index])).clamp(0, may_go - gone);
            if broken > 0 {
                gone += broken;
                self.resize(index, replicas - broken);
            }
        }
        let mut spare = self.sets.iter().map(available).sum::<i32>() - min_available;
        for &index in &old {
            let replicas = spec_replicas(&self.sets[index]);
            let surplus = replicas.min(spare);
            if surplus > 0 {
                spare -= surplus;
                gone += surplus;
                self.resize(index, replicas - surplus);
            }
        }
        gone > 0
    }

    fn recreate(&mut self) {
        let mut shrunk = false;
        for index in self.old() {
            if spec_replicas(&self.sets[index]) > 0 {
                shrunk |= self.resize(index, 0);
            }
        }
        if shrunk {
            self.adopt_current();
            return;
        }
        let current_uid = self.current.map(|index| uid(&self.sets[index].metadata).to_string());
        if self.with_pods.iter().any(|owner| Some(owner) != current_uid.as_ref()) {
            return;
        }
        if self.ensure_current() {
            return;
        }
        let Some(current) = self.current else { return };
        if spec_replicas(&self.sets[current]) != self.size.replicas && self.resize(current, self.size.replicas) {
            return;
        }
        self.clean_up_when_complete();
    }

    fn clean_up_when_complete(&mut self) {
        let current = self.current.map(|index| &self.sets[index]);
        let status = rolling(&self.deployment, &self.sets, current, self.now);
        if is_complete(&self.deployment, &status) {
            self.clean_up();
        }
    }

    /// Deletes the oldest revisions beyond the history limit, as far as they are empty.
    fn clean_up(&mut self) {
        let limit = self
            .deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.revision_history_limit)
            .unwrap_or(10);
        if limit == i32::MAX {
            return;
        }
        let mut old = self.old();
        old.retain(|index| self.sets[*index].metadata.deletion_timestamp.is_none());
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|index| revision_of(self.sets[*index].metadata.annotations.as_ref()));
        for index in old.into_iter().take(surplus) {
            let set = &self.sets[index];
            let seen = set
                .status
                .as_ref()
                .and_then(|status| status.observed_generation)
                .unwrap_or(0);
            let pods = set.status.as_ref().map_or(0, |status| status.replicas);
            if pods == 0 && spec_replicas(set) == 0 && set.metadata.generation.unwrap_or(0) <= seen {
                self.actions.push(Action::Delete(Box::new(set.metadata.clone())));
            }
        }
    }

    fn report(&mut self, rollout: bool) {
        let current = self.current.map(|index| &self.sets[index]);
        let judge = if rollout { rolling } else { resting };
        let status = judge(&self.deployment, &self.sets, current, self.now);
        self.actions.push(Action::SetStatus(Box::new(status)));
    }
}

/// Leaves out a status that says nothing new.
pub fn without_idle_status(actions: Vec<Action>, written: &DeploymentStatus) -> Vec<Action> {
    actions
        .into_iter()
        .filter(|action| !matches!(action, Action::SetStatus(status) if same_status(status, written)))
        .collect()
}
