//! The PKI on disk: loads what is there, makes what is missing, renews what is
//! old. Keys are written 0600, certificates 0644, each by rename, so that a
//! crash leaves either the old or the new file.

use super::PkiError;
use super::ca::{CERTIFICATE_LIFETIME, Ca, CertificateRequest, Freshness, Identity, Usage, freshness, validity};
use crate::authentication::ServiceAccountKey;
use jiff::Timestamp;
use rcgen::KeyPair;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What the certificates are made for.
#[derive(Debug, Clone, Default)]
pub struct PkiOptions {
    pub dir: PathBuf,
    pub cluster_domain: String,
    pub host_name: String,
    /// Addresses of this machine that clients use.
    pub node_ips: Vec<IpAddr>,
    /// First address of each service range: the `kubernetes` Service.
    pub service_ips: Vec<IpAddr>,
    /// Further names and addresses for the serving certificate.
    pub extra_names: Vec<String>,
}

/// Everything a server needs.
pub struct Pki {
    pub ca: Ca,
    pub front_proxy_ca: Ca,
    /// Serves the API; leaf, then CA.
    pub server: Identity,
    pub admin: Identity,
    /// Dials the nodes' endpoints.
    pub kubelet_client: Identity,
    /// Dials extension API servers.
    pub front_proxy_client: Identity,
    pub service_account_key_pem: String,
}

impl Pki {
    pub fn open(options: &PkiOptions, now: Timestamp) -> Result<Pki, PkiError> {
        let dir = &options.dir;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| PkiError::Write {
                path: dir.clone(),
                source,
            })?;
        // On a first start thirteen files are written: the directory is synced once for all.
        let ca = open_ca(dir, "ca", "skiff-ca", now)?;
        let front_proxy_ca = open_ca(dir, "front-proxy-ca", "skiff-front-proxy-ca", now)?;
        let (server, _) = found_or_issued(dir, "server", &ca, &server_request(options), now)?;
        let (admin, _) = found_or_issued(
            dir,
            "admin",
            &ca,
            &client("kubernetes-admin", Some("system:masters")),
            now,
        )?;
        let name = "kube-apiserver-kubelet-client";
        let (kubelet_client, _) = found_or_issued(dir, name, &ca, &client(name, None), now)?;
        let name = "front-proxy-client";
        let (front_proxy_client, _) = found_or_issued(dir, name, &front_proxy_ca, &client(name, None), now)?;
        let service_account_key_pem = open_service_account_key(dir)?;
        sync_directory(dir)?;
        Ok(Pki {
            ca,
            front_proxy_ca,
            server,
            admin,
            kubelet_client,
            front_proxy_client,
            service_account_key_pem,
        })
    }

    /// PEM of all authorities whose client certificates the API server accepts.
    pub fn client_authorities_pem(&self) -> String {
        format!("{}{}", self.ca.certificate_pem(), self.front_proxy_ca.certificate_pem())
    }

    pub fn service_account_key(&self) -> Result<ServiceAccountKey, crate::AccessError> {
        ServiceAccountKey::from_pem(&self.service_account_key_pem)
    }
}

fn client(name: &str, organization: Option<&str>) -> CertificateRequest {
    CertificateRequest {
        common_name: name.into(),
        organization: organization.map(str::to_string),
        names: Vec::new(),
        usage: Usage::Client,
        lifetime: CERTIFICATE_LIFETIME,
    }
}

fn server_request(options: &PkiOptions) -> CertificateRequest {
    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    names.push(format!("kubernetes.default.svc.{}", options.cluster_domain));
    names.extend((!options.host_name.is_empty()).then(|| options.host_name.to_ascii_lowercase()));
    names.extend(["127.0.0.1".to_string(), "::1".to_string()]);
    names.extend(
        options
            .node_ips
            .iter()
            .chain(&options.service_ips)
            .map(ToString::to_string),
    );
    names.extend(options.extra_names.iter().cloned());
    names.sort();
    names.dedup();
    CertificateRequest {
        common_name: "kube-apiserver".into(),
        organization: None,
        names,
        usage: Usage::Server,
        lifetime: CERTIFICATE_LIFETIME,
    }
}

fn open_ca(dir: &Path, name: &str, common_name: &str, now: Timestamp) -> Result<Ca, PkiError> {
    let (certificate_path, key_path) = paths(dir, name);
    match (read(&certificate_path)?, read(&key_path)?) {
        (Some(certificate), Some(key)) => {
            let ca = Ca::load(&certificate, &key)?;
            let (not_before, not_after) = validity(ca.certificate())?;
            let what = certificate_path.display().to_string();
            match freshness(not_before, not_after, now.as_second()) {
                Freshness::NotYetValid => Err(clock_before(what, not_before, now)),
                // A CA is not replaced behind everybody's back; while it is valid it serves.
                _ if now.as_second() > not_after => Err(PkiError::Expired {
                    what,
                    not_after: timestamp(not_after),
                    now,
                }),
                _ => Ok(ca),
            }
        }
        (None, None) => {
            let ca = Ca::create(common_name, now)?;
            write(&key_path, ca.key_pem(), PRIVATE)?;
            write(&certificate_path, ca.certificate_pem(), PUBLIC)?;
            Ok(ca)
        }
        // A crash between the two writes leaves a key alone, and nothing was issued by it.
        (None, Some(_)) => {
            let ca = Ca::create(common_name, now)?;
            write(&key_path, ca.key_pem(), PRIVATE)?;
            write(&certificate_path, ca.certificate_pem(), PUBLIC)?;
            Ok(ca)
        }
        (Some(_), None) => Err(PkiError::KeyMismatch {
            certificate: certificate_path.display().to_string(),
            key: format!("{} (missing)", key_path.display()),
        }),
    }
}

