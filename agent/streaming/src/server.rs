//! The node's HTTPS endpoint: accepts, checks who calls, routes, answers.

use crate::access;
use crate::dial::{self, STREAM_PROTOCOL};
use crate::dialect::{self, Dialect};
use crate::error::EndpointError;
use crate::forward;
use crate::late::Late;
use crate::logs::{self, Followed, Notices};
use crate::remote;
use crate::route::{self, CHECKS, Route, Target};
use crate::runtime::{Caller, Runtime, Streams};
use crate::system_logs::{self, Shown};
use crate::tunnel;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::path::Path;
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

/// Serves until shutdown. `tls` must ask for client certificates and verify
/// them against the cluster's CA.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    runtime: Arc<dyn Runtime>,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let notices = Arc::new(Notices::default());
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
        let (acceptor, shutdown) = (acceptor.clone(), shutdown.clone());
        let node = Node {
            runtime: runtime.clone(),
            notices: notices.clone(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, acceptor, node) => {}
                () = shutdown.cancelled() => {}
            }
            drop(slot);
        });
    }
}

/// What answers are made from.
#[derive(Clone)]
struct Node {
    runtime: Arc<dyn Runtime>,
    notices: Arc<Notices>,
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, node: Node) {
    stream.set_nodelay(true).ok();
    let tls = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return,
    };
    let certificates = tls.get_ref().1.peer_certificates();
    let certified = certificates
        .and_then(|chain| access::named_by(chain.first()?))
        .map(Arc::new);
    let service = hyper::service::service_fn(move |request| {
        let (node, certified) = (node.clone(), certified.clone());
        async move { Ok::<_, Infallible>(respond(request, node, certified).await) }
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

async fn respond(request: Request<Incoming>, node: Node, certified: Option<Arc<Caller>>) -> Response<Body> {
    let answered = match admit(&request, &*node.runtime, certified).await {
        Ok(()) => match route::parse(request.uri().path(), request.uri().query().unwrap_or_default()) {
            Ok(route) => Box::pin(handle(route, request, node)).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| {
        let said = error.text();
        tracing::debug!(error = said, "a request failed");
        text(error.status(), &said)
    })
}

/// Who calls must be known, and allowed to do this with the node.
async fn admit(
    request: &Request<Incoming>,
    runtime: &dyn Runtime,
    certified: Option<Arc<Caller>>,
) -> Result<(), EndpointError> {
    let caller = match certified {
        Some(caller) => caller,
        None => {
            let header = request
                .headers()
                .get(AUTHORIZATION)
                .and_then(|value| value.to_str().ok());
            let token = header
                .and_then(|value| value.split_once(' '))
                .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
            let token = token.map(|(_, token)| token.trim()).filter(|token| !token.is_empty());
            let token = token.ok_or(EndpointError::Unauthorized)?;
            let caller = runtime.review_token(token).await?;
            Arc::new(caller.ok_or(EndpointError::Unauthorized)?)
        }
    };
    if access::is_trusted(&caller) {
        return Ok(());
    }
    let (verb, subresources) = (
        access::verb(request.method()),
        access::subresources(request.uri().path()),
    );
    for subresource in subresources {
        if runtime.may(&caller, verb, subresource).await? {
            return Ok(());
        }
    }
    Err(EndpointError::Forbidden(access::refusal(&caller, verb, subresources)))
}

async fn handle(route: Route, request: Request<Incoming>, node: Node) -> Result<Response<Body>, EndpointError> {
    let runtime = node.runtime;
    if !is_stream(&route) && !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return Err(EndpointError::Method("405: Method Not Allowed\n".into()));
    }
    match route {
        Route::Healthz { check, verbose } => Ok(health(&*runtime, check, verbose).await),
        Route::Pods => Ok(json(&runtime.pods().await)),
        Route::RunningPods => Ok(json(&runtime.running_pods().await)),
        Route::Configz => Ok(json(
            &serde_json::json!({"kubeletconfig": runtime.configuration().await}),
        )),
        Route::About(path) => Ok(about(&*runtime, path, request.headers())),
        Route::Summary { only_cpu_and_memory } => Ok(json(&runtime.summary(only_cpu_and_memory).await)),
        Route::Metrics(page) => Ok(prometheus(&runtime.metrics(page).await)),
        Route::SystemLogs(path) => system_log(runtime.system_logs(), &path).await,
        Route::Run { target, command } => {
            if *request.method() != Method::POST {
                return Err(EndpointError::Method("405: Method Not Allowed\n".into()));
            }
            let container = running(&runtime, &target).await?;
            let output = runtime.run(&container.id, &command).await?;
            let mut response = Response::new(full(output.into()));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            Ok(response)
        }
        Route::Logs {
            target,
            options,
            previous,
        } => {
            let container = find(&runtime, &target, previous).await?;
            let (sender, receiver) = mpsc::channel(LOG_CHUNKS_MAX);
            let now = jiff::Timestamp::now();
            let followed = Followed {
                runtime,
                notices: node.notices,
                container: container.id,
                path: container.log_path,
            };
            tokio::spawn(logs::stream(followed, options, now, sender));
            Ok(chunked(receiver, "text/plain"))
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
            port_forward(request, &url, &ports).await
        }
    }
}

fn is_stream(route: &Route) -> bool {
    matches!(
        route,
        Route::Exec { .. } | Route::Attach { .. } | Route::PortForward { .. }
    )
}

/// What is sent as it comes.
fn chunked(receiver: mpsc::Receiver<std::io::Result<Bytes>>, kind: &'static str) -> Response<Body> {
    let chunks = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn system_log(root: &Path, path: &str) -> Result<Response<Body>, EndpointError> {
    Ok(match system_logs::show(root, path).await? {
        Shown::Folder(page) => {
            let mut response = text(StatusCode::OK, &page);
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Shown::File(chunks) => chunked(chunks, "text/plain; charset=utf-8"),
    })
}

fn about(runtime: &dyn Runtime, path: &str, headers: &HeaderMap) -> Response<Body> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    match runtime.about(path, accept.unwrap_or_default()) {
        Ok((kind, said)) => {
            let mut response = text(StatusCode::OK, &said);
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        Err(why) => text(StatusCode::NOT_ACCEPTABLE, why),
    }
}

/// As upstream's health checks answer.
async fn health(runtime: &dyn Runtime, check: Option<&str>, verbose: bool) -> Response<Body> {
    let ailing = match check {
        Some("ping" | "log") => None,
        _ => runtime.ailment().await,
    };
    let Some(why) = ailing else {
        let named: String = CHECKS.iter().map(|name| format!("[+]{name} ok\n")).collect();
        return if verbose {
            text(StatusCode::OK, &format!("{named}healthz check passed\n"))
        } else {
            text(StatusCode::OK, "ok")
        };
    };
    if check.is_some() {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("internal server error: {why}\n"),
        );
    }
    let said = "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n";
    text(StatusCode::INTERNAL_SERVER_ERROR, said)
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
    let (response, protocol) = accept_websocket(request.headers(), &dialect::PROTOCOLS)?;
    let dialect = Dialect::of(protocol);
    let dialled = dial::spdy(url, [HeaderValue::from_static(remote::SPDY_PROTOCOL)]).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => {
                let client = remote::websocket(TokioIo::new(client)).await;
                if let Err(error) = remote::run(client, dialled.stream, streams, dialect, late).await {
                    tracing::debug!(error = error.text(), "a remote command broke off");
                }
            }
            Err(error) => tracing::debug!(%error, "a client did not take up its upgrade"),
        }
    });
    Ok(response)
}

