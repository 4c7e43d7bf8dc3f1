//! A request as a probe or a hook makes it: one GET, its answer judged by its head.

use super::dial::{self, Deadline};
use super::tls;
use k8s_openapi::api::core::v1::HTTPHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Heads longer than this are no server's.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// As much of a body as an event shows.
const BODY_BYTES_MAX: usize = 10 << 10;
/// Where Go's client stops.
const REDIRECTS_MAX: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// With the query, beginning with a slash.
    pub path: String,
    /// Neither is written where the scheme says it already.
    port_written: bool,
}

impl Url {
    pub fn new(scheme: Option<&str>, host: &str, port: u16, path: Option<&str>) -> Self {
        let path = path.unwrap_or_default().split('#').next().unwrap_or_default();
        Self {
            https: scheme.is_some_and(|s| s.eq_ignore_ascii_case("https")),
            host: host.to_owned(),
            port,
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
            port_written: true,
        }
    }

    /// `host:port`, as the Host header has it.
    pub fn authority(&self) -> String {
        if self.port_written {
            dial::address(&self.host, self.port)
        } else if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    /// Where `location` leads from here; none when nowhere.
    fn follow(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let (scheme, rest) = match location.split_once("://") {
            Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => (scheme, Some(rest)),
            _ => (self.scheme(), location.strip_prefix("//")),
        };
        let Some(rest) = rest else {
            let path = if location.starts_with('/') {
                location.to_owned()
            } else if location.starts_with('?') {
                format!("{}{location}", self.path.split('?').next().unwrap_or_default())
            } else {
                let folder = self.path.split('?').next().unwrap_or_default();
                format!(
                    "{}/{location}",
                    folder.rsplit_once('/').map_or("", |(folder, _)| folder)
                )
            };
            return Some(Self { path, ..self.clone() });
        };
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority: http::uri::Authority = authority.parse().ok()?;
        let default = if https { 443 } else { 80 };
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Some(Self {
            https,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(default),
            path,
            port_written: authority.port_u16().is_some(),
        })
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

/// What of an answer counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// The request's text. Headers of the specification come before ours; an empty Accept
/// or User-Agent means none.
fn request(url: &Url, headers: &[HTTPHeader], agent: &str) -> String {
    let own = |name: &str| headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    let host = own("Host").map_or_else(|| url.authority(), |h| h.value.clone());
    let mut text = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n", url.path);
    for header in headers {
        let dropped = header.name.eq_ignore_ascii_case("Host")
            || (header.value.is_empty()
                && ["Accept", "User-Agent"]
                    .iter()
                    .any(|n| header.name.eq_ignore_ascii_case(n)));
        if !dropped {
            text.push_str(&format!("{}: {}\r\n", header.name, header.value));
        }
    }
    for (name, value) in [("User-Agent", agent), ("Accept", "*/*"), ("Connection", "close")] {
        if own(name).is_none() {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("\r\n");
    text
}

/// Status, Location and where the body begins.
fn head(bytes: &[u8]) -> Result<Option<(u16, Option<String>, usize)>, String> {
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first).trim_end_matches('\r').to_owned();
    let complete = bytes.contains(&b'\n');
    let Some(begin) = end_of_head(bytes) else {
        if complete && !first.starts_with("HTTP/") {
            return Err(format!(
                "net/http: HTTP/1.x transport connection broken: malformed HTTP response {first:?}"
            ));
        }
        return Ok(None);
    };
    let mut parts = first.split(' ');
    let version = parts.next().is_some_and(|v| v.starts_with("HTTP/"));
    let status = parts.next().filter(|c| c.len() == 3).and_then(|c| c.parse().ok());
    let Some(status) = status.filter(|_| version) else {
        return Err(format!(
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response {first:?}"
        ));
    };
    let text = String::from_utf8_lossy(&bytes[..begin]);
    let location = text.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("Location").then(|| value.trim().to_owned())
    });
    Ok(Some((status, location, begin)))
}

/// Behind the empty line. As Go's client, without the carriage returns that some scripts leave out.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut begin = 0;
    loop {
        let length = bytes[begin..].iter().position(|b| *b == b'\n')?;
        let line = &bytes[begin..begin + length];
        begin += length + 1;
        if line.is_empty() || line == b"\r" {
            return Some(begin);
        }
    }
}

async fn exchange(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    request: &str,
) -> Result<(Answer, Option<String>), String> {
    let told = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        std::io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        _ => e.to_string(),
    };
    stream.write_all(request.as_bytes()).await.map_err(told)?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let (status, location, begin) = loop {
        match head(&bytes)? {
            // Only the last of several answers is one.
            Some((100..=199, _, begin)) => {
                bytes.drain(..begin);
                continue;
            }
            Some(found) => break found,
            None if bytes.len() > HEAD_BYTES_MAX => return Err("the answer's head is too long".into()),
            None => {}
        }
        match stream.read(&mut buffer).await.map_err(told)? {
            0 if bytes.is_empty() => return Err("EOF".into()),
            0 => return Err("unexpected EOF".into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    // A body that breaks off changes nothing about the answer's status.
    while bytes.len() < begin + BODY_BYTES_MAX && status >= 300 {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    let body = &bytes[begin..bytes.len().min(begin + BODY_BYTES_MAX)];
    let body = String::from_utf8_lossy(body).into_owned();
    Ok((Answer { status, body }, location))
}

/// Follows redirects that stay on the host. The error is what Go's client says.
pub async fn get(url: &Url, headers: &[HTTPHeader], agent: &str, deadline: Deadline) -> Result<Answer, String> {
    let mut at = url.clone();
    for _ in 0..REDIRECTS_MAX {
        let late =
            || format!("Get \"{at}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
        let once = async {
            let mut stream = dial::tcp(&at.host, at.port, deadline).await?;
            let text = request(&at, headers, agent);
            if at.https {
                let mut stream = tls::connect(stream, &at.host).await?;
                exchange(&mut stream, &text).await
            } else {
                exchange(&mut stream, &text).await
            }
        };
        let (answer, location) = match tokio::time::timeout_at(deadline, once).await {
            Ok(outcome) => outcome.map_err(|e| format!("Get \"{at}\": {e}"))?,
            Err(_) => return Err(late()),
        };
        let redirected = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
        let next = location.filter(|_| redirected).map(|location| at.follow(&location));
        match next {
            Some(Some(next)) if next.host == url.host => at = next,
            _ => return Ok(answer),
        }
    }
    Err(format!("Get \"{at}\": stopped after {REDIRECTS_MAX} redirects"))
}

#[cfg(test)]
#[path = "http_test.rs"]
mod tests;
