//! The sockets at the cluster DNS address: UDP and TCP, port 53.
//!
//! Names of the cluster are answered in place, by the task that received them.
//! What has to be forwarded gets a task of its own, of which there is a bound.

use super::forward::Forwarder;
use super::zones::{self, Answer, Site, Zones};
use crate::config::NetworkConfig;
use crate::error::Error;
use crate::view::ClusterView;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::Record;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What fits one packet on every path (DNS flag day 2020).
const UDP_ANSWER_BYTES_MAX: u16 = 1232;
const UDP_QUERY_BYTES_MAX: usize = 4096;
/// Questions under way to the host's name servers: each holds a socket for seconds at most.
const FORWARDS_MAX: usize = 256;
const TCP_CONNECTIONS_MAX: usize = 128;
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Aliases followed for one question.
const ALIASES_MAX: usize = 4;

struct Server {
    zones: RwLock<Arc<Zones>>,
    forwarder: Forwarder,
    forwards: Arc<Semaphore>,
}

/// Binds, then answers until shutdown.
pub async fn start(
    config: &NetworkConfig,
    first: &Arc<ClusterView>,
    view: watch::Receiver<Arc<ClusterView>>,
    shutdown: CancellationToken,
) -> Result<Vec<JoinHandle<()>>, Error> {
    let address = SocketAddr::new(config.cluster_dns, 53);
    let failed = |source| Error::Dns {
        address: config.cluster_dns,
        source,
    };
    let udp = UdpSocket::bind(address).await.map_err(failed)?;
    let tcp = TcpListener::bind(address).await.map_err(failed)?;
    let site = Site {
        domain: config.cluster_domain.clone(),
        dns: config.cluster_dns,
        reverse_ranges: config
            .cluster_cidrs
            .iter()
            .chain(&config.service_cidrs)
            .copied()
            .collect(),
    };
    let server = Arc::new(Server {
        zones: RwLock::new(Arc::new(Zones::new(first.clone(), &site, 1))),
        forwarder: Forwarder::new(config.upstream_resolv_conf.clone(), config.cluster_dns),
        forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
    });
    let until = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! { () = shutdown.cancelled() => {}, () = work => {} }
        })
    };
    Ok(vec![
        until(Box::pin(follow(server.clone(), view, site))),
        until(Box::pin(serve_udp(server.clone(), Arc::new(udp)))),
        until(Box::pin(serve_tcp(server, tcp))),
    ])
}

async fn follow(server: Arc<Server>, mut view: watch::Receiver<Arc<ClusterView>>, site: Site) {
    let mut serial = 1;
    // The view may have moved between the first reading and this task's start.
    view.mark_changed();
    while view.changed().await.is_ok() {
        let now = view.borrow_and_update().clone();
        if server.zones().same(&now) {
            continue;
        }
        serial += 1;
        let zones = Arc::new(Zones::new(now, &site, serial));
        *server.zones.write().unwrap_or_else(PoisonError::into_inner) = zones;
    }
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; UDP_QUERY_BYTES_MAX];
    loop {
        // Errors here are echoes of earlier answers that a client did not want.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        match server.first_step(&buffer[..length]) {
            Step::Ignore => {}
            Step::Done(message, limit) => {
                if let Some(bytes) = encode(message, limit) {
                    let _ = socket.send_to(&bytes, client).await;
                }
            }
            Step::Elsewhere(work) => {
                let Ok(permit) = server.forwards.clone().try_acquire_owned() else {
                    continue;
                };
                let (server, socket, raw) = (server.clone(), socket.clone(), buffer[..length].to_vec());
                tokio::spawn(async move {
                    if let Some(bytes) = server.elsewhere(*work, &raw, false).await {
                        let _ = socket.send_to(&bytes, client).await;
                    }
                    drop(permit);
                });
            }
        }
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    let connections = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    // The client is gone or silent: nothing to say to it.
                    let _ = serve_stream(&server, stream).await;
                    drop(permit);
                });
            }
            // Out of descriptors: wait rather than spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve_stream(server: &Server, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        timeout(TCP_IDLE, stream.read_exact(&mut query)).await??;
        let answer = match server.first_step(&query) {
            Step::Ignore => return Ok(()),
            Step::Done(message, _) => encode(message, u16::MAX),
            Step::Elsewhere(work) => server.elsewhere(*work, &query, true).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else {
            return Ok(());
        };
        stream
            .write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())
            .await?;
    }
}

