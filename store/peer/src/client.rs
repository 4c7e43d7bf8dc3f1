//! The asking side: one connection per peer and lane, made when it is first needed and
//! again when it broke.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use skiff_proto::peer::v1::Message;
use skiff_proto::peer::v1::peer_client::PeerClient;
use skiff_store::{Answers, Lane, Peer, Transport, Unreachable};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status, Streaming};

/// A connection that takes longer to make is given up.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A peer is asked whether it is still there while something is expected of it.
const ALIVE_EVERY: Duration = Duration::from_secs(2);

/// One message: a Raft append of many entries, or a piece of a snapshot.
pub(crate) const MESSAGE_MAX: usize = 64 << 20;

/// What a connection must be able to do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes a connection to `host:port`, secured as the cluster wants it.
pub type Dial = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Box<dyn Io>>> + Send + Sync>;

/// What a connection is for: questions, and each kind of stream, have their own.
type Purpose = (u64, String, Option<Lane>);

pub struct Grpc {
    dial: Dial,
    channels: Mutex<HashMap<Purpose, Channel>>,
}

impl Grpc {
    pub fn new(dial: Dial) -> Self {
        Grpc {
            dial,
            channels: Mutex::default(),
        }
    }

    /// A connection that makes itself, again if need be.
    fn client(&self, peer: &Peer, lane: Option<Lane>) -> PeerClient<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        // A peer that moved is not looked for where it was.
        channels.retain(|(id, address, _), _| *id != peer.id || *address == peer.address);
        let purpose = (peer.id, peer.address.clone(), lane);
        let channel = channels.entry(purpose).or_insert_with(|| self.connect(&peer.address));
        PeerClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX)
    }

    fn connect(&self, address: &str) -> Channel {
        let (dial, address) = (self.dial.clone(), address.to_owned());
        // The name is not looked at: the dialler knows where to go.
        Endpoint::from_static("http://peer.skiff")
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_EVERY)
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let dialled = dial(address.clone());
                async move { dialled.await.map(TokioIo::new) }
            }))
    }
}

fn why(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

fn bodies(answers: Streaming<Message>, peer: Peer) -> Answers {
    let bodies = answers.map(move |answer| match answer {
        Ok(message) => Ok(message.body),
        Err(status) => Err(Unreachable::new(&peer, why(&status))),
    });
    bodies.boxed()
}

/// A type of its own, which the compiler can follow through tonic's bounds.
struct Outgoing(BoxStream<'static, Message>);

impl Stream for Outgoing {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_next_unpin(cx)
    }
}

type Opened = Result<Response<Streaming<Message>>, Status>;

fn open(mut client: PeerClient<Channel>, lane: Lane, messages: Outgoing) -> BoxFuture<'static, Opened> {
    Box::pin(async move {
        match lane {
            Lane::Append => client.append(messages).await,
            Lane::Heartbeat => client.heartbeat(messages).await,
            Lane::Snapshot => client.snapshot(messages).await,
        }
    })
}

#[async_trait::async_trait]
impl Transport for Grpc {
    async fn call(&self, peer: &Peer, question: Bytes) -> Result<Bytes, Unreachable> {
        let answered = self.client(peer, None).ask(Message { body: question }).await;
        let answer = answered.map_err(|status| Unreachable::new(peer, why(&status)))?;
        Ok(answer.into_inner().body)
    }

    async fn stream(
        &self,
        peer: &Peer,
        lane: Lane,
        messages: BoxStream<'static, Bytes>,
    ) -> Result<Answers, Unreachable> {
        let messages = Outgoing(messages.map(|body| Message { body }).boxed());
        let opened = open(self.client(peer, Some(lane)), lane, messages).await;
        let answers = opened.map_err(|status| Unreachable::new(peer, why(&status)))?;
        Ok(bodies(answers.into_inner(), peer.clone()))
    }
}
