//! Where each server's API is, kept in the store, and which of them answer: the endpoints
//! of the `kubernetes` Service. The leader sees to those; nothing runs on a server that is alone.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skiff_store::{Leadership, Member, Op, RaftStore, Snapshot, Store, StoreError, Txn};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PREFIX: &str = "/skiff/servers/";

/// A server that said nothing for so long does not count as answering.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// How often it is said that this server waits for others.
const WAIT_SAID_EVERY: Duration = Duration::from_secs(5);

/// Between two questions whether the others are there; a question has patience of its own.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How often a server looks whether it hears of a leader.
const LOOK_FOR_LEADER: Duration = Duration::from_secs(5);

/// How often the leader of several looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What others know of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    /// Where its API is.
    pub api: SocketAddr,
    pub version: String,
}

fn key(id: u64) -> Bytes {
    Bytes::from(format!("{PREFIX}{id:016x}"))
}

/// All records, by the servers' numbers.
pub fn records(snapshot: &dyn Snapshot) -> BTreeMap<u64, Record> {
    let page = snapshot.range(PREFIX.as_bytes(), None, 0);
    let read = |entry: &skiff_store::Entry| {
        let digits = entry.key().strip_prefix(PREFIX.as_bytes())?;
        let id = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some((id, serde_json::from_slice(entry.body()).ok()?))
    };
    page.entries.iter().filter_map(read).collect()
}

/// Writes a server's record if it differs from what is there.
pub async fn write(store: &RaftStore, id: u64, record: &Record) -> Result<(), StoreError> {
    if records(&*store.snapshot_linearizable().await?).get(&id) == Some(record) {
        return Ok(());
    }
    let body = serde_json::to_vec(record).map_err(|e| StoreError::Internal(e.to_string()))?;
    let record = skiff_store::Record {
        body: body.into(),
        ..skiff_store::Record::default()
    };
    let put = Op::Put { key: key(id), record };
    let txn = Txn {
        then: vec![put],
        ..Txn::default()
    };
    store.txn(txn).await.map(drop)
}

/// Forgets a server that is not a member any more.
pub async fn forget(store: &RaftStore, id: u64) -> Result<(), StoreError> {
    let txn = Txn {
        then: vec![Op::Delete { key: key(id) }],
        ..Txn::default()
    };
    store.txn(txn).await.map(drop)
}

/// As the leader sees it: addresses of the servers that answer, itself included. One that it
/// did not hear of since it leads has the benefit of the doubt for as long as any other.
fn answering(
    me: u64,
    members: &[Member],
    records: &BTreeMap<u64, Record>,
    silence: &BTreeMap<u64, Option<Duration>>,
    leading_for: Duration,
) -> Vec<IpAddr> {
    let answers = |id: u64| {
        let silent_for = silence.get(&id).copied().flatten().unwrap_or(leading_for);
        id == me || silent_for < SILENCE_MAX
    };
    let mut found: Vec<IpAddr> = members
        .iter()
        .filter(|member| member.voter && answers(member.id))
        .filter_map(|member| Some(records.get(&member.id)?.api.ip()))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Whether this server leads, as it changes.
pub fn leads(store: &RaftStore, shutdown: &CancellationToken) -> watch::Receiver<bool> {
    let mut leader = store.follow_leader();
    let (sender, receiver) = watch::channel(leader.borrow_and_update().here);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = leader.changed() => if changed.is_err() { return },
            }
            let here = leader.borrow_and_update().here;
            sender.send_if_modified(|was| std::mem::replace(was, here) != here);
        }
    });
    receiver
}

