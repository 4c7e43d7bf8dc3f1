//! Connections to a server with as little around them as can be: what the load generator takes of
//! the processors is taken from both servers, and hides the difference between them.

use anyhow::Result;
use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

/// For clients of tonic's: one HTTP/2 connection, without TLS. It is not made again when it breaks.
#[derive(Clone)]
pub struct Link {
    sender: http2::SendRequest<Body>,
    authority: Authority,
}

impl Link {
    pub async fn to(address: &str) -> Result<Link> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await?;
        // Ends with the server, or with the last handle; requests under way tell of it.
        tokio::spawn(connection.map(|_| ()));
        let authority = address.parse()?;
        Ok(Link { sender, authority })
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(self.authority.clone()));
        *request.uri_mut() = Uri::from_parts(parts).expect("a path is behind an authority");
        self.sender.send_request(request).boxed()
    }
}

/// For single requests, under load: gRPC in so few words.
#[derive(Clone)]
pub struct Bare {
    sender: h2::client::SendRequest<Bytes>,
    authority: Authority,
}

/// What stands in front of a message: whether it is compressed, and its length.
const FRAME: usize = 5;

fn broken(error: h2::Error) -> Status {
    Status::unavailable(error.to_string())
}

impl Bare {
    pub async fn to(address: &str) -> Result<Bare> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(4 << 20)
            .initial_connection_window_size(64 << 20);
        let (sender, connection) = builder.handshake(stream).await?;
        tokio::spawn(connection.map(|_| ()));
        let authority = address.parse()?;
        Ok(Bare { sender, authority })
    }

    /// Asks a method, given by its path.
    pub async fn ask<A: Message + Default>(self, path: &'static str, message: &impl Message) -> Result<A, Status> {
        let length = message.encoded_len();
        let mut framed = BytesMut::with_capacity(FRAME + length);
        framed.put_u8(0);
        framed.put_u32(length as u32);
        message
            .encode(&mut framed)
            .map_err(|e| Status::internal(e.to_string()))?;
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority)
            .path_and_query(PathAndQuery::from_static(path));
        let request = Request::post(uri.build().map_err(|e| Status::internal(e.to_string()))?)
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(())
            .map_err(|e| Status::internal(e.to_string()))?;
        let mut sender = self.sender.ready().await.map_err(broken)?;
        let (response, mut out) = sender.send_request(request, false).map_err(broken)?;
        out.send_data(framed.freeze(), true).map_err(broken)?;
        let (head, mut body) = response.await.map_err(broken)?.into_parts();
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(broken)?;
            let _ = body.flow_control().release_capacity(data.len());
            answer.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.map_err(broken)?.unwrap_or(head.headers);
        match Status::from_header_map(&trailers) {
            Some(status) if status.code() != tonic::Code::Ok => Err(status),
            _ => A::decode(answer.get(FRAME..).unwrap_or_default()).map_err(|e| Status::internal(e.to_string())),
        }
    }
}
