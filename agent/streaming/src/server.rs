//! The node's HTTPS endpoint: accepts, checks who calls, routes, answers.

use crate::dial::{self, STREAM_PROTOCOL};
use crate::error::EndpointError;
use crate::late::Late;
use crate::logs;
use crate::remote;
use crate::route::{self, Route, Target};
use crate::runtime::{Runtime, Streams};
use crate::tunnel;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{
    CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Connections at once; each costs a socket and a task.
const CONNECTIONS_MAX: usize = 1024;
/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Chunks of a log that wait for a slow reader.
const LOG_CHUNKS_MAX: usize = 4;
/// Common name of the API server's client certificate.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const ADMINISTRATORS: &str = "system:masters";

/// Serves until shutdown. `tls` must ask for client certificates and verify
/// them against the cluster's CA.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    runtime: Arc<dyn Runtime>,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: give others time to close theirs.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            continue;
        };
        let (acceptor, runtime, shutdown) = (acceptor.clone(), runtime.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, acceptor, runtime) => {}
                () = shutdown.cancelled() => {}
            }
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, runtime: Arc<dyn Runtime>) {
    stream.set_nodelay(true).ok();
    let tls = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return,
    };
    let allowed = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .is_some_and(|certificate| may_call(certificate));
    let service = hyper::service::service_fn(move |request| {
        let runtime = runtime.clone();
        async move { Ok::<_, Infallible>(respond(request, runtime, allowed).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HANDSHAKE_MAX)
        .serve_connection(TokioIo::new(tls), service)
        .with_upgrades();
    if let Err(error) = serving.await {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// The API server and administrators. TLS has verified the chain.
fn may_call(certificate: &[u8]) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    let subject = certificate.subject();
    subject.iter_common_name().any(|name| name.as_str() == Ok(API_SERVER))
        || subject
            .iter_organization()
            .any(|group| group.as_str() == Ok(ADMINISTRATORS))
}

async fn respond(request: Request<Incoming>, runtime: Arc<dyn Runtime>, allowed: bool) -> Response<Body> {
    let answered = match route::parse(request.uri().path(), request.uri().query().unwrap_or_default()) {
        Ok(Route::Healthz) => Ok(text(StatusCode::OK, "ok")),
        Ok(_) if !allowed => Err(EndpointError::Forbidden(
            "this client certificate may not use the node's endpoint".into(),
        )),
        Ok(route) => handle(route, request, runtime).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| {
        let said = error.text();
        tracing::debug!(error = said, "a request failed");
        text(error.status(), &said)
    })
}

async fn handle(
    route: Route,
    request: Request<Incoming>,
    runtime: Arc<dyn Runtime>,
) -> Result<Response<Body>, EndpointError> {
    match route {
        Route::Healthz => Ok(text(StatusCode::OK, "ok")),
        Route::Pods => Ok(json(&runtime.pods().await)),
        Route::Summary => Ok(json(&runtime.summary().await)),
        Route::Metrics => Ok(prometheus(&runtime.metrics().await)),
        Route::ResourceMetrics => Ok(prometheus(&runtime.resource_metrics().await)),
        Route::Logs {
            target,
            options,
            previous,
        } => {
            let container = find(&runtime, &target, previous).await?;
            let (sender, receiver) = mpsc::channel(LOG_CHUNKS_MAX);
            let now = jiff::Timestamp::now();
            tokio::spawn(logs::stream(
                runtime,
                container.id,
                container.log_path,
                options,
                now,
                sender,
            ));
            let chunks = futures::stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|chunk| (chunk, receiver))
            });
            let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)));
            let mut response = Response::new(BodyExt::boxed_unsync(body));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            Ok(response)
        }
        Route::Exec {
            target,
            command,
            streams,
        } => {
            let container = running(&runtime, &target).await?;
            let url = runtime.exec_url(&container.id, &command, streams).await?;
            remote_command(request, &url, streams, None).await
        }
        Route::Attach { target, streams } => {
            let container = running(&runtime, &target).await?;
            let url = runtime.attach_url(&container.id, streams).await?;
            let late = Late::of(runtime, &container, jiff::Timestamp::now());
            remote_command(request, &url, streams, late).await
        }
        Route::PortForward { namespace, pod, ports } => {
            let url = runtime.port_forward_url(&namespace, &pod, &ports).await?;
            port_forward(request, &url).await
        }
    }
}

