//! How the server is, who leads, and a copy of all it has.

use crate::{ETCD_VERSION, Etcd, error};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use pb::AlarmType;
use pb::alarm_request::AlarmAction;
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_store::{KeyRange, RangeEnd, Snapshot, Store};
use std::io::Read;
use tonic::{Code, Request, Response, Status};

/// etcd's number for it.
const NEVER_COMPACTED: i64 = -1;

/// Of a snapshot in one message.
const PIECE_BYTES: usize = 128 << 10;

fn hash(view: &dyn Snapshot) -> u32 {
    let all = KeyRange {
        start: Bytes::new(),
        end: RangeEnd::Open,
    };
    view.find(&all, 0).entries.iter().fold(0, |sum, entry| {
        let numbers = [entry.create_revision(), entry.mod_revision(), entry.version()];
        let sum = crc32c::crc32c_append(sum, entry.key());
        let sum = crc32c::crc32c_append(sum, entry.body());
        numbers
            .iter()
            .fold(sum, |sum, n| crc32c::crc32c_append(sum, &n.to_be_bytes()))
    })
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Etcd {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let request = request.into_inner();
        let shown = |members: Vec<u64>| -> Vec<pb::AlarmMember> {
            let shown = members.into_iter().map(|member_id| pb::AlarmMember {
                member_id,
                alarm: AlarmType::Nospace as i32,
            });
            shown.collect()
        };
        // Only one kind is ever raised here; the other, of corruption, ends a server.
        let of_space = matches!(request.alarm(), AlarmType::None | AlarmType::Nospace);
        let raised = self.store.alarms();
        let named = |id: &u64| request.member_id == 0 || *id == request.member_id;
        let alarms = match request.action() {
            _ if !of_space => Vec::new(),
            AlarmAction::Get => shown(raised.into_iter().filter(named).collect()),
            AlarmAction::Activate => {
                self.store.set_alarm(request.member_id, true).await.map_err(error::of)?;
                shown(vec![request.member_id])
            }
            AlarmAction::Deactivate => {
                let gone: Vec<u64> = raised.into_iter().filter(named).collect();
                for id in &gone {
                    self.store.set_alarm(*id, false).await.map_err(error::of)?;
                }
                shown(gone)
            }
        };
        Ok(Response::new(pb::AlarmResponse {
            header: self.header(self.store.snapshot().revision()),
            alarms,
        }))
    }

    async fn status(&self, _request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let progress = self.store.progress();
        let me = self.store.id();
        Ok(Response::new(pb::StatusResponse {
            header: self.header(self.store.snapshot().revision()),
            version: ETCD_VERSION.into(),
            db_size: progress.disk_bytes as i64,
            // What monitors take for fragmentation is the first less the second.
            db_size_in_use: self.store.bytes().min(progress.disk_bytes) as i64,
            leader: self.store.leader().unwrap_or(0),
            raft_index: progress.log_index,
            raft_term: progress.term,
            raft_applied_index: progress.applied_index,
            is_learner: self.store.members().iter().any(|m| m.id == me && !m.voter),
            storage_version: "3.6.0".into(),
            errors: self
                .store
                .alarms()
                .iter()
                .map(|id| format!("memberID:{id} alarm:NOSPACE "))
                .collect(),
            ..Default::default()
        }))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.store.defragment().await.map_err(error::of)?;
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
            compact_revision: match self.store.compacted() {
                0 | 1 => NEVER_COMPACTED,
                revision => revision as i64,
            },
            hash_revision: view.revision() as i64,
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(&self, _request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let failed = |e: skiff_store::backup::BackupError| Status::new(Code::Unknown, e.to_string());
        let (file, about) = self.store.back_up_stream(ETCD_VERSION).await.map_err(failed)?;
        let header = self.header(about.revision);
        let pieces = futures::stream::try_unfold((file, about.bytes), move |(mut file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut blob = vec![0; usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES))];
                file.read_exact(&mut blob).map(|()| (file, blob))
            });
            let read = read.await.map_err(|e| Status::new(Code::Internal, e.to_string()))?;
            let (file, blob) = read.map_err(|e| Status::new(Code::Unknown, format!("reading the snapshot: {e}")))?;
            let left = left - blob.len() as u64;
            let response = pb::SnapshotResponse {
                header,
                remaining_bytes: left,
                blob: blob.into(),
                version: ETCD_VERSION.into(),
            };
            Ok(Some((response, (file, left))))
        });
        Ok(Response::new(pieces.boxed()))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let target = request.into_inner().target_id;
        let me = self.store.id();
        if self.store.leader() != Some(me) {
            return Err(error::etcd(Code::FailedPrecondition, "not leader"));
        }
        let members = self.store.members();
        if !members.iter().any(|member| member.id == target && member.voter) {
            return Err(error::etcd(Code::FailedPrecondition, "bad leader transferee"));
        }
        self.store.move_leader(target).await.map_err(error::of)?;
        let header = self.header(self.store.snapshot().revision());
        Ok(Response::new(pb::MoveLeaderResponse { header }))
    }
}
