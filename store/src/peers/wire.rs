//! The binary form of messages between servers. Each begins with the protocol's
//! version the numbers of the server that is meant and of the one that asks, and the group's, so
//! that an address that went to another server, or one of an abandoned group, does no harm. Pure.

use crate::codec::{self, CodecError, Plain, Reader, put_bytes, put_u64};
use crate::contract::LeaseId;
use crate::raft_types::*;
use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};

pub type AppendRequest = AppendEntriesRequest<Types>;
pub type AppendResult = StreamAppendResult<Types>;

/// Raised when a message changes its shape; servers of two releases then say so.
pub const PROTOCOL: u8 = 2;

/// Who is meant, and who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub to: u64,
    pub from: u64,
    /// The group that the asking one belongs to; see `group`.
    pub group: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    TransferLeader(TransferLeaderRequest<Types>),
    /// Append this to the log, as the leader.
    Propose(Command),
    /// The same from a server that cannot apply it now: it is told what came of it.
    ProposeAndTell(Command),
    /// Up to where must be applied what a read that begins now is to see?
    ReadIndex,
    /// Is that server one of the group?
    Member(u64),
    /// Is there space for more on your disk?
    Room,
    KeepAlive(LeaseId),
    TimeToLive(LeaseId),
    AddMember {
        id: u64,
        address: String,
        voter: bool,
    },
    RemoveMember(u64),
}

/// Why a question was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Ask that one, if it is known.
    NotLeader(Option<u64>),
    /// Not now: try again.
    Unavailable(String),
    /// Not done: there is no space on that server's disk.
    NoRoom(String),
    /// It makes no sense to try again.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Vote(VoteResponse<Types>),
    Done,
    Index(LogId),
    /// Milliseconds granted and left; `None`: there is no such lease.
    Time(Option<(u64, u64)>),
    Applied(Response),
    Member(bool),
    Refused(Refusal),
}

/// What begins a snapshot's stream.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotHead {
    pub vote: Vote,
    pub meta: SnapshotMeta,
    /// The file's name and size.
    pub name: String,
    pub bytes: u64,
}

/// What the receiver of a snapshot says.
#[derive(Debug, Clone, PartialEq)]
pub enum SnapshotReply {
    /// Send from this byte on.
    From(u64),
    /// It is installed, or a newer leader is known.
    Installed(Vote),
    Failed(String),
}

fn head(route: Route, tag: u8) -> Vec<u8> {
    let mut out = vec![PROTOCOL];
    put_u64(&mut out, route.to);
    put_u64(&mut out, route.from);
    put_u64(&mut out, route.group);
    out.push(tag);
    out
}

fn read_head(r: &mut Reader) -> Result<(Route, u8), CodecError> {
    match r.u8("protocol")? {
        PROTOCOL => {}
        _ => {
            return Err(CodecError::Invalid(
                "the protocol's version: the servers' releases differ too much",
            ));
        }
    }
    let route = Route {
        to: r.u64("receiver")?,
        from: r.u64("sender")?,
        group: r.u64("group")?,
    };
    Ok((route, r.u8("message")?))
}

fn finished<T>(r: &Reader, value: T) -> Result<T, CodecError> {
    match r.is_empty() {
        true => Ok(value),
        false => Err(CodecError::Invalid("what follows the message")),
    }
}

fn put_vote_request(out: &mut Vec<u8>, request: &VoteRequest<Types>) {
    codec::put_vote(out, &request.vote);
    codec::put_log_id_option(out, &request.last_log_id);
    out.push(u8::from(request.leadership_transfer));
}

fn read_vote_request(r: &mut Reader) -> Result<VoteRequest<Types>, CodecError> {
    Ok(VoteRequest {
        vote: codec::read_vote(r)?,
        last_log_id: codec::read_log_id_option(r)?,
        leadership_transfer: r.u8("transfer")? != 0,
    })
}

pub fn put_question(route: Route, question: &Question) -> Bytes {
    let mut out = head(route, 0);
    out.pop();
    match question {
        Question::Vote(request) => {
            out.push(0);
            put_vote_request(&mut out, request);
        }
        Question::PreVote(request) => {
            out.push(1);
            put_vote_request(&mut out, request);
        }
        Question::TransferLeader(request) => {
            out.push(2);
            codec::put_vote(&mut out, request.from_leader());
            put_u64(&mut out, *request.to_node_id());
            codec::put_log_id_option(&mut out, &request.last_log_id().copied());
        }
        Question::Propose(command) => {
            out.push(3);
            codec::put_command(&mut out, command, &Plain);
        }
        Question::ReadIndex => out.push(4),
        Question::Room => out.push(9),
        Question::Member(id) => {
            out.push(11);
            put_u64(&mut out, *id);
        }
        Question::ProposeAndTell(command) => {
            out.push(10);
            codec::put_command(&mut out, command, &Plain);
        }
        Question::KeepAlive(id) => {
            out.push(5);
            put_u64(&mut out, *id as u64);
        }
        Question::TimeToLive(id) => {
            out.push(6);
            put_u64(&mut out, *id as u64);
        }
        Question::AddMember { id, address, voter } => {
            out.push(7);
            put_u64(&mut out, *id);
            put_bytes(&mut out, address.as_bytes());
            out.push(u8::from(*voter));
        }
        Question::RemoveMember(id) => {
            out.push(8);
            put_u64(&mut out, *id);
        }
    }
    out.into()
}

