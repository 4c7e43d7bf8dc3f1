//! `web`: a small HTTP/1.1 server for demos and tests. It answers with the
//! host name and an echo of the request, so that load balancing can be seen.
//!
//! | path | answer |
//! |---|---|
//! | `/` and others | host name, client address, request line and headers |
//! | `/hostname` | the host name alone |
//! | `/healthz` | `ok`, or 503 after `/fail` |
//! | `/fail`, `/heal` | makes `/healthz` fail, or succeed again |
//! | `/metrics` | requests served, in Prometheus' text format |
//! | `/slow?ms=N` | `ok` after N milliseconds (at most 60,000) |
//! | `/crash?code=N` | ends the process with that exit code (default 1) |
//! | `/env`, `/file?path=P` | the environment, or a file of at most 1 MiB |
//! | `/exit` | ends the process with code 0 |
//!
//! The port is `$PORT`, or the first argument, or 8080. SIGTERM ends it at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

static HEALTHY: AtomicBool = AtomicBool::new(true);
static SERVED: AtomicU64 = AtomicU64::new(0);

/// Longest request line or header line read; longer ones end the connection.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// Headers of one request; browsers send about twenty.
const HEADERS_MAX: usize = 100;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const SLOW_MS_MAX: u64 = 60_000;
/// Connections are threads; a demo that needs more should scale out.
const CONNECTIONS_MAX: u64 = 1_000;

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<String>,
    body: Vec<u8>,
    keep_alive: bool,
}

extern "C" fn exit_now(_signal: libc::c_int) {
    // SAFETY: _exit is async-signal-safe and ends the process.
    unsafe { libc::_exit(0) }
}

fn main() {
    // SAFETY: the handler only calls _exit.
    unsafe {
        libc::signal(libc::SIGTERM, exit_now as *const () as libc::sighandler_t);
        libc::signal(libc::SIGINT, exit_now as *const () as libc::sighandler_t);
    }
    let port = std::env::args()
        .nth(1)
        .or_else(|| std::env::var("PORT").ok())
        .and_then(|text| text.parse::<u16>().ok())
        .unwrap_or(8080);
    // Dual-stack where the kernel has IPv6, else IPv4.
    let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("web: cannot listen on port {port}: {error}");
            std::process::exit(1);
        }
    };
    println!("web: {} listens on port {port}", host_name());
    for stream in listener.incoming().flatten() {
        if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        std::thread::spawn(move || {
            // A client that went away is no news.
            let _ = serve(stream);
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_string()
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let peer = stream.peer_addr()?.to_string();
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader)? {
        SERVED.fetch_add(1, Ordering::Relaxed);
        println!("{peer} {} {}", request.method, request.path);
        let (status, body) = answer(&request, &peer);
        let connection = if request.keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        writer.write_all(head.as_bytes())?;
        if request.method != "HEAD" {
            writer.write_all(&body)?;
        }
        if !request.keep_alive {
            break;
        }
    }
    Ok(())
}

fn read_line(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_string()))
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let Some(first) = read_line(reader)? else {
        return Ok(None);
    };
    let mut parts = first.split(' ');
    let method = parts.next().unwrap_or_default().to_string();
    let target = parts.next().unwrap_or("/").to_string();
    let mut keep_alive = parts.next() == Some("HTTP/1.1");
    let mut headers = Vec::new();
    let mut length = 0usize;
    while let Some(line) = read_line(reader)? {
        if line.is_empty() {
            break;
        }
        if headers.len() == HEADERS_MAX {
            return Ok(None);
        }
        if let Some((name, value)) = line.split_once(':') {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().unwrap_or(0);
            }
            if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
                keep_alive = false;
            }
        }
        headers.push(line);
    }
    let mut body = vec![0; length.min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body)?;
    if length > BODY_BYTES_MAX {
        keep_alive = false;
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Ok(Some(Request {
        method,
        path: path.to_string(),
        query: query.to_string(),
        headers,
        body,
        keep_alive,
    }))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn answer(request: &Request, peer: &str) -> (&'static str, Vec<u8>) {
    let ok = "200 OK";
    match request.path.as_str() {
        "/healthz" if HEALTHY.load(Ordering::Relaxed) => (ok, b"ok\n".to_vec()),
        "/healthz" => ("503 Service Unavailable", b"failing on request\n".to_vec()),
        "/fail" => {
            HEALTHY.store(false, Ordering::Relaxed);
            (ok, b"unhealthy from now on\n".to_vec())
        }
        "/heal" => {
            HEALTHY.store(true, Ordering::Relaxed);
            (ok, b"healthy again\n".to_vec())
        }
        "/hostname" => (ok, format!("{}\n", host_name()).into_bytes()),
        "/metrics" => {
            let served = SERVED.load(Ordering::Relaxed);
            let text = format!(
                "# HELP web_requests_total Requests served.\n# TYPE web_requests_total counter\nweb_requests_total {served}\n"
            );
            (ok, text.into_bytes())
        }
        "/slow" => {
            let ms = parameter(&request.query, "ms")
                .and_then(|text| text.parse().ok())
                .unwrap_or(1_000u64);
            std::thread::sleep(Duration::from_millis(ms.min(SLOW_MS_MAX)));
            (ok, b"ok\n".to_vec())
        }
        "/crash" => {
            eprintln!("web: crashing on request");
            std::process::exit(
                parameter(&request.query, "code")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(1),
            );
        }
        "/exit" => std::process::exit(0),
        "/env" => {
            let mut lines: Vec<String> = std::env::vars()
                .map(|(name, value)| format!("{name}={value}\n"))
                .collect();
            lines.sort();
            (ok, lines.concat().into_bytes())
        }
        "/file" => match parameter(&request.query, "path").map(std::fs::File::open) {
            Some(Ok(file)) => {
                let mut content = Vec::new();
                let _ = file.take(BODY_BYTES_MAX as u64).read_to_end(&mut content);
                (ok, content)
            }
            Some(Err(error)) => ("404 Not Found", format!("{error}\n").into_bytes()),
            None => ("400 Bad Request", b"say which: /file?path=/etc/hosts\n".to_vec()),
        },
        _ => (ok, echo(request, peer)),
    }
}

fn echo(request: &Request, peer: &str) -> Vec<u8> {
    let mut text = format!(
        "Hello from {}\nclient: {peer}\n{} {}",
        host_name(),
        request.method,
        request.path
    );
    if !request.query.is_empty() {
        text += &format!("?{}", request.query);
    }
    text.push('\n');
    for header in &request.headers {
        text += header;
        text.push('\n');
    }
    let mut out = text.into_bytes();
    if !request.body.is_empty() {
        out.push(b'\n');
        out.extend_from_slice(&request.body);
    }
    out
}
