//! Probes and lifecycle hooks: one task per probe of a running container, which
//! reports only changes.

use crate::pod::node::Shared;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Counts results against the thresholds. Pure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    run: i32,
    last: Option<bool>,
    reported: Option<bool>,
}

impl Counter {
    /// The new verdict when it has just changed.
    pub fn count(&mut self, ok: bool, success_threshold: i32, failure_threshold: i32) -> Option<bool> {
        self.run = if self.last == Some(ok) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(ok);
        let threshold = if ok { success_threshold } else { failure_threshold };
        if self.run < threshold || self.reported == Some(ok) {
            return None;
        }
        self.reported = Some(ok);
        Some(ok)
    }
}

pub struct Target {
    pub shared: Arc<Shared>,
    pub container: Container,
    /// As it is counted.
    pub counted: crate::stats::own::Probe,
    pub container_id: String,
    pub ips: Vec<String>,
    /// How long the container has been running.
    pub age: Duration,
}

/// Each failure's text and each change of verdict.
pub type Told = (Option<bool>, Option<String>);

/// Runs until it is aborted; a startup probe ends with its first verdict.
pub async fn run<F: Future<Output = ()> + Send>(
    target: Target,
    kind: Kind,
    probe: Probe,
    told: impl Fn(Told) -> F + Send,
) {
    let seconds = |value: Option<i32>, default: u64| value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default);
    let period = Duration::from_secs(seconds(probe.period_seconds, 10).max(1));
    let timeout = Duration::from_secs(seconds(probe.timeout_seconds, 1).max(1));
    let mut counter = Counter::default();
    let delay = Duration::from_secs(seconds(probe.initial_delay_seconds, 0));
    tokio::time::sleep(delay.saturating_sub(target.age)).await;
    loop {
        let begun = std::time::Instant::now();
        let outcome = once(&target, &probe, timeout).await;
        crate::stats::own::probed(&target.counted, begun.elapsed(), outcome.is_ok());
        let success = probe.success_threshold.unwrap_or(1);
        let verdict = counter.count(outcome.is_ok(), success, probe.failure_threshold.unwrap_or(3));
        if verdict.is_some() || outcome.is_err() {
            told((verdict, outcome.err())).await;
        }
        if kind == Kind::Startup && verdict.is_some() {
            return;
        }
        tokio::time::sleep(period).await;
    }
}

async fn once(target: &Target, probe: &Probe, timeout: Duration) -> Result<(), String> {
    let container = &target.container;
    if let Some(exec) = &probe.exec {
        return run_command(&target.shared, &target.container_id, exec, timeout).await;
    }
    let work = async {
        if let Some(get) = &probe.http_get {
            http_get(get, container, &target.ips).await
        } else if let Some(tcp) = &probe.tcp_socket {
            tcp_open(tcp, container, &target.ips).await
        } else if let Some(grpc) = &probe.grpc {
            grpc_check(
                u16::try_from(grpc.port).unwrap_or(0),
                grpc.service.as_deref().unwrap_or_default(),
                &target.ips,
            )
            .await
        } else {
            Ok(())
        }
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()),
    }
}

async fn run_command(shared: &Shared, id: &str, exec: &ExecAction, timeout: Duration) -> Result<(), String> {
    let command = exec.command.clone().unwrap_or_default();
    match shared.runtime.exec(id, &command, timeout).await {
        Ok((0, _)) => Ok(()),
        // kubelet shows 10 KiB at most.
        Ok((_, output)) => Err(String::from_utf8_lossy(&output[..output.len().min(10 << 10)]).into_owned()),
        Err(error) => Err(error.chain()),
    }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let named = |name: &str| {
        let ports: &[ContainerPort] = container.ports.as_deref().unwrap_or_default();
        ports
            .iter()
            .find(|p| p.name.as_deref() == Some(name))
            .map(|p| p.container_port)
    };
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => named(text).or_else(|| text.parse().ok()),
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| format!("couldn't find port: {port:?}"))
}

