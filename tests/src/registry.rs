//! A small registry (OCI distribution, reading only): what the node's pulls are tested
//! against. It runs on a test host, plain or with TLS, open or with a password that is
//! sent as it is or exchanged for a token.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TOKEN: &str = "a-token-of-the-test";

/// How it is run; written as words of a command line.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub listen: String,
    /// An OCI archive: every image is this one, each with an id of its own.
    pub archive: PathBuf,
    /// `name:password`; everybody may read without.
    pub user: Option<String>,
    /// The password is exchanged for a token.
    pub token: bool,
    /// Certificate and key, in files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Gets a line for every request.
    pub log: Option<PathBuf>,
    /// `repository:tag` of each image.
    pub images: Vec<String>,
}

impl Options {
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![self.listen.clone(), self.archive.display().to_string()];
        let mut put = |flag: &str, values: &[String]| {
            words.push(flag.to_owned());
            words.extend_from_slice(values);
        };
        if let Some(user) = &self.user {
            put("--user", std::slice::from_ref(user));
        }
        if self.token {
            put("--token", &[]);
        }
        if let Some((certificate, key)) = &self.tls {
            put("--tls", &[certificate.display().to_string(), key.display().to_string()]);
        }
        if let Some(log) = &self.log {
            put("--log", &[log.display().to_string()]);
        }
        words.extend(self.images.iter().cloned());
        words
    }

    pub fn from_words(words: &[&str]) -> Result<Self> {
        let mut words = words.iter().map(|word| (*word).to_owned());
        let mut next = |what: &str| words.next().with_context(|| format!("{what} is missing"));
        let mut options = Self {
            listen: next("the address")?,
            archive: next("the archive")?.into(),
            ..Self::default()
        };
        while let Ok(word) = next("") {
            match word.as_str() {
                "--user" => options.user = Some(next("NAME:PASSWORD")?),
                "--token" => options.token = true,
                "--tls" => options.tls = Some((next("the certificate")?.into(), next("the key")?.into())),
                "--log" => options.log = Some(next("the log")?.into()),
                _ => options.images.push(word),
            }
        }
        ensure!(!options.images.is_empty(), "no image is named");
        Ok(options)
    }
}

struct Registry {
    /// `repository/tag` or `repository/digest` of manifests.
    manifests: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
    user: Option<String>,
    token: bool,
    scheme: &'static str,
    log: Option<Mutex<std::fs::File>>,
}

/// Serves until it is killed.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Options) -> Result<()> {
    let mut registry = Registry {
        manifests: BTreeMap::new(),
        blobs: read_blobs(&options.archive)?,
        user: options.user.clone(),
        token: options.token,
        scheme: if options.tls.is_some() { "https" } else { "http" },
        log: match &options.log {
            Some(path) => Some(Mutex::new(std::fs::File::create(path)?)),
            None => None,
        },
    };
    for name in &options.images {
        registry.add(name)?;
    }
    let registry = Arc::new(registry);
    let tls = options.tls.as_ref().map(acceptor).transpose()?;
    let address: SocketAddr = options.listen.parse().context("the address to listen on")?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (registry, tls) = (registry.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => answer_all(registry, stream).await,
                // A client that does not trust the certificate goes away.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer_all(registry, stream).await;
                    }
                }
            }
        });
    }
}

async fn answer_all(registry: Arc<Registry>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(move |request: Request<Incoming>| {
        let registry = registry.clone();
        async move { Ok::<_, std::convert::Infallible>(registry.answer(&request)) }
    });
    let http = hyper::server::conn::http1::Builder::new();
    // Whatever a client does, the next one is served.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn acceptor((certificate, key): &(PathBuf, PathBuf)) -> Result<tokio_rustls::TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config).into())
}

fn read_blobs(archive: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let file = std::fs::File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let mut blobs = BTreeMap::new();
    for entry in tar::Archive::new(file).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if let Some(digest) = path.strip_prefix("blobs/sha256/") {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            blobs.insert(format!("sha256:{digest}"), content);
        }
    }
    Ok(blobs)
}

