//! The API for components in this process: the same handler, without socket and
//! TLS. Who calls is fixed when the service is made; no header can change it.

use crate::body::ApiBody;
use crate::handler::Peer;
use crate::serve;
use crate::server::ApiServer;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use skiff_access::UserInfo;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A `tower::Service` that calls the API as one user; give it to `kube::Client::new`.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<ApiServer>,
    user: Arc<UserInfo>,
}

impl ApiServer {
    /// The API as `user` sees it, for a component in this process.
    pub fn in_process(self: &Arc<Self>, user: UserInfo) -> InProcess {
        InProcess {
            server: self.clone(),
            user: Arc::new(user),
        }
    }
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ApiBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, user) = (self.server.clone(), self.user.clone());
        Box::pin(async move { Ok(serve::respond(&server, request, Peer::Process(user)).await) })
    }
}
