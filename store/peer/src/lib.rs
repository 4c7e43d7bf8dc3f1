//! gRPC between the servers of a cluster: carries the store's messages. Owns the
//! connections; knows nothing of what is in the messages, nor of who may connect: the
//! dialler given to `Grpc` and the listener in front of `service` do TLS.

mod client;
mod server;

pub use client::{Dial, Grpc, Io};
pub use server::{PeerServer, service};