/// `<dir>/<name>.crt` and `.key` if they are still good for the request and of
/// this CA, else newly issued and written.
pub fn read_or_issue(
    dir: &Path,
    name: &str,
    ca: &Ca,
    request: &CertificateRequest,
    now: Timestamp,
) -> Result<Identity, PkiError> {
    let (identity, written) = found_or_issued(dir, name, ca, request, now)?;
    if written {
        sync_directory(dir)?;
    }
    Ok(identity)
}

/// As `read_or_issue`; says whether it wrote, for the directory is the caller's to sync.
fn found_or_issued(
    dir: &Path,
    name: &str,
    ca: &Ca,
    request: &CertificateRequest,
    now: Timestamp,
) -> Result<(Identity, bool), PkiError> {
    let (certificate_path, key_path) = paths(dir, name);
    if let (Some(certificate_pem), Some(key_pem)) = (read(&certificate_path)?, read(&key_path)?) {
        let identity = Identity {
            certificate_pem,
            key_pem,
        };
        // What cannot be read is made anew: these certificates are ours to make.
        if let Ok(chain) = identity.chain() {
            let (not_before, not_after) = validity(&chain[0])?;
            match freshness(not_before, not_after, now.as_second()) {
                Freshness::NotYetValid => {
                    return Err(clock_before(certificate_path.display().to_string(), not_before, now));
                }
                Freshness::Good if fits(&identity, ca, request) => return Ok((identity, false)),
                _ => {}
            }
        }
    }
    let identity = ca.issue(request, now)?;
    write(&key_path, &identity.key_pem, PRIVATE)?;
    write(&certificate_path, &identity.certificate_pem, PUBLIC)?;
    Ok((identity, true))
}

/// Issued by this CA, for this key, with all the names that are wanted.
fn fits(identity: &Identity, ca: &Ca, request: &CertificateRequest) -> bool {
    let Ok(chain) = identity.chain() else { return false };
    let Ok(key) = KeyPair::from_pem(&identity.key_pem) else {
        return false;
    };
    let (Ok((_, leaf)), Ok((_, issuer))) = (
        X509Certificate::from_der(&chain[0]),
        X509Certificate::from_der(ca.certificate()),
    ) else {
        return false;
    };
    let has: Vec<String> = leaf
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|names| names.value.general_names.iter().filter_map(shown_name).collect())
        .unwrap_or_default();
    leaf.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
        && leaf.verify_signature(Some(issuer.public_key())).is_ok()
        && request.names.iter().all(|name| has.contains(name))
}

fn shown_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(|address| address.to_string())
        }
        _ => None,
    }
}

fn open_service_account_key(dir: &Path) -> Result<String, PkiError> {
    let path = dir.join("sa.key");
    if let Some(pem) = read(&path)? {
        ServiceAccountKey::from_pem(&pem).map_err(|e| PkiError::Parse {
            what: path.display().to_string(),
            why: e.to_string(),
        })?;
        return Ok(pem);
    }
    let pem = KeyPair::generate()
        .map_err(|e| PkiError::Issue(e.to_string()))?
        .serialize_pem();
    write(&path, &pem, PRIVATE)?;
    Ok(pem)
}

fn clock_before(what: String, not_before: i64, now: Timestamp) -> PkiError {
    PkiError::ClockBefore {
        what,
        not_before: timestamp(not_before),
        now,
    }
}

fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

fn paths(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")))
}

/// `None`: there is no such file.
fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Read {
            path: path.to_path_buf(),
            source,
        }),
    }
}

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Writes a file that only its owner reads: keys, kubeconfigs, tokens.
pub fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    write(path, text, PRIVATE)?;
    path.parent().map_or(Ok(()), sync_directory)
}

pub fn write_public(path: &Path, text: &str) -> Result<(), PkiError> {
    write(path, text, PUBLIC)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Until then a power loss may take back the renames, the latest first.
fn sync_directory(dir: &Path) -> Result<(), PkiError> {
    let Ok(opened) = fs::File::open(dir) else {
        return Ok(());
    };
    opened.sync_all().map_err(|source| PkiError::Write {
        path: dir.to_path_buf(),
        source,
    })
}

/// Writes and syncs the file, but not its name in the directory.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::Write {
        path: path.to_path_buf(),
        source,
    };
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    // A left-over of a crash could have another mode.
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
