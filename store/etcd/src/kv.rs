//! Reading, writing and compaction.

use crate::{Etcd, error, request, response};
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_store::{OpResult, Snapshot, Store, Txn, TxnResult};
use std::sync::Arc;
use tonic::{Request, Response, Status};

impl Etcd {
    async fn done(&self, txn: Txn) -> Result<TxnResult, Status> {
        self.store.txn(txn).await.map_err(error::of)
    }

    /// Does one operation; returns its result and the revision.
    async fn one(&self, op: skiff_store::Op) -> Result<(OpResult, u64), Status> {
        let txn = Txn {
            then: vec![op],
            ..Txn::default()
        };
        let mut result = self.done(txn).await?;
        Ok((result.results.pop().unwrap_or(OpResult::Got(None)), result.revision))
    }

    async fn view(&self, serializable: bool) -> Result<Arc<dyn Snapshot>, Status> {
        match serializable {
            true => Ok(self.store.snapshot()),
            false => self.store.snapshot_linearizable().await.map_err(error::of),
        }
    }
}

#[tonic::async_trait]
impl pb::kv_server::Kv for Etcd {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        request::check_range(&request)?;
        let current = self.view(request.serializable).await?;
        let now = current.revision();
        let query = request::query(&request);
        let view = match query.revision {
            0 => current,
            revision => self.store.snapshot_at(revision).map_err(error::of)?,
        };
        let mut found = match query.count_only {
            // Counted, not collected: an entry at most.
            true => view.find(&query.range, 1),
            false => view.find(&query.range, query.limit),
        };
        if query.count_only {
            found.entries.clear();
        }
        Ok(Response::new(response::range(self.header(now), &request, found)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        let (result, revision) = self.one(request::put(&request)?).await?;
        Ok(Response::new(response::put(self.header(revision), &request, result)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        let (result, revision) = self.one(request::delete(&request)?).await?;
        Ok(Response::new(response::delete(self.header(revision), &request, result)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        let result = self.done(request::txn(&request)?).await?;
        let header = self.header(result.revision);
        Ok(Response::new(response::txn(header, &request, result)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let revision = u64::try_from(request.into_inner().revision).unwrap_or(0);
        if revision <= self.store.compacted() && self.store.compacted() > 1 {
            return Err(error::compacted());
        }
        self.store.compact(revision).await.map_err(error::of)?;
        let header = self.header(self.store.snapshot().revision());
        Ok(Response::new(pb::CompactionResponse { header }))
    }
}
