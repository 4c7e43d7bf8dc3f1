//! The webhooks and policies that are configured, read once per change. Whether
//! anything has changed is asked of the request's own snapshot, so that a
//! configuration takes effect with the write after it; where there are none, a
//! write pays for that question alone.

use crate::registry::StoreObjects;
use crate::webhook::{Webhook, WebhookClient};
use arc_swap::ArcSwap;
use skiff_access::Objects;
use skiff_admission::{Hook, Mutations, Policy, Validations, hooks, mutating_policies, validating_policies};
use std::ops::Deref;
use std::sync::Arc;

/// Everything that configures admission lies below here.
const CONFIGURATIONS: &[u8] = b"/registry/admissionregistration.k8s.io/";
pub(super) const GROUP: &str = "admissionregistration.k8s.io";

/// A webhook and the way to it.
pub(super) struct Called {
    pub hook: Hook,
    /// `Err`: why its configuration leads nowhere.
    pub target: Result<Webhook, String>,
}

/// What is configured at one revision.
#[derive(Default)]
pub(super) struct Configured {
    revision: u64,
    pub mutating: Part<Called>,
    pub validating: Part<Called>,
    pub policies: Part<Policy<Validations>>,
    pub mutations: Part<Policy<Mutations>>,
}

/// One kind of configuration, compiled; and the last change that is in it.
pub(super) struct Part<T> {
    revision: u64,
    items: Arc<Vec<T>>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self {
            revision: 0,
            items: Arc::default(),
        }
    }
}

impl<T> Deref for Part<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> Part<T> {
    /// What the resources say; as it was, where none of them has changed.
    fn read(&self, resources: &[&str], objects: &StoreObjects<'_>, read: impl FnOnce() -> Vec<T>) -> Self {
        let changes = resources.iter().map(|resource| objects.generation(GROUP, resource));
        let revision = changes.max().unwrap_or(0);
        Self {
            revision,
            items: if revision == self.revision {
                self.items.clone()
            } else {
                Arc::new(read())
            },
        }
    }
}

impl Configured {
    fn read(&self, revision: u64, objects: &StoreObjects<'_>) -> Self {
        let list = |resource: &str| objects.list(GROUP, resource, "");
        let called = |part: &Part<Called>, resource: &str| {
            part.read(&[resource], objects, || {
                let called = hooks(&list(resource)).into_iter().map(|hook| Called {
                    target: Webhook::of(&hook.client),
                    hook,
                });
                called.collect()
            })
        };
        let validating = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
        let mutating = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
        Self {
            revision,
            mutating: called(&self.mutating, "mutatingwebhookconfigurations"),
            validating: called(&self.validating, "validatingwebhookconfigurations"),
            policies: self.policies.read(&validating, objects, || {
                validating_policies(&list(validating[0]), &list(validating[1]))
            }),
            mutations: self.mutations.read(&mutating, objects, || {
                mutating_policies(&list(mutating[0]), &list(mutating[1]))
            }),
        }
    }

    pub fn mutates(&self) -> bool {
        !self.mutating.is_empty() || !self.mutations.is_empty()
    }

    pub fn validates(&self) -> bool {
        !self.validating.is_empty() || !self.policies.is_empty()
    }
}

/// What the server keeps for admission between requests.
#[derive(Default)]
pub(crate) struct Dynamic {
    configured: ArcSwap<Configured>,
    pub(crate) client: WebhookClient,
}

impl Dynamic {
    /// What is configured as this request sees it.
    pub(super) fn configured(&self, objects: &StoreObjects<'_>) -> Arc<Configured> {
        let revision = objects.snapshot.last_change(CONFIGURATIONS);
        let kept = self.configured.load_full();
        if kept.revision == revision {
            return kept;
        }
        let read = Arc::new(kept.read(revision, objects));
        // A request with an older view does not take the newer one away from others.
        if read.revision > kept.revision {
            self.configured.store(read.clone());
        }
        read
    }
}
