//! The answering side: a gRPC service in front of the store's own.

use crate::client::MESSAGE_MAX;
use futures::StreamExt;
use futures::stream::BoxStream;
use skiff_proto::peer::v1::Message;
use skiff_proto::peer::v1::peer_server::Peer;
pub use skiff_proto::peer::v1::peer_server::PeerServer;
use skiff_store::{Lane, PeerService};
use tonic::{Request, Response, Status, Streaming};

/// The service to be mounted behind a listener that lets only servers of this cluster in.
pub fn service(store: PeerService) -> PeerServer<impl Peer> {
    PeerServer::new(Answering(store))
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX)
}

struct Answering(PeerService);

type Answers = BoxStream<'static, Result<Message, Status>>;

impl Answering {
    fn stream(&self, lane: Lane, request: Request<Streaming<Message>>) -> Result<Response<Answers>, Status> {
        // A stream that breaks just ends here: its sender knows.
        let messages = request.into_inner().scan((), |(), message| {
            std::future::ready(message.ok().map(|message| message.body))
        });
        let answers = self.0.stream(lane, messages.boxed());
        Ok(Response::new(answers.map(|body| Ok(Message { body })).boxed()))
    }
}

#[tonic::async_trait]
impl Peer for Answering {
    type AppendStream = Answers;
    type HeartbeatStream = Answers;
    type SnapshotStream = Answers;

    async fn ask(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let body = self.0.answer(request.into_inner().body).await;
        Ok(Response::new(Message { body }))
    }

    async fn append(&self, request: Request<Streaming<Message>>) -> Result<Response<Answers>, Status> {
        self.stream(Lane::Append, request)
    }

    async fn heartbeat(&self, request: Request<Streaming<Message>>) -> Result<Response<Answers>, Status> {
        self.stream(Lane::Heartbeat, request)
    }

    async fn snapshot(&self, request: Request<Streaming<Message>>) -> Result<Response<Answers>, Status> {
        self.stream(Lane::Snapshot, request)
    }
}
