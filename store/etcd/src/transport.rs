//! HTTP/2 connections to the face. One task carries a connection and all requests on it: answers
//! that are ready at the same time leave in one write, and none waits for another task's turn.
//! A task of its own for each request, as is usual, made a write and two wake-ups for each answer.
//!
//! ```text
//! socket ─► http2 connection ─► requests (a set of futures) ─► Etcd
//!    ◄──── one write for all that is ready ◄───┘
//! ```

use crate::{Etcd, REQUEST_MAX};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use pb::auth_server::AuthServer;
use pb::cluster_server::ClusterServer;
use pb::kv_server::KvServer;
use pb::lease_server::LeaseServer;
use pb::maintenance_server::MaintenanceServer;
use pb::watch_server::WatchServer;
use skiff_proto::etcd::etcdserverpb as pb;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

/// Requests and watches of one connection at a time. etcd sets no limit; this one is out of any client's way.
const STREAMS_MAX: u32 = 1 << 16;

/// What a client may send ahead on one stream, and on all of them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// All services of a server.
#[derive(Clone)]
struct Services {
    kv: KvServer<Etcd>,
    watch: WatchServer<Etcd>,
    lease: LeaseServer<Etcd>,
    cluster: ClusterServer<Etcd>,
    maintenance: MaintenanceServer<Etcd>,
    auth: AuthServer<Etcd>,
}

impl Services {
    fn new(etcd: &Etcd) -> Self {
        Services {
            kv: KvServer::new(etcd.clone()).max_decoding_message_size(REQUEST_MAX),
            watch: WatchServer::new(etcd.clone()),
            lease: LeaseServer::new(etcd.clone()),
            cluster: ClusterServer::new(etcd.clone()),
            maintenance: MaintenanceServer::new(etcd.clone()),
            auth: AuthServer::new(etcd.clone()),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Services are always ready, and a clone is a handle.
        match request.uri().path().split('/').nth(1).unwrap_or_default() {
            "etcdserverpb.KV" => self.kv.clone().call(request),
            "etcdserverpb.Watch" => self.watch.clone().call(request),
            "etcdserverpb.Lease" => self.lease.clone().call(request),
            "etcdserverpb.Cluster" => self.cluster.clone().call(request),
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request),
            "etcdserverpb.Auth" => self.auth.clone().call(request),
            other => {
                let status = Status::unimplemented(format!("unknown service {other}"));
                std::future::ready(Ok(status.into_http())).boxed()
            }
        }
    }
}

/// Takes the futures of a connection's requests, for the connection's task to carry.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Begun {
    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Begun {
    fn execute(&self, request: F) {
        // One that panics has told so in the log, and ends its own stream; the others go on.
        let request = AssertUnwindSafe(request).catch_unwind().map(|_| ());
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push(request.boxed());
    }
}

/// Carries a connection until it ends; told to, it takes no more and finishes what is under way.
async fn carry<C>(connection: C, services: Services, stopped: impl Future)
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = Begun::default();
    let connection = http2::Builder::new(begun.clone())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(connection), services);
    let (mut connection, mut stopped) = (pin!(connection), pin!(stopped.fuse()));
    let mut requests = FuturesUnordered::new();
    let ended = poll_fn(|cx| {
        if stopped.as_mut().poll(cx).is_ready() {
            connection.as_mut().graceful_shutdown();
        }
        // Answers first, so that the connection finds all of them.
        while let Poll::Ready(Some(())) = requests.poll_next_unpin(cx) {}
        let ended = connection.as_mut().poll(cx);
        let new = begun.take();
        if !new.is_empty() {
            requests.extend(new);
            while let Poll::Ready(Some(())) = requests.poll_next_unpin(cx) {}
        }
        ended
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a client's connection broke");
    }
}

/// Serves connections as they come, until told to stop or no more can come; then those that are there are finished.
pub async fn serve<C, E>(
    etcd: Etcd,
    connections: impl Stream<Item = Result<C, E>>,
    stop: impl Future<Output = ()> + Send + 'static,
) where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (services, stop) = (Services::new(&etcd), stop.shared());
    let (mut connections, mut stopped) = (pin!(connections), stop.clone());
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            next = connections.next() => match next {
                Some(Ok(connection)) => { carried.spawn(carry(connection, services.clone(), stop.clone())); }
                // It went away before it was there.
                Some(Err(_)) => {}
                None => break,
            },
            Some(_) = carried.join_next() => {}
            () = &mut stopped => break,
        }
    }
    while carried.join_next().await.is_some() {}
}
