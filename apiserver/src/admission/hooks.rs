//! The webhooks and policies that are configured, read once per change. Whether
//! anything has changed is asked of the request's own snapshot, so that a
//! configuration takes effect with the write after it; where there are none, a
//! write pays for that question alone.

use crate::registry::StoreObjects;
use crate::webhook::{Webhook, WebhookClient};
use arc_swap::ArcSwap;
use skiff_access::Objects;
use skiff_admission::{Hook, Mutations, Policy, Validations, hooks, mutating_policies, validating_policies};
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
    pub mutating: Vec<Called>,
    pub validating: Vec<Called>,
    pub policies: Vec<Policy<Validations>>,
    pub mutations: Vec<Policy<Mutations>>,
}

impl Configured {
    fn read(revision: u64, objects: &StoreObjects<'_>) -> Self {
        let called = |resource: &str| {
            let configurations = objects.list(GROUP, resource, "");
            let called = hooks(&configurations).into_iter().map(|hook| Called {
                target: Webhook::of(&hook.client),
                hook,
            });
            called.collect()
        };
        Self {
            revision,
            mutating: called("mutatingwebhookconfigurations"),
            validating: called("validatingwebhookconfigurations"),
            mutations: mutating_policies(
                &objects.list(GROUP, "mutatingadmissionpolicies", ""),
                &objects.list(GROUP, "mutatingadmissionpolicybindings", ""),
            ),
            policies: validating_policies(
                &objects.list(GROUP, "validatingadmissionpolicies", ""),
                &objects.list(GROUP, "validatingadmissionpolicybindings", ""),
            ),
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
        let read = Arc::new(Configured::read(revision, objects));
        // A request with an older view does not take the newer one away from others.
        if read.revision > kept.revision {
            self.configured.store(read.clone());
        }
        read
    }
}