pub fn read_question(bytes: Bytes) -> Result<(Route, Question), CodecError> {
    let mut r = Reader::new(bytes);
    let (route, tag) = read_head(&mut r)?;
    let question = match tag {
        0 => Question::Vote(read_vote_request(&mut r)?),
        1 => Question::PreVote(read_vote_request(&mut r)?),
        2 => {
            let (from, to) = (codec::read_vote(&mut r)?, r.u64("receiver")?);
            Question::TransferLeader(TransferLeaderRequest::new(from, to, codec::read_log_id_option(&mut r)?))
        }
        3 => return Ok((route, Question::Propose(codec::read_command(r.rest(), &Plain)?))),
        10 => return Ok((route, Question::ProposeAndTell(codec::read_command(r.rest(), &Plain)?))),
        4 => Question::ReadIndex,
        9 => Question::Room,
        11 => Question::Member(r.u64("server")?),
        5 => Question::KeepAlive(codec::read_lease_id(&mut r)?),
        6 => Question::TimeToLive(codec::read_lease_id(&mut r)?),
        7 => Question::AddMember {
            id: r.u64("server")?,
            address: r.text("address")?.into(),
            voter: r.u8("voter")? != 0,
        },
        8 => Question::RemoveMember(r.u64("server")?),
        tag => {
            return Err(CodecError::Tag {
                what: "a question",
                tag,
            });
        }
    };
    finished(&r, (route, question))
}

pub fn put_reply(reply: &Reply) -> Bytes {
    let mut out = Vec::new();
    match reply {
        Reply::Vote(response) => {
            out.push(0);
            codec::put_vote(&mut out, &response.vote);
            out.push(u8::from(response.vote_granted));
            codec::put_log_id_option(&mut out, &response.last_log_id);
        }
        Reply::Done => out.push(1),
        Reply::Index(id) => {
            out.push(2);
            codec::put_log_id(&mut out, id);
        }
        Reply::Time(time) => {
            out.push(3);
            out.push(u8::from(time.is_some()));
            if let Some((granted, left)) = time {
                put_u64(&mut out, *granted);
                put_u64(&mut out, *left);
            }
        }
        Reply::Refused(Refusal::NotLeader(leader)) => {
            out.push(4);
            out.push(u8::from(leader.is_some()));
            leader.iter().for_each(|id| put_u64(&mut out, *id));
        }
        Reply::Refused(Refusal::Unavailable(why)) => {
            out.push(5);
            put_bytes(&mut out, why.as_bytes());
        }
        Reply::Refused(Refusal::Failed(why)) => {
            out.push(6);
            put_bytes(&mut out, why.as_bytes());
        }
        Reply::Member(is) => {
            out.push(9);
            out.push(u8::from(*is));
        }
        Reply::Applied(response) => {
            out.push(8);
            codec::put_response(&mut out, response);
        }
        Reply::Refused(Refusal::NoRoom(why)) => {
            out.push(7);
            put_bytes(&mut out, why.as_bytes());
        }
    }
    out.into()
}

pub fn read_reply(bytes: Bytes) -> Result<Reply, CodecError> {
    let mut r = Reader::new(bytes);
    let reply = match r.u8("reply")? {
        0 => {
            let (vote, granted) = (codec::read_vote(&mut r)?, r.u8("granted")? != 0);
            Reply::Vote(VoteResponse::new(vote, codec::read_log_id_option(&mut r)?, granted))
        }
        1 => Reply::Done,
        2 => Reply::Index(codec::read_log_id(&mut r)?),
        3 => Reply::Time(match r.u8("time")? {
            0 => None,
            _ => Some((r.u64("granted")?, r.u64("left")?)),
        }),
        4 => Reply::Refused(Refusal::NotLeader(match r.u8("leader")? {
            0 => None,
            _ => Some(r.u64("leader")?),
        })),
        5 => Reply::Refused(Refusal::Unavailable(r.text("reason")?.into())),
        6 => Reply::Refused(Refusal::Failed(r.text("reason")?.into())),
        8 => Reply::Applied(codec::read_response(&mut r)?),
        9 => Reply::Member(r.u8("member")? != 0),
        7 => Reply::Refused(Refusal::NoRoom(r.text("reason")?.into())),
        tag => return Err(CodecError::Tag { what: "a reply", tag }),
    };
    finished(&r, reply)
}

