//! etcd's API over a real connection and a real store, by etcd's documented rules.

mod support;

use bytes::Bytes;
use futures::StreamExt;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Asked;
use pb::response_op::Response as Answered;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use skiff_proto::etcd::etcdserverpb as pb;
use std::time::Duration;
use support::{Server, bytes, mod_revision_is, op, put, range, serve};
use tokio::sync::mpsc;
use tonic::{Code, Status};

fn keys(response: &pb::RangeResponse) -> Vec<String> {
    let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
    response.kvs.iter().map(|kv| text(&kv.key)).collect()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, text: &str) {
    let status = answer.expect_err("refused");
    assert_eq!((status.code(), status.message()), (code, text));
}

#[tokio::test]
async fn ranges_are_filtered_sorted_and_cut() {
    let server = serve().await;
    let mut kv = KvClient::new(server.channel.clone());
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("x", "9")] {
        kv.put(put(key, value)).await.expect("put");
    }
    kv.put(put("a", "4")).await.expect("put");
    let all = range("a", "d");
    let cases = [
        (all.clone(), vec!["a", "b", "c"], false),
        (
            pb::RangeRequest {
                limit: 2,
                ..all.clone()
            },
            vec!["a", "b"],
            true,
        ),
        (
            pb::RangeRequest {
                sort_order: SortOrder::Descend.into(),
                limit: 1,
                ..all.clone()
            },
            vec!["c"],
            true,
        ),
        (
            pb::RangeRequest {
                sort_target: SortTarget::Value.into(),
                ..all.clone()
            },
            vec!["b", "c", "a"],
            false,
        ),
        (
            pb::RangeRequest {
                sort_target: SortTarget::Mod.into(),
                ..all.clone()
            },
            vec!["b", "c", "a"],
            false,
        ),
        (
            pb::RangeRequest {
                min_mod_revision: 4,
                ..all.clone()
            },
            vec!["a", "c"],
            false,
        ),
        (
            pb::RangeRequest {
                max_create_revision: 3,
                serializable: true,
                ..all.clone()
            },
            vec!["a", "b"],
            false,
        ),
        (
            pb::RangeRequest {
                count_only: true,
                ..all.clone()
            },
            vec![],
            false,
        ),
        (
            pb::RangeRequest {
                revision: 3,
                ..all.clone()
            },
            vec!["a", "b"],
            false,
        ),
    ];
    for (request, expected, more) in cases {
        let response = kv.range(request.clone()).await.expect("range").into_inner();
        assert_eq!(
            (keys(&response), response.more),
            (expected.iter().map(ToString::to_string).collect(), more),
            "{request:?}"
        );
        let header = response.header.expect("header");
        assert_eq!((header.revision, header.cluster_id, header.member_id), (6, 7, 1));
        assert_eq!(response.count, if request.revision == 3 { 2 } else { 3 });
    }
    let only = kv
        .range(pb::RangeRequest {
            keys_only: true,
            ..range("a", "")
        })
        .await
        .expect("range")
        .into_inner();
    assert_eq!((only.kvs[0].value.len(), only.kvs[0].version), (0, 2));
    let everything = kv.range(range("\0", "\0")).await.expect("range").into_inner();
    assert_eq!(everything.count, 4);
}

