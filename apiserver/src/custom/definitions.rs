//! Keeps the catalog to what the definitions say: accepts or refuses their names,
//! writes their conditions, makes and drops kinds.
//!
//! Every server of a cluster does so; what they write is the same, and by compare.

use super::remove;
use crate::registry::{Catalog, built_in, prefix_of};
use crate::respond;
use crate::server::ApiServer;
use serde_json::Value;
use skiff_api::ApiError;
use skiff_custom::definition::{self, Approval, Condition, Names};
use skiff_kinds::Kind;
use skiff_kinds::custom::kind_of;
use skiff_store::{Entry, Revision, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// After a failure of the store the definitions are read again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// A definition as it was looked at last.
struct Known {
    revision: Revision,
    group: String,
    /// The part of it that says which names it has.
    accepted: Value,
    /// It waits for a name that another one has.
    waiting: bool,
    kind: Option<Arc<Kind>>,
    /// Changes when what is served changes.
    shape: u64,
    removing: bool,
}

/// A status that is to be written once what it says is true.
struct Unwritten {
    name: String,
    before: Value,
    status: Value,
}

#[derive(Default)]
pub(super) struct Definitions {
    known: BTreeMap<String, Known>,
    unwritten: Vec<Unwritten>,
}

impl ApiServer {
    /// Serves the definitions that are stored, then keeps to what becomes of them.
    pub(crate) async fn start_definitions(self: &Arc<Self>) -> Result<(), ApiError> {
        let kind = built_in(definition_group(), "customresourcedefinitions")?;
        let mut definitions = Definitions::default();
        let revision = definitions.read_all(self, kind).await?;
        tokio::spawn(run(Arc::downgrade(self), definitions, revision));
        Ok(())
    }
}

fn definition_group() -> &'static str {
    "apiextensions.k8s.io"
}

async fn run(weak: Weak<ApiServer>, mut definitions: Definitions, mut seen: Revision) {
    let Ok(kind) = built_in(definition_group(), "customresourcedefinitions") else {
        return;
    };
    let mut source: Option<Box<dyn Watch>> = None;
    loop {
        let Some(server) = Weak::upgrade(&weak) else { return };
        let closing = server.closing.clone();
        let mut watch = match source
            .take()
            .map_or_else(|| server.store.watch(prefix_of(kind, ""), seen), Ok)
        {
            Ok(watch) => watch,
            Err(_) => {
                // Compacted, or the store is in trouble: all is read again.
                tokio::time::sleep(STORE_RETRY).await;
                if let Ok(revision) = definitions.read_all(&server, kind).await {
                    seen = revision;
                }
                continue;
            }
        };
        // A server that nobody uses any more is not kept alive by its definitions.
        drop(server);
        let batch = tokio::select! {
            () = closing.cancelled() => return,
            batch = watch.next() => batch,
        };
        let Some(server) = Weak::upgrade(&weak) else { return };
        let Some(batch) = batch else { continue };
        seen = seen.max(batch.revision);
        source = Some(watch);
        let mut changed = false;
        for event in &batch.events {
            let outcome = match &event.entry {
                Some(entry) => definitions.look(&server, kind, entry).await,
                None => Ok(definitions.gone(&name_of(event.key()))),
            };
            match outcome {
                Ok(now) => changed |= now,
                Err(error) => tracing::warn!(%error, "a definition could not be looked after; its next change is seen"),
            }
        }
        changed |= definitions.retry_waiting(&server, kind).await;
        if changed {
            definitions.serve(&server);
        }
        definitions.write(&server, kind).await;
    }
}

fn name_of(key: &[u8]) -> String {
    let text = std::str::from_utf8(key).unwrap_or("");
    text.rsplit('/').next().unwrap_or("").to_string()
}

impl Definitions {
    async fn read_all(&mut self, server: &Arc<ApiServer>, kind: &'static Kind) -> Result<Revision, ApiError> {
        let snapshot = server
            .store
            .snapshot_linearizable()
            .await
            .map_err(respond::store_error)?;
        let entries = snapshot.range(&prefix_of(kind, ""), None, 0).entries;
        let there: BTreeSet<String> = entries.iter().map(|e| name_of(e.key())).collect();
        self.known.retain(|name, _| there.contains(name));
        for entry in &entries {
            self.look(server, kind, entry).await?;
        }
        self.serve(server);
        self.write(server, kind).await;
        Ok(snapshot.revision())
    }

    /// Writes what is to be said. A definition that was changed meanwhile is looked at
    /// again anyway.
    async fn write(&mut self, server: &ApiServer, table: &Kind) {
        for Unwritten { name, before, status } in std::mem::take(&mut self.unwritten) {
            let same = |stored: &Value| {
                stored["spec"] == before["spec"]
                    && stored["metadata"]["uid"] == before["metadata"]["uid"]
                    && stored["status"] == before["status"]
            };
            let written = server
                .rewrite_kept(table, "", &name, |stored| {
                    same(stored).then(|| {
                        let mut stored = stored.clone();
                        stored["status"] = status.clone();
                        stored
                    })
                })
                .await;
            if let Err(error) = written {
                tracing::warn!(%error, name, "the status of a definition could not be written; its next change is seen");
            }
        }
    }

    /// Puts what is served into the catalog.
    fn serve(&self, server: &ApiServer) {
        let kinds: Vec<Arc<Kind>> = self.known.values().filter_map(|k| k.kind.clone()).collect();
        server.set_catalog(Catalog::new(skiff_kinds::kinds(), &kinds));
        server.customs.replace(&kinds);
    }