pub fn put_append(route: Route, request: &AppendRequest) -> Bytes {
    let mut out = head(route, 0);
    codec::put_vote(&mut out, &request.vote);
    codec::put_log_id_option(&mut out, &request.prev_log_id);
    codec::put_log_id_option(&mut out, &request.leader_commit);
    put_u64(&mut out, request.entries.len() as u64);
    let mut entry = Vec::new();
    for e in &request.entries {
        entry.clear();
        codec::put_raft_entry(&mut entry, e, &Plain);
        put_bytes(&mut out, &entry);
    }
    out.into()
}

pub fn read_append(bytes: Bytes) -> Result<(Route, AppendRequest), CodecError> {
    let mut r = Reader::new(bytes);
    let (route, tag) = read_head(&mut r)?;
    if tag != 0 {
        return Err(CodecError::Tag { what: "an append", tag });
    }
    let request = AppendRequest {
        vote: codec::read_vote(&mut r)?,
        prev_log_id: codec::read_log_id_option(&mut r)?,
        leader_commit: codec::read_log_id_option(&mut r)?,
        entries: (0..r.count("entries")?)
            .map(|_| codec::read_raft_entry(r.bytes("entry")?, &Plain))
            .collect::<Result<_, _>>()?,
    };
    finished(&r, (route, request))
}

pub fn put_append_result(result: &AppendResult) -> Bytes {
    let mut out = Vec::new();
    match result {
        Ok(flushed) => {
            out.push(0);
            codec::put_log_id_option(&mut out, flushed);
        }
        Err(StreamAppendError::Conflict(id)) => {
            out.push(1);
            codec::put_log_id(&mut out, id);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.push(2);
            codec::put_vote(&mut out, vote);
        }
    }
    out.into()
}

pub fn read_append_result(bytes: Bytes) -> Result<AppendResult, CodecError> {
    let mut r = Reader::new(bytes);
    let result = match r.u8("result")? {
        0 => Ok(codec::read_log_id_option(&mut r)?),
        1 => Err(StreamAppendError::Conflict(codec::read_log_id(&mut r)?)),
        2 => Err(StreamAppendError::HigherVote(codec::read_vote(&mut r)?)),
        tag => return Err(CodecError::Tag { what: "a result", tag }),
    };
    finished(&r, result)
}

pub fn put_snapshot_head(route: Route, snapshot: &SnapshotHead) -> Bytes {
    let mut out = head(route, 0);
    codec::put_vote(&mut out, &snapshot.vote);
    codec::put_log_id_option(&mut out, &snapshot.meta.last_log_id);
    codec::put_stored_membership(&mut out, &snapshot.meta.last_membership);
    put_bytes(&mut out, snapshot.name.as_bytes());
    put_u64(&mut out, snapshot.bytes);
    out.into()
}

pub fn read_snapshot_head(bytes: Bytes) -> Result<(Route, SnapshotHead), CodecError> {
    let mut r = Reader::new(bytes);
    let (route, tag) = read_head(&mut r)?;
    if tag != 0 {
        return Err(CodecError::Tag {
            what: "a snapshot",
            tag,
        });
    }
    let vote = codec::read_vote(&mut r)?;
    let meta = SnapshotMeta {
        last_log_id: codec::read_log_id_option(&mut r)?,
        last_membership: codec::read_stored_membership(&mut r)?,
    };
    let snapshot = SnapshotHead {
        vote,
        meta,
        name: r.text("name")?.into(),
        bytes: r.u64("size")?,
    };
    finished(&r, (route, snapshot))
}

pub fn put_snapshot_reply(reply: &SnapshotReply) -> Bytes {
    let mut out = Vec::new();
    match reply {
        SnapshotReply::From(offset) => {
            out.push(0);
            put_u64(&mut out, *offset);
        }
        SnapshotReply::Installed(vote) => {
            out.push(1);
            codec::put_vote(&mut out, vote);
        }
        SnapshotReply::Failed(why) => {
            out.push(2);
            put_bytes(&mut out, why.as_bytes());
        }
    }
    out.into()
}

pub fn read_snapshot_reply(bytes: Bytes) -> Result<SnapshotReply, CodecError> {
    let mut r = Reader::new(bytes);
    let reply = match r.u8("reply")? {
        0 => SnapshotReply::From(r.u64("offset")?),
        1 => SnapshotReply::Installed(codec::read_vote(&mut r)?),
        2 => SnapshotReply::Failed(r.text("reason")?.into()),
        tag => return Err(CodecError::Tag { what: "a reply", tag }),
    };
    finished(&r, reply)
}

#[cfg(test)]
#[path = "wire_test.rs"]
mod wire_test;