#[tokio::test]
async fn transactions_as_an_api_server_makes_them() {
    let server = serve().await;
    let mut kv = KvClient::new(server.channel.clone());
    let update = |revision: i64, value: &str| pb::TxnRequest {
        compare: vec![mod_revision_is("/registry/pods/a", revision)],
        success: vec![op(Asked::RequestPut(put("/registry/pods/a", value)))],
        failure: vec![op(Asked::RequestRange(range("/registry/pods/a", "")))],
    };
    let created = kv.txn(update(0, "1")).await.expect("txn").into_inner();
    assert!(created.succeeded && created.header.expect("header").revision == 2);
    let lost = kv.txn(update(0, "2")).await.expect("txn").into_inner();
    assert!(!lost.succeeded);
    let Some(Answered::ResponseRange(current)) = &lost.responses[0].response else {
        panic!("{lost:?}")
    };
    assert_eq!((current.kvs[0].mod_revision, &current.kvs[0].value[..]), (2, &b"1"[..]));
    let inner = pb::TxnRequest {
        success: vec![op(Asked::RequestPut(put("b", "1")))],
        ..Default::default()
    };
    let nested = pb::TxnRequest {
        success: vec![op(Asked::RequestTxn(inner)), op(Asked::RequestPut(put("c", "1")))],
        ..Default::default()
    };
    assert_eq!(
        kv.txn(nested.clone()).await.expect("txn").into_inner().responses.len(),
        2
    );
    let mut twice = nested.clone();
    twice.success.push(op(Asked::RequestPut(put("b", "2"))));
    refused(
        kv.txn(twice).await,
        Code::InvalidArgument,
        "etcdserver: duplicate key given in txn request",
    );
    let many = pb::TxnRequest {
        success: (0..129)
            .map(|n| op(Asked::RequestPut(put(&format!("m{n}"), ""))))
            .collect(),
        ..Default::default()
    };
    refused(
        kv.txn(many).await,
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request",
    );
}

#[tokio::test]
async fn errors_are_etcds() {
    let server = serve().await;
    let mut kv = KvClient::new(server.channel.clone());
    for n in 0..5 {
        kv.put(put("a", &n.to_string())).await.expect("put");
    }
    refused(
        kv.put(put("", "x")).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    refused(
        kv.range(range("", "")).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let keep = pb::PutRequest {
        ignore_value: true,
        ..put("none", "")
    };
    refused(kv.put(keep).await, Code::InvalidArgument, "etcdserver: key not found");
    let both = pb::PutRequest {
        ignore_value: true,
        ..put("a", "x")
    };
    refused(
        kv.put(both).await,
        Code::InvalidArgument,
        "etcdserver: value is provided",
    );
    let leased = pb::PutRequest {
        lease: 99,
        ..put("a", "x")
    };
    refused(
        kv.put(leased).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let future = pb::RangeRequest {
        revision: 99,
        ..range("a", "")
    };
    refused(
        kv.range(future).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    let compact = |revision| pb::CompactionRequest {
        revision,
        physical: true,
    };
    refused(
        kv.compact(compact(99)).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    kv.compact(compact(4)).await.expect("compacted");
    refused(
        kv.compact(compact(4)).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    );
    let old = pb::RangeRequest {
        revision: 3,
        ..range("a", "")
    };
    refused(
        kv.range(old).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    );
    let kept = pb::RangeRequest {
        revision: 4,
        ..range("a", "")
    };
    assert_eq!(kv.range(kept).await.expect("range").into_inner().kvs[0].value, "2");
    let previous = pb::DeleteRangeRequest {
        key: bytes("a"),
        prev_kv: true,
        ..Default::default()
    };
    let deleted = kv.delete_range(previous).await.expect("deleted").into_inner();
    assert_eq!((deleted.deleted, &deleted.prev_kvs[0].value[..]), (1, &b"4"[..]));
    let mut maintenance = MaintenanceClient::new(server.channel.clone());
    let status = maintenance
        .status(pb::StatusRequest {})
        .await
        .expect("status")
        .into_inner();
    assert!(status.leader == 1 && status.raft_applied_index > 0 && status.version.starts_with("3."));
}

#[tokio::test]
async fn leases_over_the_wire() {
    let server = serve().await;
    let mut lease = LeaseClient::new(server.channel.clone());
    let granted = lease
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 })
        .await
        .expect("granted")
        .into_inner();
    let mut kv = KvClient::new(server.channel.clone());
    kv.put(pb::PutRequest {
        lease: granted.id,
        ..put("a", "1")
    })
    .await
    .expect("put");
    let alive = futures::stream::iter([granted.id, 12345].map(|id| pb::LeaseKeepAliveRequest { id }));
    let mut answers = lease.lease_keep_alive(alive).await.expect("stream").into_inner();
    let ttl = |answer: Option<Result<pb::LeaseKeepAliveResponse, Status>>| answer.expect("answer").expect("kept").ttl;
    assert_eq!((ttl(answers.next().await), ttl(answers.next().await)), (60, 0));
    let time = lease.lease_time_to_live(pb::LeaseTimeToLiveRequest {
        id: granted.id,
        keys: true,
    });
    assert_eq!(time.await.expect("time").into_inner().keys, ["a"]);
    let none = lease.lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 5, keys: false });
    assert_eq!(none.await.expect("time").into_inner().ttl, -1);
    let again = lease
        .lease_grant(pb::LeaseGrantRequest {
            ttl: 60,
            id: granted.id,
        })
        .await;
    refused(again, Code::FailedPrecondition, "etcdserver: lease already exists");
    lease
        .lease_revoke(pb::LeaseRevokeRequest { id: granted.id })
        .await
        .expect("revoked");
    assert_eq!(kv.range(range("a", "")).await.expect("range").into_inner().count, 0);
}

struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: tonic::Streaming<pb::WatchResponse>,
}

