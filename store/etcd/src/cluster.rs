//! The servers of the group. One joins by itself (`skiff server --join`), since it has to
//! be given the cluster's keys; here they are listed, promoted and removed.

use crate::{Etcd, error};
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_store::Store;
use tonic::{Code, Request, Response, Status};

fn not_found() -> Status {
    error::etcd(Code::NotFound, "member not found")
}

impl Etcd {
    fn listed(&self) -> Vec<pb::Member> {
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
        members.collect()
    }
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Etcd {
    async fn member_add(&self, _: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(Status::new(
            Code::FailedPrecondition,
            "a server joins by itself: start it with `skiff server --join`, which gives it the cluster's keys",
        ))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let id = request.into_inner().id;
        if !self.store.members().iter().any(|member| member.id == id) {
            return Err(not_found());
        }
        Err(Status::new(
            Code::FailedPrecondition,
            "a server that moved is removed, and joins again from its new address",
        ))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let id = request.into_inner().id;
        if !self.store.members().iter().any(|member| member.id == id) {
            return Err(not_found());
        }
        self.store.remove_member(id).await.map_err(error::of)?;
        Ok(Response::new(pb::MemberRemoveResponse {
            header: self.member_header(),
            members: self.listed(),
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let id = request.into_inner().id;
        let members = self.store.members();
        let member = members.iter().find(|member| member.id == id).ok_or_else(not_found)?;
        if member.voter {
            let why = "can only promote a learner member";
            return Err(error::etcd(Code::FailedPrecondition, why));
        }
        self.store.add_member(id, &member.address).await.map_err(error::of)?;
        Ok(Response::new(pb::MemberPromoteResponse {
            header: self.member_header(),
            members: self.listed(),
        }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.store.snapshot_linearizable().await.map_err(error::of)?;
        }
        Ok(Response::new(pb::MemberListResponse {
            header: self.member_header(),
            members: self.listed(),
        }))
    }
}