/// A server among others can do nothing before a majority of them is there. `false`: it is
/// to stop before that.
pub async fn wait_for_majority(store: &RaftStore, shutdown: &CancellationToken) -> Result<bool> {
    let mut said = Instant::now();
    loop {
        let asked = tokio::select! {
            () = shutdown.cancelled() => return Ok(false),
            error = store.broken() => return Err(error).context("the store failed"),
            asked = store.snapshot_linearizable() => asked,
        };
        let error = match asked {
            Ok(_) => return Ok(true),
            Err(StoreError::Closed) => return Ok(false),
            Err(error) => error,
        };
        if said.elapsed() >= WAIT_SAID_EVERY {
            said = Instant::now();
            refuse_removed(store).await?;
            let voters: Vec<Member> = store.members().into_iter().filter(|m| m.voter).collect();
            let addresses: Vec<&str> = voters.iter().map(|m| m.address.as_str()).collect();
            tracing::warn!(
                %error,
                "waiting for the other servers: {} of {} must run, and reach each other at {}",
                voters.len() / 2 + 1,
                voters.len(),
                addresses.join(", ")
            );
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn refuse_removed(store: &RaftStore) -> Result<()> {
    if store.is_removed().await {
        bail!(
            "this server ({:x}) was removed from the cluster, which goes on without it: `skiff reset` removes what is left here; to join anew after that, start it with --join and --token (`skiff token create --server` on another server makes one)",
            store.id()
        );
    }
    Ok(())
}

/// Ends with the reason when the store can go on no more, or the other servers have taken
/// this one out.
pub async fn watch_over(store: Arc<RaftStore>, shutdown: CancellationToken) -> Result<()> {
    let mut group = store.follow_leader();
    loop {
        let alone = store.members().len() < 2;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            error = store.broken() => return Err(error.into()),
            Ok(()) = group.changed(), if alone => {}
            () = tokio::time::sleep(LOOK_FOR_LEADER), if !alone => {}
        }
        if store.members().len() > 1 && store.silent_for().await > LOOK_FOR_LEADER {
            refuse_removed(&store).await?;
        }
    }
}

/// Tells, as it changes, which other servers there are: their names and URLs.
pub async fn follow_others(
    store: Arc<RaftStore>,
    tell: impl Fn(&[(String, String)]) -> Result<()> + Send + 'static,
    shutdown: CancellationToken,
) {
    let mut told: Vec<(String, String)> = Vec::new();
    loop {
        let snapshot = store.snapshot();
        let others = records(&*snapshot).into_iter().filter(|(id, _)| *id != store.id());
        let others: Vec<(String, String)> = others
            .map(|(_, record)| (record.name, format!("https://{}", record.api)))
            .collect();
        if others != told {
            if let Err(error) = tell(&others) {
                tracing::warn!("cannot write the kubeconfig anew: {error:#}");
            }
            told = others;
        }
        let Ok(mut changes) = store.watch(Bytes::from_static(PREFIX.as_bytes()), snapshot.revision()) else {
            return;
        };
        drop(snapshot);
        let changed = async {
            while let Some(batch) = changes.next().await {
                if !batch.events.is_empty() {
                    break;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed => {}
        }
    }
}

pub struct Roster {
    pub store: Arc<RaftStore>,
    /// This server's own.
    pub record: Record,
    /// Told to the API server.
    pub answering: watch::Sender<Option<Vec<IpAddr>>>,
}

impl Roster {
    /// Looks after both until the end.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut leader = self.store.follow_leader();
        let mut written = false;
        let mut leading_since: Option<Instant> = None;
        loop {
            let Leadership { here, servers, .. } = *leader.borrow_and_update();
            let alone = servers < 2;
            leading_since = here.then(|| leading_since.unwrap_or_else(Instant::now));
            if !alone && !written {
                match write(&self.store, self.store.id(), &self.record).await {
                    Ok(()) => written = true,
                    Err(error) => tracing::debug!(%error, "could not write where this server is; trying again"),
                }
            }
            self.tell(alone, leading_since);
            let look_again = async {
                match !alone && (here || !written) {
                    true => tokio::time::sleep(LOOK_EVERY).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = leader.changed() => if changed.is_err() { return },
                () = look_again => {}
            }
        }
    }

    fn tell(&self, alone: bool, leading_since: Option<Instant>) {
        let told = match leading_since {
            _ if alone => Some(vec![self.record.api.ip()]),
            None => None,
            Some(since) => {
                let records = records(&*self.store.snapshot());
                let (members, silence) = (self.store.members(), self.store.silence());
                let found = answering(self.store.id(), &members, &records, &silence, since.elapsed());
                (!found.is_empty()).then_some(found)
            }
        };
        self.answering.send_if_modified(|was| {
            let differs = *was != told;
            *was = told;
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, voter: bool) -> Member {
        Member {
            id,
            address: format!("10.0.0.{id}:2380"),
            voter,
            leader: id == 1,
        }
    }

    #[test]
    fn those_answer_that_were_heard_of_lately() {
        let members = [
            member(1, true),
            member(2, true),
            member(3, true),
            member(4, false),
            member(5, true),
        ];
        let record = |id: u64| Record {
            name: format!("s{id}"),
            api: SocketAddr::from(([10, 0, 0, id as u8], 6443)),
            version: String::new(),
        };
        let records: BTreeMap<u64, Record> = (1..=4).map(|id| (id, record(id))).collect();
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(10));
        let told = |silence: &[(u64, Option<Duration>)], leading_for| {
            let silence = silence.iter().copied().collect();
            let found = answering(1, &members, &records, &silence, leading_for);
            found
                .iter()
                .map(|ip| ip.to_string().replace("10.0.0.", ""))
                .collect::<Vec<_>>()
                .join(" ")
        };
        // Server 4 only learns, and of 5 nobody knows yet where it is.
        assert_eq!(
            told(
                &[(2, Some(short)), (3, Some(short)), (4, Some(short)), (5, Some(short))],
                long
            ),
            "1 2 3"
        );
        assert_eq!(told(&[(2, Some(long)), (3, Some(short))], long), "1 3");
        assert_eq!(
            told(&[(2, None), (3, Some(short))], short),
            "1 2 3",
            "a new leader waits"
        );
        assert_eq!(told(&[(2, None), (3, Some(short))], long), "1 3");
    }
}