async fn find(
    runtime: &Arc<dyn Runtime>,
    target: &Target,
    previous: bool,
) -> Result<crate::runtime::Container, EndpointError> {
    runtime
        .container(&target.namespace, &target.pod, &target.container, previous)
        .await
}

async fn running(runtime: &Arc<dyn Runtime>, target: &Target) -> Result<crate::runtime::Container, EndpointError> {
    let container = find(runtime, target, false).await?;
    if !container.running {
        return Err(EndpointError::BadRequest(format!(
            "container {:?} in pod {:?} is not running",
            target.container, target.pod
        )));
    }
    Ok(container)
}

async fn remote_command(
    mut request: Request<Incoming>,
    url: &str,
    streams: Streams,
    late: Option<Late>,
) -> Result<Response<Body>, EndpointError> {
    if !wants_websocket(request.headers()) {
        return spdy(request, url, late.map(|late| (streams, late))).await;
    }
    let (response, _) = accept_websocket(request.headers(), &remote::PROTOCOLS)?;
    let dialled = dial::spdy(url, [HeaderValue::from_static(remote::SPDY_PROTOCOL)]).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => {
                let client = remote::websocket(TokioIo::new(client)).await;
                if let Err(error) = remote::run(client, dialled.stream, streams, late).await {
                    tracing::debug!(error = error.text(), "a remote command broke off");
                }
            }
            Err(error) => tracing::debug!(%error, "a client did not take up its upgrade"),
        }
    });
    Ok(response)
}

async fn port_forward(mut request: Request<Incoming>, url: &str) -> Result<Response<Body>, EndpointError> {
    if !wants_websocket(request.headers()) {
        return spdy(request, url, None).await;
    }
    let (response, _) = accept_websocket(request.headers(), &[tunnel::PORT_FORWARD_TUNNEL])?;
    let dialled = dial::spdy(url, [HeaderValue::from_static(tunnel::PORT_FORWARD)]).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => tunnel::messages(remote::websocket(TokioIo::new(client)).await, dialled.stream).await,
            Err(error) => tracing::debug!(%error, "a client did not take up its upgrade"),
        }
    });
    Ok(response)
}

/// A SPDY client talks to the runtime itself, which picks the protocol.
async fn spdy(
    mut request: Request<Incoming>,
    url: &str,
    late: Option<(Streams, Late)>,
) -> Result<Response<Body>, EndpointError> {
    let wants = request
        .headers()
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("SPDY/3.1"));
    if !wants {
        return Err(EndpointError::BadRequest(
            "unable to upgrade: expected an upgrade to WebSocket or SPDY/3.1".into(),
        ));
    }
    let protocols: Vec<HeaderValue> = request.headers().get_all(STREAM_PROTOCOL).iter().cloned().collect();
    let dialled = dial::spdy(url, protocols).await?;
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in &dialled.headers {
        response.headers_mut().append(name, value.clone());
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => match late {
                Some((streams, late)) => {
                    let ids = remote::ids(streams);
                    tunnel::attach(TokioIo::new(client), dialled.stream, ids, late).await;
                }
                None => tunnel::bytes(TokioIo::new(client), dialled.stream).await,
            },
            Err(error) => tracing::debug!(%error, "a client did not take up its upgrade"),
        }
    });
    Ok(response)
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// The 101 answer with the best subprotocol that both sides know. A client that
/// offers none gets none.
fn accept_websocket(
    headers: &HeaderMap,
    known: &[&'static str],
) -> Result<(Response<Body>, Option<&'static str>), EndpointError> {
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| {
        EndpointError::BadRequest("unable to upgrade: the Sec-WebSocket-Key header is missing".into())
    })?;
    let offered: Vec<&str> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let chosen = known.iter().copied().find(|protocol| offered.contains(protocol));
    if chosen.is_none() && !offered.is_empty() {
        return Err(EndpointError::BadRequest(format!(
            "unable to upgrade: none of the protocols {offered:?} is known; the known ones are {known:?}"
        )));
    }
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|error| EndpointError::BadRequest(format!("unable to upgrade: {error}")))?;
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = chosen {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok((response, chosen))
}

fn empty() -> Body {
    full(Bytes::new())
}

fn full(bytes: Bytes) -> Body {
    BodyExt::boxed_unsync(Full::new(bytes).map_err(|never: Infallible| match never {}))
}

fn text(status: StatusCode, said: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::copy_from_slice(said.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn prometheus(said: &str) -> Response<Body> {
    let mut response = text(StatusCode::OK, said);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(value.to_string())));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
