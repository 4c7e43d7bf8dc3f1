//! What an API server and other clients ask of etcd, answered as etcd does. The expected
//! answers were written by etcd itself (3.5.30): `SKIFF_ETCD=/path/of/etcd UPDATE_EXPECT=1`
//! asks that program the same, and writes `as_etcd.txt` anew.

mod support;

use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Asked;
use pb::response_op::Response as Answered;
use pb::watch_client::WatchClient;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_proto::etcd::mvccpb;
use std::fmt::Write as _;
use std::time::Duration;
use support::*;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Response, Status};

const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/as_etcd.txt");

/// What was answered, a line each.
#[derive(Default)]
struct Told(String);

impl Told {
    fn add<T: Show>(&mut self, what: &str, answer: Result<Response<T>, Status>) {
        let answer = match answer {
            Ok(answer) => answer.into_inner().show(),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        };
        self.line(what, &answer);
    }

    fn line(&mut self, what: &str, answer: &str) {
        writeln!(self.0, "{what}: {answer}").expect("text");
    }
}

/// An answer as text, without what differs between any two clusters.
trait Show {
    fn show(&self) -> String;
}

fn header(header: &Option<pb::ResponseHeader>) -> String {
    match header {
        None => "no header".into(),
        Some(h) if h.cluster_id != 0 && h.member_id != 0 && h.raft_term != 0 => format!("at {}", h.revision),
        Some(h) => format!("({}/{}/{}) at {}", h.cluster_id, h.member_id, h.raft_term, h.revision),
    }
}

fn pair(kv: &mvccpb::KeyValue) -> String {
    let text = |b: &[u8]| match b.len() {
        0..40 => String::from_utf8_lossy(b).into_owned(),
        bytes => format!("{bytes} bytes"),
    };
    let leased = if kv.lease == 0 { "" } else { " leased" };
    let [created, modified, version] = [kv.create_revision, kv.mod_revision, kv.version];
    format!(
        "[{}={} {created}/{modified}/{version}{leased}]",
        text(&kv.key),
        text(&kv.value)
    )
}

fn pairs<'a>(kvs: impl IntoIterator<Item = &'a mvccpb::KeyValue>) -> String {
    kvs.into_iter().map(|kv| format!(" {}", pair(kv))).collect()
}

impl Show for pb::RangeResponse {
    fn show(&self) -> String {
        let more = if self.more { " and more" } else { "" };
        format!(
            "{}, {} of {}{more}:{}",
            header(&self.header),
            self.kvs.len(),
            self.count,
            pairs(&self.kvs)
        )
    }
}

impl Show for pb::PutResponse {
    fn show(&self) -> String {
        format!("{}, put{}", header(&self.header), pairs(&self.prev_kv))
    }
}

impl Show for pb::DeleteRangeResponse {
    fn show(&self) -> String {
        format!(
            "{}, deleted {}{}",
            header(&self.header),
            self.deleted,
            pairs(&self.prev_kvs)
        )
    }
}

impl Show for pb::TxnResponse {
    fn show(&self) -> String {
        let each = self.responses.iter().map(|op| match &op.response {
            Some(Answered::ResponseRange(r)) => r.show(),
            Some(Answered::ResponsePut(r)) => r.show(),
            Some(Answered::ResponseDeleteRange(r)) => r.show(),
            Some(Answered::ResponseTxn(r)) => r.show(),
            None => "nothing".into(),
        });
        format!(
            "{}, {} <{}>",
            header(&self.header),
            self.succeeded,
            each.collect::<Vec<_>>().join("; ")
        )
    }
}

impl Show for pb::CompactionResponse {
    fn show(&self) -> String {
        header(&self.header)
    }
}

impl Show for pb::LeaseGrantResponse {
    fn show(&self) -> String {
        format!(
            "{}, id {}, ttl {} {}",
            header(&self.header),
            self.id,
            self.ttl,
            self.error
        )
    }
}

impl Show for pb::LeaseRevokeResponse {
    fn show(&self) -> String {
        header(&self.header)
    }
}

impl Show for pb::LeaseTimeToLiveResponse {
    fn show(&self) -> String {
        let alive = if self.ttl > 0 { "alive" } else { "gone" };
        format!(
            "{}, id {}, {alive}, of {}, {:?}",
            header(&self.header),
            self.id,
            self.granted_ttl,
            self.keys
        )
    }
}

