//! Messages come back as they were written; no bytes make a reader panic or hang.

use super::*;
use proptest::prelude::*;

fn log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(term, node_id, index)| {
        let leader = openraft::impls::leader_id_adv::LeaderId { term, node_id };
        LogId::new(leader, index)
    })
}

fn vote() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, node, committed)| match committed {
        true => Vote::new_committed(term, node),
        false => Vote::new(term, node),
    })
}

fn maybe_id() -> impl Strategy<Value = Option<LogId>> {
    prop::option::of(log_id())
}

fn question() -> impl Strategy<Value = Question> {
    let request = || {
        (vote(), maybe_id(), any::<bool>()).prop_map(|(vote, last_log_id, leadership_transfer)| VoteRequest {
            vote,
            last_log_id,
            leadership_transfer,
        })
    };
    prop_oneof![
        request().prop_map(Question::Vote),
        request().prop_map(Question::PreVote),
        (vote(), any::<u64>(), maybe_id())
            .prop_map(|(vote, to, last)| Question::TransferLeader(TransferLeaderRequest::new(vote, to, last))),
        any::<u64>().prop_map(|revision| Question::Propose(Command::Compact(revision))),
        Just(Question::ReadIndex),
        Just(Question::Room),
        any::<u64>().prop_map(Question::Member),
        any::<u64>().prop_map(|n| Question::ProposeAndTell(Command::Compact(n))),
        (0..=i64::MAX).prop_map(Question::KeepAlive),
        (0..=i64::MAX).prop_map(Question::TimeToLive),
        (any::<u64>(), "[a-z:0-9]{0,9}", any::<bool>()).prop_map(|(id, address, voter)| Question::AddMember {
            id,
            address,
            voter
        }),
        any::<u64>().prop_map(Question::RemoveMember),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        (vote(), maybe_id(), any::<bool>())
            .prop_map(|(vote, last, granted)| Reply::Vote(VoteResponse::new(vote, last, granted))),
        Just(Reply::Done),
        any::<bool>().prop_map(Reply::Member),
        Just(Reply::Applied(Response::Duplicate)),
        log_id().prop_map(Reply::Index),
        prop::option::of(any::<(u64, u64)>()).prop_map(Reply::Time),
        prop::option::of(any::<u64>()).prop_map(|leader| Reply::Refused(Refusal::NotLeader(leader))),
        "[a-z ]{0,9}".prop_map(|why| Reply::Refused(Refusal::Unavailable(why))),
        "[a-z ]{0,9}".prop_map(|why| Reply::Refused(Refusal::Failed(why))),
        "[a-z ]{0,9}".prop_map(|why| Reply::Refused(Refusal::NoRoom(why))),
    ]
}

fn append() -> impl Strategy<Value = AppendRequest> {
    let entry = (log_id(), any::<bool>()).prop_map(|(log_id, blank)| RaftEntry {
        log_id,
        payload: match blank {
            true => openraft::EntryPayload::Blank,
            false => openraft::EntryPayload::Normal(Command::Compact(log_id.index)),
        },
    });
    (vote(), maybe_id(), maybe_id(), prop::collection::vec(entry, 0..4)).prop_map(
        |(vote, prev_log_id, leader_commit, entries)| AppendRequest {
            vote,
            prev_log_id,
            leader_commit,
            entries,
        },
    )
}

const ROUTE: Route = Route {
    to: 3,
    from: 1,
    group: 5,
};

proptest! {
    #[test]
    fn messages_come_back(question in question(), reply in reply(), append in append()) {
        prop_assert_eq!(read_question(put_question(ROUTE, &question)), Ok((ROUTE, question)));
        prop_assert_eq!(read_reply(put_reply(&reply)), Ok(reply));
        let (route, read) = read_append(put_append(ROUTE, &append)).expect("read");
        prop_assert_eq!(route, ROUTE);
        prop_assert_eq!(format!("{read:?}"), format!("{append:?}"));
        for result in [Ok(append.prev_log_id), Err(StreamAppendError::HigherVote(append.vote))] {
            prop_assert_eq!(read_append_result(put_append_result(&result)), Ok(result));
        }
    }

    #[test]
    fn snapshots_heads_come_back(vote in vote(), last in maybe_id(), bytes in any::<u64>()) {
        let head = SnapshotHead {
            vote,
            meta: SnapshotMeta { last_log_id: last, last_membership: StoredMembership::default() },
            name: "0-0.snap".into(),
            bytes,
        };
        prop_assert_eq!(read_snapshot_head(put_snapshot_head(ROUTE, &head)), Ok((ROUTE, head)));
        for reply in [SnapshotReply::From(bytes), SnapshotReply::Installed(vote), SnapshotReply::Failed("x".into())] {
            prop_assert_eq!(read_snapshot_reply(put_snapshot_reply(&reply)), Ok(reply));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(noise in prop::collection::vec(any::<u8>(), 0..80), tag in 0..12u8) {
        let mut message = vec![PROTOCOL, 3, 1, 5, tag];
        message.extend_from_slice(&noise);
        let message = Bytes::from(message);
        let _ = (read_question(message.clone()), read_append(message.clone()), read_snapshot_head(message));
        let noise = Bytes::from(noise);
        let _ = (read_reply(noise.clone()), read_append_result(noise.clone()), read_snapshot_reply(noise));
    }
}

#[test]
fn another_protocol_is_named() {
    let mut message = put_question(ROUTE, &Question::ReadIndex).to_vec();
    message[0] = PROTOCOL + 1;
    let error = read_question(message.into()).expect_err("refused").to_string();
    assert!(error.contains("the servers' releases differ"), "{error}");
}
