//! Asks the host's name servers what the cluster does not know.

use super::cache::{Cache, Question};
use super::resolv;
use hickory_proto::op::Message;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// One server's time to answer; a client gives up after 5 s and asks again.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How often the file is looked at, when there are questions at all.
const RECHECK: Duration = Duration::from_secs(5);
const UDP_BYTES_MAX: usize = 4096;

struct Servers {
    checked: Option<Instant>,
    modified: Option<SystemTime>,
    list: Vec<IpAddr>,
}

pub struct Forwarder {
    resolv_conf: PathBuf,
    own: IpAddr,
    servers: Mutex<Servers>,
    cache: Mutex<Cache>,
}

impl Forwarder {
    pub fn new(resolv_conf: PathBuf, own: IpAddr) -> Forwarder {
        let servers = Servers {
            checked: None,
            modified: None,
            list: Vec::new(),
        };
        Forwarder {
            resolv_conf,
            own,
            servers: Mutex::new(servers),
            cache: Mutex::default(),
        }
    }

    /// The answer as a message; ID and question are those of `query`. None when
    /// no server answered.
    pub async fn ask(&self, query: &Message, raw: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let question = question(query)?;
        if let Some(mut found) = self.lock_cache().get(&question, Instant::now()) {
            found.metadata.id = query.metadata.id;
            found.metadata.recursion_desired = query.metadata.recursion_desired;
            found.queries.clone_from(&query.queries);
            if query.edns.is_none() {
                found.edns = None;
            }
            return found.to_vec().ok();
        }
        for server in self.name_servers() {
            let attempt = async {
                if tcp {
                    over_tcp(server, raw).await
                } else {
                    over_udp(server, raw).await
                }
            };
            if let Ok(Ok(mut answer)) = timeout(ATTEMPT, attempt).await {
                self.lock_cache().put(question, answer.clone(), Instant::now());
                answer[..2].copy_from_slice(&query.metadata.id.to_be_bytes());
                return Some(answer);
            }
        }
        None
    }

    fn lock_cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn name_servers(&self) -> Vec<IpAddr> {
        let mut servers = self.servers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if servers.checked.is_none_or(|at| at.elapsed() >= RECHECK) {
            servers.checked = Some(Instant::now());
            let modified = std::fs::metadata(&self.resolv_conf)
                .and_then(|meta| meta.modified())
                .ok();
            if modified != servers.modified || modified.is_none() {
                let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
                servers.list = resolv::name_servers(&text, self.own);
                servers.modified = modified;
            }
        }
        servers.list.clone()
    }
}

fn question(query: &Message) -> Option<Question> {
    let asked = query.queries.first()?;
    let dnssec = query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    let name = asked.name.to_ascii().to_ascii_lowercase();
    Some((name, asked.query_type.into(), asked.query_class.into(), dnssec))
}

/// Hard to guess for who cannot see our packets; the source port, which is
/// fresh for each question, adds as much again.
fn fresh_id() -> [u8; 2] {
    let hash = std::collections::hash_map::RandomState::new().build_hasher().finish();
    [(hash >> 16) as u8, hash as u8]
}

async fn over_udp(server: IpAddr, raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(SocketAddr::new(server, 53)).await?;
    let mut sent = raw.to_vec();
    let id = fresh_id();
    sent[..2].copy_from_slice(&id);
    socket.send(&sent).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], &id, raw) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(server: IpAddr, raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((server, 53)).await?;
    let id = fresh_id();
    let length = u16::try_from(raw.len()).map_err(std::io::Error::other)?;
    let mut sent = length.to_be_bytes().to_vec();
    sent.extend_from_slice(&id);
    sent.extend_from_slice(&raw[2..]);
    stream.write_all(&sent).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, &id, raw) {
        Ok(answer)
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

/// An answer to what was sent: its ID, and the same question.
fn answers(received: &[u8], id: &[u8; 2], sent: &[u8]) -> bool {
    if received.len() < 12 || received[..2] != *id || received[2] & 0x80 == 0 {
        return false;
    }
    // The question stands right behind the header, uncompressed, in both.
    let end = question_end(sent);
    end.is_some_and(|end| {
        received
            .get(12..end)
            .is_some_and(|echo| echo.eq_ignore_ascii_case(&sent[12..end]))
    })
}

fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match message.get(at)? {
            0 => return (at + 5 <= message.len()).then_some(at + 5),
            length => at += usize::from(*length) + 1,
        }
    }
}