enum Step {
    /// Not a question: an answer to it could be made to circle for ever.
    Ignore,
    Done(Message, u16),
    Elsewhere(Box<Elsewhere>),
}

/// A question that needs other name servers.
struct Elsewhere {
    query: Message,
    limit: u16,
    /// Answered so far by aliases, and the name to ask for now.
    aliases: Option<(Message, hickory_proto::rr::Name)>,
}

impl Server {
    fn zones(&self) -> Arc<Zones> {
        self.zones.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn first_step(&self, raw: &[u8]) -> Step {
        let Ok(query) = Message::from_vec(raw) else {
            return malformed(raw);
        };
        if query.metadata.message_type != MessageType::Query {
            return Step::Ignore;
        }
        let limit = query.max_payload().min(UDP_ANSWER_BYTES_MAX);
        let mut reply = reply_to(&query);
        let refusal = if query.metadata.op_code != OpCode::Query {
            Some(ResponseCode::NotImp)
        } else if query.queries.len() != 1 {
            Some(ResponseCode::FormErr)
        } else if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            Some(ResponseCode::BADVERS)
        } else {
            None
        };
        if let Some(code) = refusal {
            reply.metadata.response_code = code;
            return Step::Done(reply, limit);
        }
        let zones = self.zones();
        let Query { name, query_type, .. } = &query.queries[0];
        let mut name = name.clone();
        for _ in 0..ALIASES_MAX {
            match zones::answer(&zones, &name, *query_type) {
                Answer::NotOurs if reply.answers.is_empty() => {
                    return Step::Elsewhere(Box::new(Elsewhere {
                        query,
                        limit,
                        aliases: None,
                    }));
                }
                Answer::NotOurs => {
                    return Step::Elsewhere(Box::new(Elsewhere {
                        query,
                        limit,
                        aliases: Some((reply, name)),
                    }));
                }
                Answer::Alias { record, target } => {
                    reply.add_answer(*record);
                    name = target;
                }
                Answer::Records { answers, additionals } => {
                    reply.add_answers(rotated(answers, query.metadata.id));
                    reply.add_additionals(additionals);
                    return Step::Done(reply, limit);
                }
                Answer::NoData => break,
                Answer::NoName => {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                    break;
                }
            }
        }
        reply.add_authority(zones.soa());
        Step::Done(reply, limit)
    }

    async fn elsewhere(&self, work: Elsewhere, raw: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let Elsewhere { query, limit, aliases } = work;
        let limit = if tcp { u16::MAX } else { limit };
        let Some((mut reply, target)) = aliases else {
            if let Some(answer) = self.forwarder.ask(&query, raw, tcp).await {
                if answer.len() <= usize::from(limit) {
                    return Some(answer);
                }
                return encode(Message::from_vec(&answer).ok()?, limit);
            }
            let mut reply = reply_to(&query);
            reply.metadata.authoritative = false;
            reply.metadata.response_code = ResponseCode::ServFail;
            return encode(reply, limit);
        };
        let mut next = Message::query();
        next.metadata.recursion_desired = true;
        next.add_query(Query::query(target, query.queries[0].query_type));
        let asked = next.to_vec().ok()?;
        let found = self.forwarder.ask(&next, &asked, tcp).await;
        // The alias is an answer, whatever is known of its target: so CoreDNS.
        if let Some(found) = found.and_then(|bytes| Message::from_vec(&bytes).ok()) {
            reply.add_answers(found.answers);
        }
        encode(reply, limit)
    }
}

fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_ANSWER_BYTES_MAX);
        reply.set_edns(edns);
    }
    reply
}

/// Spreads clients that take the first address over all.
fn rotated(mut answers: Vec<Record>, by: u16) -> Vec<Record> {
    if !answers.is_empty() {
        let by = usize::from(by) % answers.len();
        answers.rotate_left(by);
    }
    answers
}

fn malformed(raw: &[u8]) -> Step {
    match raw {
        [a, b, flags, _, _, _, _, _, _, _, _, _, ..] if flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*a, *b]);
            let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            Step::Done(reply, UDP_ANSWER_BYTES_MAX)
        }
        _ => Step::Ignore,
    }
}

fn encode(message: Message, limit: u16) -> Option<Vec<u8>> {
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    message.truncate().to_vec().ok()
}