impl Show for pb::WatchResponse {
    fn show(&self) -> String {
        let mut text = format!("{}, watch {}", header(&self.header), self.watch_id);
        for (is, word) in [
            (self.created, "created"),
            (self.canceled, "canceled"),
            (self.fragment, "fragment"),
        ] {
            if is {
                write!(text, ", {word}").expect("text");
            }
        }
        if self.compact_revision != 0 || !self.cancel_reason.is_empty() {
            write!(
                text,
                ", compacted at {}, {:?}",
                self.compact_revision, self.cancel_reason
            )
            .expect("text");
        }
        for event in &self.events {
            let (kind, before) = (if event.r#type == 1 { "gone" } else { "put" }, pairs(&event.prev_kv));
            write!(text, "\n  {kind}{} before:{before}", pairs(&event.kv)).expect("text");
        }
        text
    }
}

struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: tonic::Streaming<pb::WatchResponse>,
}

impl Watching {
    /// etcd says nothing at all before it is asked for the first watch.
    async fn begin(channel: &Channel, first: pb::WatchCreateRequest) -> Watching {
        let (requests, receiver) = mpsc::channel(8);
        let request_union = Some(RequestUnion::CreateRequest(first));
        requests.send(pb::WatchRequest { request_union }).await.expect("open");
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(64 << 20);
        let answers = client.watch(stream).await.expect("stream").into_inner();
        Watching { requests, answers }
    }

    async fn ask(&self, union: RequestUnion) {
        let request_union = Some(union);
        self.requests
            .send(pb::WatchRequest { request_union })
            .await
            .expect("open");
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let next = tokio::time::timeout(Duration::from_secs(20), self.answers.message());
        next.await.expect("an answer").expect("no error").expect("open")
    }

    async fn create(&mut self, told: &mut Told, what: &str, request: pb::WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(request)).await;
        let created = self.next().await;
        told.line(what, &created.show());
    }

    async fn told(&mut self, told: &mut Told, what: &str) {
        let next = self.next().await;
        told.line(what, &next.show());
    }
}

fn follow(key: &str, end: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: bytes(key),
        range_end: bytes(end),
        start_revision,
        prev_kv: true,
        ..Default::default()
    }
}

fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: true,
    }
}

/// As an API server creates, updates and deletes: by the revision that it has seen.
fn guarded(key: &str, revision: i64, then: Asked) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: vec![mod_revision_is(key, revision)],
        success: vec![op(then)],
        failure: vec![op(Asked::RequestRange(range(key, "")))],
    }
}

async fn writes_of_an_api_server(channel: &Channel, told: &mut Told) {
    let mut kv = KvClient::new(channel.clone());
    let put_a = |value| Asked::RequestPut(put("/r/a", value));
    told.add("create", kv.txn(guarded("/r/a", 0, put_a("1"))).await);
    told.add("create again", kv.txn(guarded("/r/a", 0, put_a("2"))).await);
    told.add("update", kv.txn(guarded("/r/a", 2, put_a("2"))).await);
    told.add("update a stale one", kv.txn(guarded("/r/a", 2, put_a("3"))).await);
    let gone = Asked::RequestDeleteRange(delete("/r/a", ""));
    told.add("delete a stale one", kv.txn(guarded("/r/a", 2, gone.clone())).await);
    told.add("delete", kv.txn(guarded("/r/a", 3, gone.clone())).await);
    told.add("delete what is gone", kv.txn(guarded("/r/a", 3, gone)).await);
    told.add("nothing", kv.txn(pb::TxnRequest::default()).await);
    let read = |key| op(Asked::RequestRange(range(key, "")));
    let inner = pb::TxnRequest {
        compare: vec![mod_revision_is("/r/c", 0)],
        success: vec![read("/r/c"), op(Asked::RequestPut(put("/r/c", "c"))), read("/r/c")],
        failure: vec![],
    };
    let many = pb::TxnRequest {
        success: vec![
            read("/r/b"),
            op(Asked::RequestDeleteRange(delete("/r/none", ""))),
            op(Asked::RequestPut(put("/r/b", "b"))),
            op(Asked::RequestTxn(inner)),
            read("/r/b"),
            op(Asked::RequestDeleteRange(delete("/r/none", ""))),
        ],
        ..Default::default()
    };
    told.add("many at once", kv.txn(many).await);
    let reads = pb::TxnRequest {
        success: vec![read("/r/b"), read("/r/none")],
        ..Default::default()
    };
    told.add("reads at once", kv.txn(reads).await);
    let future = pb::RangeRequest {
        revision: 99,
        ..range("/r/b", "")
    };
    let future = pb::TxnRequest {
        success: vec![op(Asked::RequestPut(put("/r/b", "x"))), op(Asked::RequestRange(future))],
        ..Default::default()
    };
    told.add("a read of the future", kv.txn(future).await);
    told.add("it did nothing", kv.range(range("/r/b", "")).await);
    told.add("delete nothing", kv.delete_range(delete("/r/none", "")).await);
    let before = pb::PutRequest {
        prev_kv: true,
        ..put("/r/b", "b2")
    };
    told.add("put over", kv.put(before).await);
}

