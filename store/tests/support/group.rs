//! A group of real stores, each with its own directory, joined by links in memory that
//! can be cut, and that can lose the answers to questions.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use skiff_store::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For what a group does in a moment, unless the machine is very busy.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Links {
    services: BTreeMap<u64, PeerService>,
    /// Servers that neither hear nor are heard.
    cut: BTreeSet<u64>,
    /// Answers of calls that are lost from here on.
    lose_answers: usize,
    snapshots: usize,
}

#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<Links>>, Arc<tokio::sync::Notify>);

impl Network {
    fn links(&self) -> MutexGuard<'_, Links> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn cut(&self, id: u64) {
        let mut links = self.links();
        links.cut.insert(id);
        self.1.notify_waiters();
    }

    pub fn mend(&self, id: u64) {
        self.links().cut.remove(&id);
    }

    pub fn lose_answers(&self, count: usize) {
        self.links().lose_answers = count;
    }

    /// Snapshots that were begun to be sent.
    pub fn snapshots(&self) -> usize {
        self.links().snapshots
    }

    fn service(&self, from: u64, to: &Peer) -> Result<PeerService, Unreachable> {
        let links = self.links();
        if links.cut.contains(&from) || links.cut.contains(&to.id) {
            return Err(Unreachable::new(to, "the link is cut"));
        }
        links
            .services
            .get(&to.id)
            .cloned()
            .ok_or_else(|| Unreachable::new(to, "it does not run"))
    }
}

pub struct Link {
    network: Network,
    from: u64,
}

#[async_trait::async_trait]
impl Transport for Link {
    async fn call(&self, peer: &Peer, question: Bytes) -> Result<Bytes, Unreachable> {
        let answer = self.network.service(self.from, peer)?.answer(question).await;
        self.network.service(self.from, peer)?;
        let mut links = self.network.links();
        if links.lose_answers > 0 {
            links.lose_answers -= 1;
            return Err(Unreachable::new(peer, "the answer was lost"));
        }
        Ok(answer)
    }

    async fn stream(
        &self,
        peer: &Peer,
        lane: Lane,
        messages: BoxStream<'static, Bytes>,
    ) -> Result<Answers, Unreachable> {
        let service = self.network.service(self.from, peer)?;
        self.network.links().snapshots += usize::from(lane == Lane::Snapshot);
        let answers = service.stream(lane, messages);
        let (network, from, peer) = (self.network.clone(), self.from, peer.clone());
        let cut = async move {
            loop {
                let changed = network.1.notified();
                if network.service(from, &peer).is_err() {
                    return;
                }
                changed.await;
            }
        };
        Ok(answers.map(Ok).take_until(Box::pin(cut)).boxed())
    }
}

pub struct Group {
    pub network: Network,
    pub stores: BTreeMap<u64, Arc<RaftStore>>,
    dir: tempfile::TempDir,
}

impl Group {
    /// The first server, alone.
    pub async fn of_one() -> Group {
        let mut group = Group {
            network: Network::default(),
            stores: BTreeMap::new(),
            dir: tempfile::tempdir().expect("directory"),
        };
        group.start(1, false).await;
        group
    }

    pub async fn of(servers: u64) -> Group {
        let mut group = Group::of_one().await;
        for id in 2..=servers {
            group.join(id).await;
        }
        group
    }

    pub fn dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("server-{id}"))
    }

    /// What a server that is no newcomer is started with.
    pub fn config(&self, id: u64) -> StoreConfig {
        StoreConfig {
            node_id: id,
            address: format!("server-{id}"),
            transport: Arc::new(Link {
                network: self.network.clone(),
                from: id,
            }),
            ..StoreConfig::new(self.dir(id))
        }
    }

    pub async fn start(&mut self, id: u64, join: bool) -> Arc<RaftStore> {
        let config = StoreConfig {
            join,
            ..self.config(id)
        };
        self.start_with(config).await
    }

    pub async fn start_with(&mut self, config: StoreConfig) -> Arc<RaftStore> {
        let id = config.node_id;
        let store = RaftStore::open(config).await.expect("opened");
        self.network
            .links()
            .services
            .insert(id, PeerService::new(store.clone()));
        self.stores.insert(id, store.clone());
        store
    }

    /// Starts a new server and makes it part of the group.
    pub async fn join(&mut self, id: u64) {
        self.start(id, true).await;
        let first = self.stores.values().next().expect("a server").clone();
        first.add_member(id, &format!("server-{id}")).await.expect("joined");
    }

    pub async fn stop(&mut self, id: u64) {
        let store = self.stores.remove(&id).expect("it runs");
        store.shutdown().await;
        self.network.links().services.remove(&id);
        drop(store);
    }

    pub fn store(&self, id: u64) -> &Arc<RaftStore> {
        &self.stores[&id]
    }

    /// Waits until one leads that is none of `but`, by the word of all that can be heard.
    pub async fn leader(&self, but: &[u64]) -> u64 {
        let found = async {
            loop {
                let cut = self.network.links().cut.clone();
                let mut said: Vec<Option<u64>> = self
                    .stores
                    .iter()
                    .filter(|(id, _)| !cut.contains(id))
                    .map(|(_, store)| store.leader())
                    .collect();
                said.dedup();
                if let [Some(leader)] = said[..]
                    && !but.contains(&leader)
                    && !cut.contains(&leader)
                {
                    return leader;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, found).await.expect("somebody leads")
    }

    /// Waits until all servers that run have the same state, and returns its revision.
    pub async fn agree(&self) -> Revision {
        let agreed = async {
            loop {
                // Of the present alone: all the past of a busy store takes long to look at.
                let present = self.stores.values().map(|store| store.snapshot());
                let states: Vec<_> = present
                    .map(|state| (state.revision(), state.range(b"", None, 0).entries))
                    .collect();
                if states.windows(2).all(|w| w[0] == w[1]) {
                    return states.first().map_or(0, |state| state.0);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let Ok(revision) = tokio::time::timeout(LIMIT, agreed).await else {
            let told = self
                .stores
                .iter()
                .map(|(id, store)| (id, store.leader(), store.snapshot().revision()));
            panic!(
                "they do not agree (server, whom it takes for leader, revision): {:?}",
                told.collect::<Vec<_>>()
            );
        };
        revision
    }
}