    fn gone(&mut self, name: &str) -> bool {
        self.known.remove(name).is_some_and(|known| known.kind.is_some())
    }

    /// Looks at a definition; answers whether what is served changed.
    async fn look(&mut self, server: &Arc<ApiServer>, table: &'static Kind, entry: &Entry) -> Result<bool, ApiError> {
        let name = name_of(entry.key());
        if self
            .known
            .get(&name)
            .is_some_and(|k| k.revision >= entry.mod_revision())
        {
            return Ok(false);
        }
        let mut definition = crate::registry::decode(entry, entry.mod_revision())?;
        let group = definition["spec"]["group"].as_str().unwrap_or_default().to_string();
        let mut others = Names::default();
        for (_, known) in self
            .known
            .iter()
            .filter(|(other, k)| **other != name && k.group == group)
        {
            others.add(&known.accepted);
        }
        let before = definition.clone();
        let waiting = settle(&mut definition, &others, &respond::now_text());
        let removing = definition["metadata"]["deletionTimestamp"].is_string();
        if definition["status"] != before["status"] {
            self.unwritten.push(Unwritten {
                name: name.clone(),
                status: definition["status"].clone(),
                before,
            });
        }
        let served = definition::is_true(&definition, "Established");
        let shape = shape_of(&definition);
        let known = self.known.remove(&name);
        let (old_kind, old_shape, was_removing) = match known {
            Some(known) => (known.kind, known.shape, known.removing),
            None => (None, 0, false),
        };
        let had = old_kind.is_some();
        let kind = match old_kind {
            Some(kind) if served && shape == old_shape => Some(kind),
            _ if served => {
                let source = Arc::new(Bytes(entry.body_bytes()));
                Some(Arc::new(kind_of(&definition, source, entry.mod_revision())))
            }
            _ => None,
        };
        let changed = had != kind.is_some() || shape != old_shape;
        if let Some(kind) = kind.clone().filter(|_| removing && !was_removing) {
            remove::start(server, table, kind, name.clone());
        } else if removing && !was_removing {
            remove::finish(server, table, &name).await?;
        }
        self.known.insert(
            name,
            Known {
                revision: entry.mod_revision(),
                group,
                accepted: serde_json::json!({"status": {"acceptedNames": definition["status"]["acceptedNames"]}}),
                waiting,
                kind,
                shape,
                removing,
            },
        );
        Ok(changed)
    }

    /// Definitions that wait for names get them when the others have gone.
    async fn retry_waiting(&mut self, server: &Arc<ApiServer>, table: &'static Kind) -> bool {
        let waiting: Vec<String> = self
            .known
            .iter()
            .filter(|(_, k)| k.waiting)
            .map(|(name, _)| name.clone())
            .collect();
        let mut changed = false;
        for name in waiting {
            let Some(entry) = server.store.snapshot().get(&crate::registry::key_of(table, "", &name)) else {
                continue;
            };
            if let Some(known) = self.known.get_mut(&name) {
                known.revision = 0;
            }
            changed |= self.look(server, table, &entry).await.unwrap_or(false);
        }
        changed
    }
}

/// The store's bytes as a definition's source.
struct Bytes(bytes::Bytes);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Sets names and conditions; answers whether names are missing still.
fn settle(definition: &mut Value, others: &Names, now: &str) -> bool {
    let (names, accepted) = definition::accept(definition, others);
    let waiting = !accepted.status;
    definition["status"]["acceptedNames"] = names;
    definition::set_condition(definition, &accepted, now);
    if !definition::is_true(definition, "Established") {
        let established = if accepted.status {
            let message = "the initial names have been accepted";
            Condition::new("Established", true, "InitialNamesAccepted", message)
        } else {
            Condition::new("Established", false, "NotAccepted", "not all names are accepted")
        };
        definition::set_condition(definition, &established, now);
    }
    match definition::non_structural(definition) {
        Some(condition) => drop(definition::set_condition(definition, &condition, now)),
        None => drop_condition(definition, "NonStructuralSchema"),
    }
    match definition::approval(definition) {
        Some(approval) => {
            const KIND: &str = "KubernetesAPIApprovalPolicyConformant";
            let condition = match approval {
                Approval::Approved(why) => Condition::new(KIND, true, "ApprovedAnnotation", why),
                Approval::Bypassed(why) => Condition::new(KIND, false, "UnapprovedAnnotation", why),
                Approval::Missing(why) => Condition::new(KIND, false, "MissingAnnotation", why),
                Approval::Invalid(why) => Condition::new(KIND, false, "InvalidAnnotation", why),
            };
            definition::set_condition(definition, &condition, now);
        }
        None => drop_condition(definition, "KubernetesAPIApprovalPolicyConformant"),
    }
    waiting
}

fn drop_condition(definition: &mut Value, kind: &str) {
    if let Some(conditions) = definition["status"]["conditions"].as_array_mut() {
        conditions.retain(|c| c["type"] != kind);
    }
}

/// What a kind is made of, as a number: conditions come and go without touching it.
fn shape_of(definition: &Value) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    definition["spec"].to_string().hash(&mut hasher);
    definition["status"]["acceptedNames"].to_string().hash(&mut hasher);
    definition["metadata"]["deletionTimestamp"]
        .is_string()
        .hash(&mut hasher);
    definition["metadata"]["uid"].as_str().hash(&mut hasher);
    hasher.finish()
}
