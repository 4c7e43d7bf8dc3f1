//! Pods wait for their claims, and go where their volumes are or can be. Pure.

use crate::filter::{Candidate, Claim};
use crate::plugin::Plugin;
use crate::rules::Code;
use crate::selector::Labels;
use crate::snapshot::{ClaimState, ClassState, PodKey, Slot, State, Storage, VolumeState};
use std::collections::BTreeSet;

/// The access mode of volumes that one pod at a time may use.
const ONE_POD: &str = "ReadWriteOncePod";

/// What a pod's claims say of all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claims<'a> {
    /// Any node will do.
    Ready,
    /// No node will do, in upstream's words.
    Waiting(Plugin, String),
    /// It depends on the node.
    Nodes(Vec<Need<'a>>),
}

/// What one claim asks of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need<'a> {
    Reach(&'a VolumeState),
    /// The volume is not there.
    Missing,
    /// It is to be bound to a volume that the node reaches, or one is to be made there.
    Bind(PodKey, &'a ClaimState, &'a ClassState),
}

/// What is to be written before a pod can go to the node that was chosen for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// This volume becomes that claim's.
    Give {
        volume: String,
        version: String,
        claim: PodKey,
        uid: String,
    },
    /// A volume is to be made for the node.
    Provision { claim: PodKey },
}

pub fn claims<'a>(state: &'a State, candidate: &Candidate) -> Claims<'a> {
    let Some(storage) = state.storage.as_ref().filter(|_| !candidate.claims.is_empty()) else {
        return Claims::Ready;
    };
    // Upstream's plugins come one after the other, each looking at all claims.
    let missing = candidate
        .claims
        .iter()
        .find(|claim| !claim.ephemeral && find(storage, candidate, claim).is_none());
    if let Some(Claim { name, .. }) = missing {
        return Claims::Waiting(
            Plugin::VolumeRestrictions,
            format!("persistentvolumeclaim \"{name}\" not found"),
        );
    }
    let mut needs = Vec::new();
    let mut unbound = false;
    for claim in &candidate.claims {
        let found = match usable(storage, candidate, claim) {
            Ok(found) => found,
            Err(text) => return Claims::Waiting(Plugin::VolumeBinding, text),
        };
        if found.bound {
            match storage.volumes.get(&found.volume) {
                Some(volume) if volume.nodes.is_none() && volume.zones.is_empty() => {}
                Some(volume) => needs.push(Need::Reach(volume)),
                None => needs.push(Need::Missing),
            }
            continue;
        }
        let class = storage.classes.get(&found.class).filter(|class| class.waits_for_pod);
        match class.filter(|_| found.volume.is_empty()) {
            Some(class) => needs.push(Need::Bind(key_of(candidate, claim), found, class)),
            None => unbound = true,
        }
    }
    if unbound {
        let text = "pod has unbound immediate PersistentVolumeClaims";
        return Claims::Waiting(Plugin::VolumeBinding, text.into());
    }
    if needs.is_empty() {
        Claims::Ready
    } else {
        Claims::Nodes(needs)
    }
}

/// Those of the pod's claims that one pod at a time may use.
pub fn exclusive(state: &State, candidate: &Candidate) -> Vec<String> {
    let Some(storage) = state.storage.as_ref().filter(|_| !candidate.claims.is_empty()) else {
        return Vec::new();
    };
    let alone = |claim: &&Claim| {
        find(storage, candidate, claim).is_some_and(|found| found.modes.iter().any(|mode| mode == ONE_POD))
    };
    candidate
        .claims
        .iter()
        .filter(alone)
        .map(|claim| claim.name.clone())
        .collect()
}

fn key_of(candidate: &Candidate, claim: &Claim) -> PodKey {
    (candidate.info.namespace.clone(), claim.name.clone())
}

fn find<'a>(storage: &'a Storage, candidate: &Candidate, claim: &Claim) -> Option<&'a ClaimState> {
    storage.claims.get(&key_of(candidate, claim))
}

fn usable<'a>(storage: &'a Storage, candidate: &Candidate, claim: &Claim) -> Result<&'a ClaimState, String> {
    let name = &claim.name;
    let Some(found) = find(storage, candidate, claim) else {
        return Err(format!(
            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
        ));
    };
    if found.lost {
        let volume = &found.volume;
        return Err(format!(
            "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
        ));
    }
    if found.deleting {
        return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    if claim.ephemeral && found.controller != candidate.info.uid {
        let (namespace, pod) = &candidate.info.key;
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
        ));
    }
    Ok(found)
}

/// What the claims say of one node.
pub fn check(state: &State, needs: &[Need<'_>], slot: Slot) -> Code {
    let node = &state.slots[slot as usize];
    let bound = needs.iter().find_map(|need| match need {
        Need::Missing => Some(Code::VolumeMissing),
        Need::Reach(volume) if !volume.reaches(&node.name, &node.labels) => Some(Code::VolumeElsewhere),
        _ => None,
    });
    match bound {
        Some(code) => code,
        None if steps(state, needs, slot).is_none() => Code::NoVolume,
        None if !zones_suit(needs, &node.labels) => Code::OtherZone,
        None => Code::Fits,
    }
}

fn zones_suit(needs: &[Need<'_>], labels: &Labels) -> bool {
    needs
        .iter()
        .all(|need| !matches!(need, Need::Reach(volume) if !volume.in_zone(labels)))
}

/// What has to be written for the claims that are not bound yet; `None` if they cannot be bound here.
fn steps(state: &State, needs: &[Need<'_>], slot: Slot) -> Option<Vec<Step>> {
    let storage = state.storage.as_ref()?;
    let node = &state.slots[slot as usize];
    let (mut taken, mut steps) = (BTreeSet::new(), Vec::new());
    for need in needs {
        let Need::Bind(key, claim, class) = need else { continue };
        if !claim.node.is_empty() {
            // Being made, for one node only.
            if claim.node != node.name {
                return None;
            }
            continue;
        }
        let suits = |(name, volume): &(&String, &VolumeState)| {
            !taken.contains(*name) && volume.suits(key, claim) && volume.reaches(&node.name, &node.labels)
        };
        // What is the claim's already comes first, then the smallest.
        let fitting = storage.volumes.iter().filter(suits);
        let best = fitting.min_by_key(|(name, volume)| (volume.claim.is_none(), volume.bytes, *name));
        match best {
            Some((name, volume)) => {
                taken.insert(name);
                if volume.claim.as_ref().is_none_or(|(_, uid)| uid.is_empty()) {
                    steps.push(Step::Give {
                        volume: name.clone(),
                        version: volume.version.clone(),
                        claim: key.clone(),
                        uid: claim.uid.clone(),
                    });
                }
            }
            None if class.provisions_on(&node.labels) => steps.push(Step::Provision { claim: key.clone() }),
            None => return None,
        }
    }
    Some(steps)
}

/// What is left to be written, and to be waited for, before the pod can go to the node; `None` if nothing is.
pub fn before_binding(state: &State, candidate: &Candidate, node: &str) -> Option<Vec<Step>> {
    let Claims::Nodes(needs) = claims(state, candidate) else {
        return None;
    };
    if !needs.iter().any(|need| matches!(need, Need::Bind(..))) {
        return None;
    }
    let slot = state.slot_of(node)?;
    Some(steps(state, &needs, slot).unwrap_or_default())
}

#[cfg(test)]
#[path = "volume_test.rs"]
mod tests;