async fn port_forward(
    mut request: Request<Incoming>,
    url: &str,
    ports: &[i32],
) -> Result<Response<Body>, EndpointError> {
    if !wants_websocket(request.headers()) {
        return spdy(request, url, None).await;
    }
    if !offered(request.headers()).contains(&tunnel::PORT_FORWARD_TUNNEL) {
        return forward_channels(request, url, ports).await;
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

/// For clients that speak in channels.
async fn forward_channels(
    mut request: Request<Incoming>,
    url: &str,
    ports: &[i32],
) -> Result<Response<Body>, EndpointError> {
    let ports: Vec<u16> = ports.iter().filter_map(|port| u16::try_from(*port).ok()).collect();
    if ports.is_empty() || ports.len() > forward::PORTS_MAX {
        return Err(EndpointError::BadRequest("query parameter \"port\" is required".into()));
    }
    let (response, protocol) = accept_websocket(request.headers(), &dialect::PROTOCOLS)?;
    let dialect = Dialect::of(protocol);
    let dialled = dial::spdy(url, [HeaderValue::from_static(tunnel::PORT_FORWARD)]).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => {
                let client = remote::websocket(TokioIo::new(client)).await;
                if let Err(error) = forward::run(client, dialled.stream, &ports, dialect).await {
                    tracing::debug!(error = error.text(), "forwarding ports broke off");
                }
            }
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

/// The subprotocols that a client offers.
fn offered(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
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
    let offered = offered(headers);
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
