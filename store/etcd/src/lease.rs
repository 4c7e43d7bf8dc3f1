//! Leases.

use crate::{Etcd, error};
use futures::StreamExt;
use futures::stream::BoxStream;
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_store::{LeaseId, Refused, Store, StoreError};
use tonic::{Code, Request, Response, Status, Streaming};

/// etcd's longest life of a lease, in seconds. The store's ends before it.
const TTL_MAX: i64 = 9_000_000_000;

fn absent(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused(Refused::LeaseNotFound(_)))
}

impl Etcd {
    fn header_now(&self) -> Option<pb::ResponseHeader> {
        self.header(self.store.snapshot().revision())
    }

    /// A lease that is not there lives for no time.
    async fn kept_alive(&self, id: LeaseId) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let ttl = match self.store.lease_keep_alive(id).await {
            Ok(granted) => granted.as_secs() as i64,
            Err(error) if absent(&error) => 0,
            Err(error) => return Err(error::of(error)),
        };
        Ok(pb::LeaseKeepAliveResponse {
            header: self.header_now(),
            id,
            ttl,
        })
    }
}

#[tonic::async_trait]
impl pb::lease_server::Lease for Etcd {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        if request.ttl > TTL_MAX {
            return Err(error::etcd(Code::OutOfRange, "too large lease TTL"));
        }
        // etcd takes them; its clients choose none.
        if request.id < 0 {
            return Err(error::etcd(Code::InvalidArgument, "lease ID must not be negative"));
        }
        let ttl = u32::try_from(request.ttl.max(0)).unwrap_or(u32::MAX);
        let lease = self.store.lease_grant(request.id, ttl).await.map_err(error::of)?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: self.header_now(),
            id: lease.id,
            ttl: i64::from(lease.ttl_s),
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        let revoked = self.store.lease_revoke(id).await.map_err(error::of)?;
        let header = self.header(revoked.revision);
        Ok(Response::new(pb::LeaseRevokeResponse { header }))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let etcd = self.clone();
        let answers = request.into_inner().then(move |request| {
            let etcd = etcd.clone();
            async move { etcd.kept_alive(request?.id).await }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let mut response = pb::LeaseTimeToLiveResponse {
            header: self.header_now(),
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        match self.store.lease_time_to_live(request.id).await {
            Ok((time, keys)) => {
                response.ttl = time.left.as_secs() as i64;
                response.granted_ttl = time.granted.as_secs() as i64;
                response.keys = if request.keys { keys } else { Vec::new() };
            }
            Err(error) if absent(&error) => {}
            Err(error) => return Err(error::of(error)),
        }
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self
            .store
            .leases()
            .into_iter()
            .map(|lease| pb::LeaseStatus { id: lease.id });
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: self.header_now(),
            leases: leases.collect(),
        }))
    }
}