async fn pages(channel: &Channel, told: &mut Told) {
    let mut kv = KvClient::new(channel.clone());
    for n in 0..5 {
        told.add("put", kv.put(put(&format!("/p/{n}"), &n.to_string())).await);
    }
    let page = |from: &str, revision, limit| pb::RangeRequest {
        revision,
        limit,
        ..range(from, "/p0")
    };
    told.add("first page", kv.range(page("/p/", 0, 2)).await);
    told.add("put between", kv.put(put("/p/2", "new")).await);
    told.add("gone between", kv.delete_range(delete("/p/3", "")).await);
    told.add("second page", kv.range(page("/p/1\0", 11, 2)).await);
    told.add("last page", kv.range(page("/p/3\0", 11, 2)).await);
    told.add("none left", kv.range(page("/p/4\0", 11, 2)).await);
    told.add("all now", kv.range(page("/p/", 0, 0)).await);
    told.add("exactly", kv.range(page("/p/", 0, 4)).await);
    let count = pb::RangeRequest {
        count_only: true,
        ..page("/p/", 0, 1)
    };
    told.add("count", kv.range(count.clone()).await);
    told.add(
        "count earlier",
        kv.range(pb::RangeRequest { revision: 11, ..count }).await,
    );
    let keys = pb::RangeRequest {
        keys_only: true,
        serializable: true,
        ..page("/p/", 0, 3)
    };
    told.add("keys", kv.range(keys).await);
    told.add("the future", kv.range(page("/p/", 99, 1)).await);
    told.add("a negative revision", kv.range(page("/p/", -1, 1)).await);
    told.add("an end before the start", kv.range(range("/p/3", "/p/1")).await);
    let by = |target: SortTarget, order: SortOrder| pb::RangeRequest {
        sort_target: target.into(),
        sort_order: order.into(),
        ..range("/p/", "/p0")
    };
    told.add(
        "by version, down",
        kv.range(by(SortTarget::Version, SortOrder::Descend)).await,
    );
    told.add("by version", kv.range(by(SortTarget::Version, SortOrder::None)).await);
    told.add("by key, down", kv.range(by(SortTarget::Key, SortOrder::Descend)).await);
    let some = pb::RangeRequest {
        min_mod_revision: 12,
        limit: 1,
        ..by(SortTarget::Mod, SortOrder::Descend)
    };
    told.add("of late", kv.range(some).await);
}

async fn leases(channel: &Channel, told: &mut Told) {
    let (mut kv, mut lease) = (KvClient::new(channel.clone()), LeaseClient::new(channel.clone()));
    let grant = |id, ttl| pb::LeaseGrantRequest { ttl, id };
    told.add("grant", lease.lease_grant(grant(70, 3600)).await);
    told.add("grant again", lease.lease_grant(grant(70, 3600)).await);
    told.add("grant a short one", lease.lease_grant(grant(71, 0)).await);
    told.add("grant for no time", lease.lease_grant(grant(73, -3)).await);
    told.add("grant too long a one", lease.lease_grant(grant(72, i64::MAX)).await);
    let leased = |key, lease| pb::PutRequest { lease, ..put(key, "x") };
    told.add("leased", kv.put(leased("/l/a", 70)).await);
    told.add("leased to none", kv.put(leased("/l/a", 99)).await);
    let asked = |id| pb::LeaseTimeToLiveRequest { id, keys: true };
    told.add("how long", lease.lease_time_to_live(asked(70)).await);
    told.add("how long, none", lease.lease_time_to_live(asked(99)).await);
    told.add("put without", kv.put(put("/l/a", "y")).await);
    told.add("its keys", lease.lease_time_to_live(asked(70)).await);
    told.add("leased again", kv.put(leased("/l/b", 70)).await);
    told.add("and another", kv.put(leased("/l/c", 70)).await);
    told.add("revoke", lease.lease_revoke(pb::LeaseRevokeRequest { id: 70 }).await);
    told.add(
        "revoke again",
        lease.lease_revoke(pb::LeaseRevokeRequest { id: 70 }).await,
    );
    told.add("what is left", kv.range(range("/l/", "/l0")).await);
}

