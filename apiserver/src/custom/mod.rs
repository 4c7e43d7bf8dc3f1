//! Custom resources: definitions become kinds that are served, and objects are had in
//! the version that is asked for.
//!
//! ```text
//! definitions' watch ─> settle (names, conditions) ─> Kind ─> catalog
//!                   └─> remove (instances, then the finalizer)
//! request ─> convert (here, or by webhook) ─> handler ─> convert ─> store
//! ```
//!
//! A row of the catalog holds its definition's stored bytes; nothing here is
//! proportional to the number of definitions but the catalog itself.

mod convert;
mod definitions;
mod remove;

pub(crate) use remove::mark;

use skiff_kinds::Kind;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// The custom kinds that are served, and what ends when they do.
#[derive(Default)]
pub(crate) struct Customs {
    served: Mutex<HashMap<(&'static str, &'static str), (Arc<Kind>, CancellationToken)>>,
    pub(crate) webhooks: crate::webhook::WebhookClient,
}

impl Customs {
    /// Cancelled when the kind goes or changes: watches of it end then, and their
    /// clients come again. Built-in kinds never do.
    pub fn ended(&self, kind: &Kind) -> CancellationToken {
        if kind.custom.is_none() {
            return CancellationToken::new();
        }
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        match served.get(&(kind.group, kind.plural)) {
            Some((known, token)) if std::ptr::eq(&**known, kind) => token.clone(),
            // It went while the request was on its way.
            _ => {
                let gone = CancellationToken::new();
                gone.cancel();
                gone
            }
        }
    }

    /// These are served from now on.
    fn replace(&self, kinds: &[Arc<Kind>]) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *served);
        for kind in kinds {
            let key = (kind.group, kind.plural);
            let entry = match before.remove(&key) {
                Some((known, token)) if Arc::ptr_eq(&known, kind) => (known, token),
                Some((_, token)) => {
                    token.cancel();
                    (kind.clone(), CancellationToken::new())
                }
                None => (kind.clone(), CancellationToken::new()),
            };
            served.insert(key, entry);
        }
        for (_, token) in before.into_values() {
            token.cancel();
        }
    }
}