async fn dial(host: Option<&str>, port: u16, ips: &[String]) -> Result<(TcpStream, String), String> {
    let host = host
        .filter(|h| !h.is_empty())
        .or(ips.first().map(String::as_str))
        .unwrap_or("127.0.0.1");
    let shown = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let stream = TcpStream::connect((host, port)).await;
    stream
        .map(|s| (s, shown.clone()))
        .map_err(|_| format!("dial tcp {shown}: connect: connection refused"))
}

async fn tcp_open(tcp: &TCPSocketAction, container: &Container, ips: &[String]) -> Result<(), String> {
    dial(tcp.host.as_deref(), port(&tcp.port, container)?, ips)
        .await
        .map(drop)
}

async fn http_get(get: &HTTPGetAction, container: &Container, ips: &[String]) -> Result<(), String> {
    let number = port(&get.port, container)?;
    let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let https = get.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("HTTPS"));
    let scheme = if https { "https" } else { "http" };
    let (mut stream, shown) = dial(get.host.as_deref(), number, ips).await.map_err(|e| {
        format!(
            "Get \"{scheme}://{}:{number}{path}\": {e}",
            ips.first().map_or("", String::as_str)
        )
    })?;
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    let has = |name: &str| {
        get.http_headers
            .iter()
            .flatten()
            .any(|h| h.name.eq_ignore_ascii_case(name))
    };
    for header in get.http_headers.iter().flatten() {
        request.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    for (name, value) in [
        ("Host", shown.as_str()),
        ("User-Agent", "kube-probe/1.36"),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ] {
        if !has(name) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    request.push_str("\r\n");
    let head = if https {
        let mut tls = crate::probe::tls::connect(stream, &shown).await?;
        exchange(&mut tls, &request).await
    } else {
        exchange(&mut stream, &request).await
    };
    let head = head.map_err(|e| format!("Get \"{scheme}://{shown}{path}\": {e}"))?;
    let code: u16 = head.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
    if (200..400).contains(&code) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {code}"))
    }
}

async fn exchange(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut buffer = [0; 512];
    // The status line is all that counts; no server needs more than 4 KiB to say it.
    while head.len() < 4 << 10 && !head.contains(&b'\n') {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim().to_owned())
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

async fn grpc_check(port: u16, service: &str, ips: &[String]) -> Result<(), String> {
    const SERVING: i32 = 1;
    let host = ips.first().map_or("127.0.0.1", String::as_str);
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{host}:{port}")).map_err(|e| e.to_string())?;
    let channel = endpoint
        .connect()
        .await
        .map_err(|e| format!("service unhealthy (connection failed: {e})"))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| e.to_string())?;
    let codec = tonic_prost::ProstCodec::<HealthRequest, HealthResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthRequest {
        service: service.to_owned(),
    });
    let answer = client
        .unary(request, path, codec)
        .await
        .map_err(|e| e.message().to_owned())?
        .into_inner();
    if answer.status == SERVING {
        Ok(())
    } else {
        Err(format!("service unhealthy (responded with {})", answer.status))
    }
}

/// A lifecycle hook; its time is the caller's to limit.
pub async fn hook(
    shared: &Shared,
    hook: &LifecycleHandler,
    container: &Container,
    id: &str,
    ips: &[String],
) -> Result<(), String> {
    /// A hook that runs longer than that is given up (preStop is cut by its grace before).
    const HOOK_MAX: Duration = Duration::from_secs(600);
    if let Some(exec) = &hook.exec {
        run_command(shared, id, exec, HOOK_MAX).await
    } else if let Some(get) = &hook.http_get {
        http_get(get, container, ips).await
    } else if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        Ok(())
    } else {
        Ok(())
    }
}

/// TLS as a probe uses it: encrypted, nobody's identity checked, as Kubernetes documents.
mod tls {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use std::sync::Arc;
    use tokio::net::TcpStream;

    #[derive(Debug)]
    struct Anyone(Arc<rustls::crypto::CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    pub async fn connect(stream: TcpStream, shown: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        let host = shown
            .rsplit_once(':')
            .map_or(shown, |(host, _)| host)
            .trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let mut counter = Counter::default();
        let mut seen = Vec::new();
        for ok in [false, false, true, false, false, false, false, true, true] {
            seen.push(counter.count(ok, 2, 3));
        }
        assert_eq!(
            seen,
            [None, None, None, None, None, Some(false), None, None, Some(true)]
        );
    }
}
