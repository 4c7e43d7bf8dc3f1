//! How the server is, its members, and a copy of all it has.

use crate::{ETCD_VERSION, Etcd, error};
use bytes::Bytes;
use futures::stream::BoxStream;
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_store::{KeyRange, RangeEnd, Snapshot, Store};
use tonic::{Code, Request, Response, Status};

fn hash(view: &dyn Snapshot) -> u32 {
    let all = KeyRange {
        start: Bytes::new(),
        end: RangeEnd::Open,
    };
    view.find(&all, 0).entries.iter().fold(0, |sum, entry| {
        let numbers = [entry.create_revision, entry.mod_revision, entry.version];
        let sum = crc32c::crc32c_append(sum, &entry.key);
        let sum = crc32c::crc32c_append(sum, &entry.record.body);
        numbers
            .iter()
            .fold(sum, |sum, n| crc32c::crc32c_append(sum, &n.to_be_bytes()))
    })
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Etcd {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.store.snapshot_linearizable().await.map_err(error::of)?;
        }
        let members = self.store.members().into_iter().map(|member| pb::Member {
            id: member.id,
            name: format!("server-{}", member.id),
            // One that is alone may have no address for others.
            peer_ur_ls: match member.address.is_empty() {
                true => Vec::new(),
                false => vec![format!("https://{}", member.address)],
            },
            // Each server knows only its own clients' address.
            client_ur_ls: match member.id == self.store.id() {
                true => vec![self.client_url.to_string()],
                false => Vec::new(),
            },
            is_learner: !member.voter,
        });
        Ok(Response::new(pb::MemberListResponse {
            header: self.header(self.store.snapshot().revision()),
            members: members.collect(),
        }))
    }
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Etcd {
    async fn alarm(&self, _request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        // There is no quota yet that could raise one.
        Ok(Response::new(pb::AlarmResponse {
            header: self.header(self.store.snapshot().revision()),
            alarms: Vec::new(),
        }))
    }

    async fn status(&self, _request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let progress = self.store.progress();
        let me = self.store.id();
        Ok(Response::new(pb::StatusResponse {
            header: self.header(self.store.snapshot().revision()),
            version: ETCD_VERSION.into(),
            db_size: progress.disk_bytes as i64,
            db_size_in_use: progress.disk_bytes as i64,
            leader: self.store.leader().unwrap_or(0),
            raft_index: progress.log_index,
            raft_term: progress.term,
            raft_applied_index: progress.applied_index,
            is_learner: self.store.members().iter().any(|m| m.id == me && !m.voter),
            storage_version: "3.6.0".into(),
            ..Default::default()
        }))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        // The log and the snapshots give back their space as they are replaced.
        let header = self.header(self.store.snapshot().revision());
        Ok(Response::new(pb::DefragmentResponse { header }))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let view = self.store.snapshot();
        Ok(Response::new(pb::HashResponse {
            header: self.header(view.revision()),
            hash: hash(&*view),
        }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let current = self.store.snapshot();
        let now = current.revision();
        let view = match u64::try_from(request.into_inner().revision).unwrap_or(0) {
            0 => current,
            revision => self.store.snapshot_at(revision).map_err(error::of)?,
        };
        Ok(Response::new(pb::HashKvResponse {
            header: self.header(now),
            hash: hash(&*view),
            compact_revision: self.store.compacted() as i64,
            hash_revision: view.revision() as i64,
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(&self, _request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::new(Code::Unimplemented, "snapshots cannot be streamed yet"))
    }
}