async fn watches(channel: &Channel, told: &mut Told) {
    let mut kv = KvClient::new(channel.clone());
    let mut watching = Watching::begin(channel, follow("/p/", "/p0", 10)).await;
    watching.told(told, "watch the past").await;
    watching.told(told, "it came").await;
    watching.create(told, "watch from now", follow("/w/", "/w0", 0)).await;
    told.add("put", kv.put(put("/w/a", "1")).await);
    watching.told(told, "seen").await;
    let both = pb::TxnRequest {
        success: vec![
            op(Asked::RequestPut(put("/w/a", "2"))),
            op(Asked::RequestPut(put("/w/b", "1"))),
        ],
        ..Default::default()
    };
    told.add("two at once", kv.txn(both).await);
    watching.told(told, "seen").await;
    told.add("delete both", kv.delete_range(delete("/w/", "/w0")).await);
    watching.told(told, "seen").await;
    told.add("put elsewhere", kv.put(put("/elsewhere", "1")).await);
    watching
        .ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
        .await;
    watching.told(told, "progress").await;
    watching.create(told, "watch the future", follow("/w/f", "", 30)).await;
    watching.create(told, "an empty range", follow("/w/z", "/w/a", 0)).await;
    watching.create(told, "before all", follow("/w/z", "", -1)).await;
    let named = pb::WatchCreateRequest {
        watch_id: 1,
        ..follow("/w/", "", 0)
    };
    watching.create(told, "a number that is taken", named).await;
    let quiet = pb::WatchCreateRequest {
        filters: vec![FilterType::Nodelete.into(), FilterType::Noput.into()],
        watch_id: 40,
        ..follow("/w/", "/w0", 0)
    };
    watching.create(told, "one of nothing", quiet).await;
    watching
        .ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 40 }))
        .await;
    watching.told(told, "canceled").await;
}

async fn compaction(channel: &Channel, told: &mut Told) {
    let mut kv = KvClient::new(channel.clone());
    let version = |version| pb::TxnRequest {
        compare: vec![pb::Compare {
            target: pb::compare::CompareTarget::Version.into(),
            key: bytes("compact_rev_key"),
            target_union: Some(pb::compare::TargetUnion::Version(version)),
            ..Default::default()
        }],
        success: vec![op(Asked::RequestPut(put("compact_rev_key", "12")))],
        failure: vec![op(Asked::RequestRange(range("compact_rev_key", "")))],
    };
    told.add("who compacts", kv.txn(version(0)).await);
    told.add("not this one", kv.txn(version(0)).await);
    let compact = |revision| pb::CompactionRequest {
        revision,
        physical: false,
    };
    told.add("compact", kv.compact(compact(12)).await);
    told.add("compact again", kv.compact(compact(12)).await);
    told.add("compact earlier", kv.compact(compact(3)).await);
    told.add("compact the future", kv.compact(compact(999)).await);
    let at = |revision| pb::RangeRequest {
        revision,
        ..range("/p/", "/p0")
    };
    told.add("read there", kv.range(at(12)).await);
    told.add("read before", kv.range(at(11)).await);
    let inside = pb::TxnRequest {
        success: vec![op(Asked::RequestPut(put("/x", "1"))), op(Asked::RequestRange(at(11)))],
        ..Default::default()
    };
    told.add("read before, within", kv.txn(inside).await);
    let mut watching = Watching::begin(channel, follow("/p/", "/p0", 11)).await;
    watching.told(told, "watch before").await;
    watching.told(told, "it ended").await;
}

/// A program that serves, killed when it is no longer needed.
struct Program {
    child: std::process::Child,
    _dir: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn etcd(path: &str) -> (Program, Channel) {
    let dir = tempfile::tempdir().expect("directory");
    let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("bound"));
    let [client, peer] = ports.map(|p| format!("http://{}", p.local_addr().expect("address")));
    let child = std::process::Command::new(path)
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
        .spawn()
        .expect("etcd starts");
    let program = Program { child, _dir: dir };
    let channel = Channel::from_shared(client).expect("address").connect_lazy();
    for _ in 0..100 {
        if KvClient::new(channel.clone()).range(range("a", "")).await.is_ok() {
            return (program, channel);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{path} does not serve");
}

async fn ask(channel: &Channel) -> String {
    let mut told = Told::default();
    writes_of_an_api_server(channel, &mut told).await;
    pages(channel, &mut told).await;
    leases(channel, &mut told).await;
    watches(channel, &mut told).await;
    compaction(channel, &mut told).await;
    told.0
}

#[tokio::test]
async fn clients_are_answered_as_by_etcd() {
    let etcds = std::env::var("SKIFF_ETCD").ok();
    if let (Some(path), true) = (&etcds, std::env::var_os("UPDATE_EXPECT").is_some()) {
        let (_program, channel) = etcd(path).await;
        std::fs::write(EXPECTED, ask(&channel).await).expect("written");
    }
    let expected = std::fs::read_to_string(EXPECTED).expect("what etcd answers");
    let server = serve().await;
    let told = ask(&server.channel).await;
    for (at, (here, there)) in told.lines().zip(expected.lines()).enumerate() {
        assert_eq!(here, there, "line {}", at + 1);
    }
    assert_eq!(told.lines().count(), expected.lines().count());
}
