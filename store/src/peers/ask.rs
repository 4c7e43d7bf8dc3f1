//! One question to one server.

use super::wire::{self, Question, Refusal, Reply, Route};
use super::{Peer, Transport, Unreachable};
use std::time::Duration;

/// `me` is the asking server and its group. Whatever goes wrong on the way is a refusal for now.
pub(crate) async fn ask(
    transport: &dyn Transport,
    me: (u64, u64),
    peer: &Peer,
    question: &Question,
    limit: Duration,
) -> Reply {
    let (from, group) = me;
    let to = peer.id;
    let route = Route { to, from, group };
    let call = transport.call(peer, wire::put_question(route, question));
    let answered = match tokio::time::timeout(limit, call).await {
        Ok(answered) => answered,
        Err(_) => Err(Unreachable::new(peer, "no answer in time")),
    };
    let reply = answered.and_then(|bytes| wire::read_reply(bytes).map_err(|e| Unreachable::new(peer, e)));
    reply.unwrap_or_else(|error| Reply::Refused(Refusal::Unavailable(error.to_string())))
}
