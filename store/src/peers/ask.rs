//! What a follower asks of the leader, with what may come back.

use super::wire::{self, Question, Refusal, Reply, Route};
use super::{Peer, Transport, Unreachable};
use std::time::Duration;

pub(crate) type Ask = Question;

#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    /// Another server may know better, or this one later.
    Elsewhere,
    Unavailable(String),
    Failed(String),
}

/// Asks one server. Every kind of trouble is an answer.
pub(crate) async fn ask(transport: &dyn Transport, me: u64, peer: &Peer, question: &Ask, limit: Duration) -> Answer {
    let route = Route { to: peer.id, from: me };
    let call = transport.call(peer, wire::put_question(route, question));
    let answered = match tokio::time::timeout(limit, call).await {
        Ok(answered) => answered,
        Err(_) => Err(Unreachable::new(peer, "no answer in time")),
    };
    let read = answered.and_then(|bytes| wire::read_reply(bytes).map_err(|e| Unreachable::new(peer, e)));
    match read {
        Ok(Reply::Refused(Refusal::NotLeader(_))) => Answer::Elsewhere,
        Ok(Reply::Refused(Refusal::Unavailable(why))) => Answer::Unavailable(why),
        Ok(Reply::Refused(Refusal::Failed(why))) => Answer::Failed(why),
        Ok(reply) => Answer::Reply(reply),
        Err(error) => Answer::Unavailable(error.to_string()),
    }
}
