//! Who is in the group. One server at a time joins (first it learns, then it votes) or
//! leaves; the leader sees to it, wherever it was asked.

use super::leader::refusal;
use super::{Leadership, RaftStore};
use crate::contract::StoreError;
use crate::peers::Peer;
use crate::peers::wire::{Question, Refusal, Reply};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, ChangeMembers, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// How long a change may take; a new server may need a snapshot first.
const CHANGE_MAX: Duration = Duration::from_secs(120);

/// How long another server may take to say what it knows.
const ASK_MAX: Duration = Duration::from_secs(2);

/// How long a server that stops waits for another to lead.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// A server of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    pub address: String,
    /// It has a vote; one that has not is catching up.
    pub voter: bool,
    pub leader: bool,
}

impl RaftStore {
    /// All servers, as far as is known here.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        membership
            .nodes()
            .map(|(id, node)| Member {
                id: *id,
                address: node.addr.clone(),
                voter: voters.contains(id),
                leader: metrics.current_leader == Some(*id),
            })
            .collect()
    }

    /// As the leader: the other servers, and how long ago each was heard of.
    pub fn silence(&self) -> BTreeMap<u64, Option<Duration>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.iter().flatten();
        heard
            .filter(|(id, _)| **id != metrics.id)
            .map(|(id, at)| (*id, at.map(|at| at.elapsed())))
            .collect()
    }

    /// Who leads and how many there are, as it changes.
    pub fn follow_leader(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    pub(super) fn peer(&self, id: u64) -> Option<Peer> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let node = metrics.membership_config.membership().get_node(&id)?;
        let address = node.addr.clone();
        Some(Peer { id, address })
    }

    /// Takes what Raft says of itself: who leads, and whether there is anybody else. The
    /// timers run only while there is.
    pub(super) fn follow_metrics(&self) {
        let (now, alone) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let nodes = || metrics.membership_config.membership().nodes();
            let (others, servers) = (nodes().any(|(id, _)| *id != metrics.id), nodes().count());
            let leader = metrics.current_leader;
            let here = leader == Some(metrics.id);
            (Leadership { leader, here, servers }, servers > 0 && !others)
        };
        if self.alone.swap(alone, Ordering::AcqRel) != alone || !alone {
            let timers = self.raft.runtime_config();
            timers.tick(!alone);
            timers.heartbeat(!alone);
            timers.elect(!alone && self.stands.load(Ordering::Acquire));
        }
        self.leadership.send_if_modified(|was| {
            let gained = now.here && !was.here;
            if gained {
                let leases = self.applied.current();
                self.lessor.reset(leases.leases().iter(), crate::host::now());
            }
            std::mem::replace(was, now) != now
        });
    }

    /// How long ago a leader was heard of; as the leader, zero.
    pub async fn silent_for(&self) -> Duration {
        if self.leads() || self.alone.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let heard = self.raft.with_raft_state(|state| state.vote_last_modified());
        match tokio::time::timeout(ASK_MAX, heard).await {
            Ok(Ok(Some(at))) => at.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Whether the others have taken this server out of the group, as far as they can be asked.
    pub async fn is_removed(&self) -> bool {
        let me = self.id();
        let others = self.members().into_iter().filter(|m| m.id != me);
        let asked = others.map(|member| async move {
            let peer = Peer {
                id: member.id,
                address: member.address,
            };
            self.ask_now(&peer, &Question::Member(me), ASK_MAX).await
        });
        let replies = futures::future::join_all(asked).await;
        replies.iter().any(|reply| matches!(reply, Reply::Member(false)))
    }

    /// Answers whether a server is one of the group, as of now.
    pub(super) async fn say_member(&self, id: u64) -> Result<Reply, Refusal> {
        let unavailable = |e: &dyn std::fmt::Display| Refusal::Unavailable(e.to_string());
        self.wait_for_read_index().await.map_err(|e| unavailable(&e))?;
        // A change that is not agreed on yet counts for those who come, not against those who go.
        let known = self.raft.with_raft_state(move |state| {
            let (committed, effective) = (state.membership_state.committed(), state.membership_state.effective());
            [committed, effective]
                .iter()
                .any(|m| m.membership().get_node(&id).is_some())
        });
        known.await.map(Reply::Member).map_err(|e| unavailable(&e))
    }

    /// Makes a server part of the group: it learns what there is, then it votes. Doing it
    /// again does no harm; with another address, the server is looked for there from now on.
    pub async fn add_member(&self, id: u64, address: &str) -> Result<(), StoreError> {
        for voter in [false, true] {
            let address = address.to_owned();
            let question = Question::AddMember { id, address, voter };
            self.ask_leader(question, CHANGE_MAX).await?;
        }
        Ok(())
    }

    /// Takes a server out of the group. The last one stays.
    pub async fn remove_member(&self, id: u64) -> Result<(), StoreError> {
        self.ask_leader(Question::RemoveMember(id), CHANGE_MAX)
            .await
            .map(|_| ())
    }

    pub(super) async fn add_here(&self, id: u64, address: String, voter: bool) -> Result<(), Refusal> {
        let known = self.members();
        if let Some(taken) = known.iter().find(|m| m.address == address && m.id != id) {
            return Err(Refusal::Failed(format!(
                "server {} has the address {address} already: remove it first",
                taken.id
            )));
        }
        match known.iter().find(|m| m.id == id) {
            // It moved: whoever has this number is who it was.
            Some(member) if member.address != address => {
                let nodes = BTreeMap::from([(id, BasicNode::new(&address))]);
                self.change(ChangeMembers::SetNodes(nodes)).await?;
                if member.voter || !voter {
                    return Ok(());
                }
            }
            Some(member) if member.voter || !voter => return Ok(()),
            _ => {}
        }
        let nodes = BTreeMap::from([(id, BasicNode::new(address))]);
        self.change(match voter {
            false => ChangeMembers::AddNodes(nodes),
            true => ChangeMembers::AddVoters(nodes),
        })
        .await
    }

    pub(super) async fn remove_here(&self, id: u64) -> Result<(), Refusal> {
        let members = self.members();
        let Some(member) = members.iter().find(|m| m.id == id) else {
            return Ok(());
        };
        if member.voter && members.iter().filter(|m| m.voter).count() == 1 {
            return Err(Refusal::Failed(format!(
                "server {id} is the only one that votes: add another first"
            )));
        }
        // A voter that is no voter any more is gone altogether.
        let ids = BTreeSet::from([id]);
        self.change(match member.voter {
            true => ChangeMembers::RemoveVoters(ids),
            false => ChangeMembers::RemoveNodes(ids),
        })
        .await
    }

    /// One change after the other. A leader that took itself out leads on until another is
    /// elected, but openraft does not bear that it changes the group once more.
    async fn change(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), Refusal> {
        let changed = async {
            let _turn = self.changing.lock().await;
            let me = self.id();
            let votes = self
                .raft
                .with_raft_state(move |state| state.membership_state.effective().voter_ids().any(|id| id == me));
            match votes.await {
                Ok(true) => {}
                Ok(false) => return Err(Refusal::NotLeader(None)),
                Err(error) => return Err(Refusal::Unavailable(error.to_string())),
            }
            let ChangeMembers::AddNodes(nodes) = change else {
                let changed = self.raft.change_membership(change, false).await;
                return changed.map(|_| ()).map_err(refusal);
            };
            for (id, node) in nodes {
                self.raft.add_learner(id, node, true).await.map_err(refusal)?;
            }
            Ok(())
        };
        let late = || Refusal::Unavailable("the servers did not agree in time".into());
        tokio::time::timeout(CHANGE_MAX, changed)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// Lets another server lead, if there is one, because this one stops or has no space;
    /// then only one that has.
    pub(super) async fn hand_over(&self, for_room: bool) {
        if self.alone.load(Ordering::Acquire) || !self.leads() {
            return;
        }
        let others: Vec<u64> = self
            .members()
            .iter()
            .filter(|m| m.voter && !m.leader)
            .map(|m| m.id)
            .collect();
        let others = match for_room {
            true => self.with_room(others).await,
            false => others,
        };
        // Whoever has most of the log has the least to wait for.
        let next = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let reached = |id: &u64| metrics.replication.as_ref().and_then(|r| r.get(id).copied().flatten());
            others.into_iter().max_by_key(reached)
        };
        let Some(next) = next else { return };
        if let Err(error) = self.move_leader(next).await {
            tracing::warn!(%error, next, "could not hand over to another server; the others will elect one");
        }
    }

    /// Lets another server lead, if this one does.
    pub async fn move_leader(&self, next: u64) -> Result<(), StoreError> {
        let me = self.id();
        if next == me {
            return Ok(());
        }
        let told = self.raft.trigger().transfer_leader(next).await;
        told.map_err(|e| StoreError::Unavailable(e.to_string()))?;
        let wait = self.raft.wait(Some(HAND_OVER_MAX));
        let another = |leader: Option<u64>| leader.is_some_and(|leader| leader != me);
        let led = wait.metrics(|m| another(m.current_leader), "another leads").await;
        led.map(|_| ()).map_err(|e| StoreError::Unavailable(e.to_string()))
    }
}