impl Watching {
    async fn begin(server: &Server) -> Watching {
        let (requests, receiver) = mpsc::channel(8);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let answers = WatchClient::new(server.channel.clone())
            .watch(stream)
            .await
            .expect("stream");
        Watching {
            requests,
            answers: answers.into_inner(),
        }
    }

    async fn ask(&self, union: RequestUnion) {
        let request_union = Some(union);
        self.requests
            .send(pb::WatchRequest { request_union })
            .await
            .expect("open");
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let next = tokio::time::timeout(Duration::from_secs(20), self.answers.next());
        next.await.expect("an answer").expect("open").expect("no error")
    }
}

#[tokio::test]
async fn watches_share_a_stream() {
    let server = serve().await;
    let mut kv = KvClient::new(server.channel.clone());
    for n in 0..3 {
        kv.put(put("/p/a", &n.to_string())).await.expect("put"); // revisions 2, 3, 4
    }
    let mut watching = Watching::begin(&server).await;
    let create = |key: &str, end: &str, start_revision| pb::WatchCreateRequest {
        key: bytes(key),
        range_end: bytes(end),
        start_revision,
        prev_kv: true,
        ..Default::default()
    };
    watching.ask(RequestUnion::CreateRequest(create("/p/", "/p0", 3))).await;
    let created = watching.next().await;
    assert!(created.created && created.watch_id == 0);
    let mut past = Vec::new();
    while past.len() < 2 {
        past.extend(watching.next().await.events);
    }
    let revisions = |e: &skiff_proto::etcd::mvccpb::Event| {
        (
            e.kv.as_ref().map(|kv| kv.mod_revision),
            e.prev_kv.as_ref().map(|kv| kv.mod_revision),
        )
    };
    assert_eq!(
        past.iter().map(revisions).collect::<Vec<_>>(),
        [(Some(3), Some(2)), (Some(4), Some(3))]
    );
    // A second one, only of deletions, on one key of another place.
    let mut second = create("/q", "", 0);
    second.filters = vec![pb::watch_create_request::FilterType::Noput.into()];
    watching.ask(RequestUnion::CreateRequest(second)).await;
    assert_eq!(watching.next().await.watch_id, 1);
    kv.put(put("/q", "1")).await.expect("put"); // 5
    kv.put(put("/q/below", "1")).await.expect("put"); // 6
    let delete = pb::DeleteRangeRequest {
        key: bytes("/q"),
        ..Default::default()
    };
    kv.delete_range(delete).await.expect("deleted"); // 7
    let gone = watching.next().await;
    assert_eq!(
        (gone.watch_id, gone.events.len(), gone.header.expect("header").revision),
        (1, 1, 7)
    );
    assert_eq!(gone.events[0].r#type, 1);
    // Progress: nothing up to it is missing.
    kv.put(put("/elsewhere", "1")).await.expect("put"); // 8
    watching
        .ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
        .await;
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, progress.header.expect("header").revision), (-1, 8));
    watching
        .ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 }))
        .await;
    let canceled = watching.next().await;
    assert!(canceled.canceled && canceled.watch_id == 0);
    // What is compacted cannot be watched.
    kv.compact(pb::CompactionRequest {
        revision: 6,
        physical: false,
    })
    .await
    .expect("compacted");
    watching.ask(RequestUnion::CreateRequest(create("/p/", "/p0", 2))).await;
    assert!(watching.next().await.created);
    let over = watching.next().await;
    assert!(over.canceled && over.compact_revision == 6, "{over:?}");
    server.store.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_is_streamed_as_its_tool_expects_it() {
    let server = serve().await;
    let mut kv = pb::kv_client::KvClient::new(server.channel.clone());
    for n in 0..200 {
        kv.put(put(&format!("/snap/{n}"), &"v".repeat(2000)))
            .await
            .expect("put");
    }
    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(server.channel.clone());
    let mut stream = maintenance
        .snapshot(pb::SnapshotRequest {})
        .await
        .expect("streamed")
        .into_inner();
    let mut all = Vec::new();
    let mut left = u64::MAX;
    while let Some(piece) = stream.message().await.expect("a piece") {
        assert!(piece.remaining_bytes < left);
        left = piece.remaining_bytes;
        all.extend_from_slice(&piece.blob);
    }
    assert_eq!((left, all.len() % 512), (0, 32));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("saved.db");
    std::fs::write(&path, &all).expect("written");
    let about = skiff_store::backup::check(&path).expect("whole");
    assert_eq!((about.keys, about.sealed_files), (200, 0));
}

