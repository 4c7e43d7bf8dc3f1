//! Connections of probes, and what is said of those that fail, in Go's words.

use std::io::ErrorKind;
use tokio::net::TcpStream;

pub type Deadline = tokio::time::Instant;

pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

pub async fn tcp(host: &str, port: u16, deadline: Deadline) -> Result<TcpStream, String> {
    let shown = address(host, port);
    let because = |why: &str| format!("dial tcp {shown}: {why}");
    match tokio::time::timeout_at(deadline, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            ErrorKind::ConnectionRefused => because("connect: connection refused"),
            ErrorKind::HostUnreachable => because("connect: no route to host"),
            ErrorKind::NetworkUnreachable => because("connect: network is unreachable"),
            ErrorKind::TimedOut => because("connect: connection timed out"),
            _ if error.raw_os_error().is_none() => format!("dial tcp: lookup {host}: no such host"),
            _ => because(&error.to_string()),
        }),
        Err(_) => Err(because("i/o timeout")),
    }
}