fn digest(content: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, content);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Registry {
    /// The archive's image with the name as a label, thus with another id.
    fn add(&mut self, name: &str) -> Result<()> {
        let (repository, tag) = name.split_once(':').context("an image is repository:tag")?;
        let parsed = self
            .blobs
            .values()
            .filter_map(|blob| serde_json::from_slice::<Value>(blob).ok());
        let mut manifest = parsed
            .into_iter()
            .find(|value| value["mediaType"] == MANIFEST)
            .context("the archive has no manifest")?;
        let old = manifest["config"]["digest"].as_str().unwrap_or_default();
        let mut config: Value = serde_json::from_slice(self.blobs.get(old).context("the archive has no config")?)?;
        config["config"]["Labels"] = json!({"name": name});
        let config = config.to_string().into_bytes();
        manifest["config"]["digest"] = digest(&config).into();
        manifest["config"]["size"] = config.len().into();
        self.blobs.insert(digest(&config), config);
        let manifest = manifest.to_string().into_bytes();
        for reference in [tag.to_owned(), digest(&manifest)] {
            self.manifests
                .insert(format!("{repository}/{reference}"), manifest.clone());
        }
        Ok(())
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (path, user) = (request.uri().path(), basic(request));
        let allowed = match &self.user {
            None => true,
            Some(_) if self.token => header(request, AUTHORIZATION) == format!("Bearer {TOKEN}"),
            Some(wanted) => user.as_ref() == Some(wanted),
        };
        let result = if path == "/token" {
            self.give_token(user.as_deref())
        } else if !allowed {
            Err(StatusCode::UNAUTHORIZED)
        } else {
            self.find(path).ok_or(StatusCode::NOT_FOUND)
        };
        let status = result.as_ref().err().copied().unwrap_or(StatusCode::OK);
        if let Some(log) = &self.log {
            let whose = user.as_deref().and_then(|u| u.split(':').next()).unwrap_or("-");
            let line = format!("{} {path} {} {whose}\n", request.method(), status.as_u16());
            if let Ok(mut file) = log.lock() {
                let _ = file.write_all(line.as_bytes());
            }
        }
        let response = Response::builder().status(status);
        let built = match result {
            Ok((kind, content)) => {
                let response = response
                    .header(CONTENT_TYPE, kind)
                    .header(CONTENT_LENGTH, content.len())
                    .header("Docker-Content-Digest", digest(&content));
                let body = if request.method() == Method::HEAD {
                    Vec::new()
                } else {
                    content
                };
                response.body(Full::new(Bytes::from(body)))
            }
            Err(StatusCode::UNAUTHORIZED) if path != "/token" => response
                .header(WWW_AUTHENTICATE, self.challenge(request))
                .body(Full::default()),
            Err(_) => response.body(Full::default()),
        };
        built.unwrap_or_default()
    }

    fn give_token(&self, user: Option<&str>) -> Result<(&'static str, Vec<u8>), StatusCode> {
        if user.is_some() && user == self.user.as_deref() {
            Ok(("application/json", json!({"token": TOKEN}).to_string().into_bytes()))
        } else {
            Err(StatusCode::UNAUTHORIZED)
        }
    }

    fn challenge(&self, request: &Request<Incoming>) -> String {
        if self.token {
            let host = header(request, HOST);
            format!("Bearer realm=\"{}://{host}/token\",service=\"test\"", self.scheme)
        } else {
            "Basic realm=\"test\"".to_owned()
        }
    }

    /// Media type and content.
    fn find(&self, path: &str) -> Option<(&'static str, Vec<u8>)> {
        let path = path.strip_prefix("/v2/")?;
        if path.is_empty() {
            return Some(("application/json", b"{}".to_vec()));
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            let content = self.manifests.get(&format!("{repository}/{reference}"))?;
            return Some((MANIFEST, content.clone()));
        }
        let (_, wanted) = path.split_once("/blobs/")?;
        Some(("application/octet-stream", self.blobs.get(wanted)?.clone()))
    }
}

fn header(request: &Request<Incoming>, name: hyper::header::HeaderName) -> String {
    let value = request.headers().get(name).and_then(|v| v.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// `name:password` as the client sent it.
fn basic(request: &Request<Incoming>) -> Option<String> {
    let value = header(request, AUTHORIZATION);
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(value.strip_prefix("Basic ")?)
        .ok()?;
    String::from_utf8(bytes).ok()
}