#[tokio::test]
async fn alarms_are_listed_and_disarmed() {
    let server = serve().await;
    let mut kv = pb::kv_client::KvClient::new(server.channel.clone());
    let mut maintenance = pb::maintenance_client::MaintenanceClient::new(server.channel.clone());
    kv.put(put("/a", "1")).await.expect("put");
    let ask = |action: pb::alarm_request::AlarmAction, member_id| pb::AlarmRequest {
        action: action as i32,
        member_id,
        alarm: pb::AlarmType::Nospace as i32,
    };
    use pb::alarm_request::AlarmAction::*;
    maintenance.alarm(ask(Activate, 1)).await.expect("raised");
    let listed = maintenance.alarm(ask(Get, 0)).await.expect("listed").into_inner();
    assert_eq!(listed.alarms.iter().map(|a| a.member_id).collect::<Vec<_>>(), [1]);
    refused(
        kv.put(put("/b", "1")).await,
        Code::ResourceExhausted,
        "etcdserver: mvcc: database space exceeded",
    );
    let status = maintenance
        .status(pb::StatusRequest {})
        .await
        .expect("status")
        .into_inner();
    assert_eq!(status.errors, ["memberID:1 alarm:NOSPACE "]);
    let delete = pb::DeleteRangeRequest {
        key: bytes("/a"),
        ..Default::default()
    };
    kv.delete_range(delete).await.expect("deletions go on");
    let gone = maintenance
        .alarm(ask(Deactivate, 0))
        .await
        .expect("disarmed")
        .into_inner();
    assert_eq!(gone.alarms.len(), 1);
    kv.put(put("/b", "1")).await.expect("put again");
    maintenance.defragment(pb::DefragmentRequest {}).await.expect("done");
    let mut cluster = pb::cluster_client::ClusterClient::new(server.channel.clone());
    let remove = pb::MemberRemoveRequest { id: 9 };
    refused(
        cluster.member_remove(remove).await,
        Code::NotFound,
        "etcdserver: member not found",
    );
    let promote = pb::MemberPromoteRequest { id: 1 };
    let text = "etcdserver: can only promote a learner member";
    refused(cluster.member_promote(promote).await, Code::FailedPrecondition, text);
    let text = "etcdserver: bad leader transferee";
    let to = pb::MoveLeaderRequest { target_id: 9 };
    refused(maintenance.move_leader(to).await, Code::FailedPrecondition, text);
}
