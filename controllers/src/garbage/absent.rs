//! Owners that the server said are not there, so that a thousand dependents of one do not ask for it each.
//! A uid never comes back, so what is noted stays true.

use std::collections::VecDeque;
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::discovery::Kind;

/// Owners remembered; upstream's number.
const REMEMBERED_MAX: usize = 500;

/// Group, kind, namespace, name and uid: the reference may be wrong in any of them.
type Identity = [String; 5];

#[derive(Default)]
pub struct Absent(Mutex<VecDeque<Identity>>);

fn identity(kind: &Kind, namespace: &str, owner: &OwnerReference) -> Identity {
    let namespace = if kind.namespaced { namespace } else { "" };
    [
        &kind.resource.group,
        &kind.resource.kind,
        namespace,
        &owner.name,
        &owner.uid,
    ]
    .map(|part: &str| part.to_string())
}

impl Absent {
    fn known(&self) -> std::sync::MutexGuard<'_, VecDeque<Identity>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn has(&self, kind: &Kind, namespace: &str, owner: &OwnerReference) -> bool {
        let wanted = identity(kind, namespace, owner);
        self.known().iter().any(|known| *known == wanted)
    }

    pub fn note(&self, kind: &Kind, namespace: &str, owner: &OwnerReference) {
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.pop_back();
        }
        known.push_front(identity(kind, namespace, owner));
    }
}
