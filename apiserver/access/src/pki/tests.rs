use super::*;
use crate::authentication::x509;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

const DAY: i64 = 24 * 3600;

fn now() -> Timestamp {
    Timestamp::now()
}

fn later(days: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + days * DAY).unwrap()
}

/// A directory of this test's own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skiff-access-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn options(&self) -> PkiOptions {
        PkiOptions {
            dir: self.0.clone(),
            cluster_domain: "cluster.local".into(),
            host_name: "Box1".into(),
            node_ips: vec![IpAddr::from([10, 1, 2, 3])],
            service_ips: vec![IpAddr::from([10, 43, 0, 1])],
            extra_names: vec!["api.example.com".into()],
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a handshake in memory; answers the certificate that the server saw.
fn handshake(server: ServerConfig, client: ClientConfig, name: &str) -> Result<Option<Vec<u8>>, rustls::Error> {
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name.to_string().try_into().unwrap()).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            break;
        }
    }
    assert!(
        !client.is_handshaking() && !server.is_handshaking(),
        "the handshake did not end"
    );
    Ok(server.peer_certificates().map(|chain| chain[0].to_vec()))
}

#[test]
fn handshakes() {
    let dir = Dir::new("handshakes");
    let pki = Pki::open(&dir.options(), now()).unwrap();
    let ca = pki.ca.certificate_pem();
    let server = || server_config(&pki.server, ca).unwrap();
    for name in [
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "box1",
        "10.1.2.3",
        "10.43.0.1",
        "127.0.0.1",
        "api.example.com",
    ] {
        let seen = handshake(server(), client_config(ca, Some(&pki.admin)).unwrap(), name).unwrap();
        let user = x509::user_of(&seen.unwrap()).unwrap();
        assert_eq!(user.name, "kubernetes-admin");
        assert_eq!(user.groups, ["system:authenticated", "system:masters"]);
    }
    assert!(
        handshake(
            server(),
            client_config(ca, Some(&pki.admin)).unwrap(),
            "elsewhere.example"
        )
        .is_err()
    );
    assert_eq!(
        handshake(server(), client_config(ca, None).unwrap(), "localhost").unwrap(),
        None
    );

    let other = Ca::create("other", now()).unwrap();
    assert!(
        handshake(
            server(),
            client_config(other.certificate_pem(), None).unwrap(),
            "localhost"
        )
        .is_err()
    );
    let request = CertificateRequest {
        common_name: "mallory".into(),
        organization: Some("system:masters".into()),
        names: Vec::new(),
        usage: Usage::Client,
        lifetime: Duration::from_secs(3600),
    };
    let mallory = other.issue(&request, now()).unwrap();
    assert!(handshake(server(), client_config(ca, Some(&mallory)).unwrap(), "localhost").is_err());
}

#[test]
fn joining_pins_the_ca() {
    let dir = Dir::new("joining");
    let pki = Pki::open(&dir.options(), now()).unwrap();
    let server = || server_config(&pki.server, pki.ca.certificate_pem()).unwrap();
    let hash = pki.ca.spki_sha256().unwrap();
    assert_eq!(hash.len(), 64);
    handshake(server(), join_config(&hash).unwrap(), "10.1.2.3").unwrap();
    assert!(
        handshake(server(), join_config(&hash).unwrap(), "10.9.9.9").is_err(),
        "name"
    );

    let other = Ca::create("other", now()).unwrap();
    let wrong = handshake(
        server(),
        join_config(&other.spki_sha256().unwrap()).unwrap(),
        "10.1.2.3",
    )
    .unwrap_err();
    assert!(wrong.to_string().contains("token"), "{wrong}");

    // Somebody in the middle shows the right CA behind a certificate of their own.
    let request = CertificateRequest {
        common_name: "x".into(),
        organization: None,
        names: vec!["10.1.2.3".into()],
        usage: Usage::Server,
        lifetime: Duration::from_secs(3600),
    };
    let mut forged = other.issue(&request, now()).unwrap();
    forged.certificate_pem.push_str(pki.ca.certificate_pem());
    let config = server_config(&forged, pki.ca.certificate_pem()).unwrap();
    assert!(handshake(config, join_config(&hash).unwrap(), "10.1.2.3").is_err());
}

#[test]
fn files_are_kept_renewed_and_private() {
    let dir = Dir::new("files");
    let first = Pki::open(&dir.options(), now()).unwrap();
    let mode = |name: &str| std::fs::metadata(dir.0.join(name)).unwrap().permissions().mode() & 0o777;
    for name in [
        "ca",
        "server",
        "admin",
        "front-proxy-ca",
        "kube-apiserver-kubelet-client",
    ] {
        assert_eq!(
            (mode(&format!("{name}.key")), mode(&format!("{name}.crt"))),
            (0o600, 0o644),
            "{name}"
        );
    }
    assert_eq!(mode("sa.key"), 0o600);

    let again = Pki::open(&dir.options(), now()).unwrap();
    assert_eq!(again.server.certificate_pem, first.server.certificate_pem);
    assert_eq!(again.service_account_key_pem, first.service_account_key_pem);

    let mut options = dir.options();
    options.extra_names.push("new.example.com".into());
    let renamed = Pki::open(&options, now()).unwrap();
    assert_ne!(renamed.server.certificate_pem, first.server.certificate_pem);
    assert_eq!(renamed.admin.certificate_pem, first.admin.certificate_pem);

    let renewed = Pki::open(&options, later(300)).unwrap();
    assert_ne!(renewed.admin.certificate_pem, first.admin.certificate_pem);
    assert_eq!(renewed.ca.certificate_pem(), first.ca.certificate_pem());

    let early = Pki::open(&options, later(-2)).err().unwrap();
    assert!(matches!(early, PkiError::ClockBefore { .. }), "{early}");
    let late = Pki::open(&options, later(3700)).err().unwrap();
    assert!(matches!(late, PkiError::Expired { .. }), "{late}");
}

#[test]
fn freshness_table() {
    use super::ca::{Freshness, freshness};
    for (day, expected) in [
        (-1, Freshness::NotYetValid),
        (0, Freshness::Good),
        (60, Freshness::Good),
        (61, Freshness::Renew),
        (100, Freshness::Renew),
    ] {
        assert_eq!(freshness(0, 90 * DAY, day * DAY), expected, "day {day}");
    }
}

#[test]
fn a_request_is_signed_as_it_asks() {
    let ca = Ca::create("ca", now()).unwrap();
    let (key_pem, request) = new_csr("system:node:n1", "system:nodes", &[]).unwrap();
    let (der, info) = parse_csr(request.as_bytes()).unwrap();
    assert_eq!(
        (info.common_name.as_str(), info.organizations.as_slice()),
        ("system:node:n1", &["system:nodes".to_string()][..])
    );
    let usages = ["digital signature".to_string(), "client auth".to_string()];
    let pem = ca.sign_csr(&der, &usages, Duration::from_secs(3600), now()).unwrap();
    let identity = Identity {
        certificate_pem: pem,
        key_pem,
    };
    let user = x509::user_of(&identity.chain().unwrap()[0]).unwrap();
    assert_eq!(user.name, "system:node:n1");
    assert_eq!(user.groups, ["system:authenticated", "system:nodes"]);

    let names = ["n1".to_string(), "10.0.0.7".to_string()];
    let (serving_key, request) = new_csr("system:node:n1", "system:nodes", &names).unwrap();
    let (der, info) = parse_csr(request.as_bytes()).unwrap();
    assert_eq!(info.dns_names, ["n1"]);
    assert_eq!(info.ip_addresses, [IpAddr::from([10, 0, 0, 7])]);
    let pem = ca
        .sign_csr(&der, &["server auth".to_string()], Duration::from_secs(3600), now())
        .unwrap();
    let serving = Identity {
        certificate_pem: pem,
        key_pem: serving_key,
    };
    let server = server_config(&serving, ca.certificate_pem()).unwrap();
    let seen = handshake(
        server,
        client_config(ca.certificate_pem(), Some(&identity)).unwrap(),
        "10.0.0.7",
    )
    .unwrap();
    assert!(seen.is_some());

    let mut tampered = der.clone();
    let at = tampered.windows(6).position(|w| w == b"system").unwrap();
    tampered[at] = b'S';
    assert!(matches!(
        ca.sign_csr(&tampered, &usages, Duration::from_secs(60), now()),
        Err(PkiError::Request(_))
    ));
    assert!(
        ca.sign_csr(&der, &["cert sign".to_string()], Duration::from_secs(60), now())
            .is_err()
    );
    assert!(parse_csr(b"-----BEGIN NONSENSE-----").is_err());
}

#[test]
fn a_certificate_for_servers_names_no_user() {
    let dir = Dir::new("servers");
    let pki = Pki::open(&dir.options(), now()).unwrap();
    assert_eq!(x509::user_of(&pki.server.chain().unwrap()[0]), None);
}

#[test]
fn kubeconfig_text() {
    let identity = Identity {
        certificate_pem: "CERT".into(),
        key_pem: "KEY".into(),
    };
    let others = [("b".to_string(), "https://10.0.0.2:6443".to_string())];
    let text = kubeconfig("skiff", "admin", "https://127.0.0.1:6443", &others, "CA", &identity);
    for line in [
        "- name: \"admin@skiff\"",
        "    server: \"https://127.0.0.1:6443\"",
        "    certificate-authority-data: Q0E=",
        "    client-certificate-data: Q0VSVA==",
        "    client-key-data: S0VZ",
        "- name: \"admin@skiff-b\"",
        "    cluster: \"skiff-b\"",
        "    server: \"https://10.0.0.2:6443\"",
        "current-context: \"admin@skiff\"",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn an_expired_certificate_is_refused_on_an_old_connection() {
    let ca = Ca::create("ca", now()).unwrap();
    let request = CertificateRequest {
        common_name: "ann".into(),
        organization: None,
        names: Vec::new(),
        usage: Usage::Client,
        lifetime: Duration::from_secs(3600),
    };
    let der = ca.issue(&request, now()).unwrap().chain().unwrap()[0].to_vec();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let access = crate::Access::new(crate::AccessConfig {
        service_account_keys: vec![crate::ServiceAccountKey::from_pem(&key).unwrap()],
        api_audiences: vec!["x".into()],
        ..Default::default()
    })
    .unwrap();
    let credentials = crate::Credentials {
        peer_certificate: Some(&der),
        bearer_token: None,
        ..crate::Credentials::default()
    };
    let objects = crate::fake::Fake::default();
    for _ in 0..2 {
        assert_eq!(
            access
                .authenticate(&credentials, &objects, now())
                .unwrap()
                .unwrap()
                .name,
            "ann"
        );
    }
    assert_eq!(
        access.authenticate(&credentials, &objects, later(1)).unwrap_err().code,
        401
    );
}

/// A user who got a certificate with a front proxy's name from the cluster's CA is no front proxy.
#[test]
fn only_the_front_proxy_authority_makes_front_proxies() {
    let (cluster, proxies) = (Ca::create("ca", now()).unwrap(), Ca::create("proxies", now()).unwrap());
    let request = CertificateRequest {
        common_name: "front-proxy-client".into(),
        organization: None,
        names: Vec::new(),
        usage: Usage::Client,
        lifetime: Duration::from_secs(3600),
    };
    let today = Timestamp::now();
    let (cluster_today, proxies_today) = (Ca::create("ca", today).unwrap(), Ca::create("proxies", today).unwrap());
    let vouchers = super::Vouchers::new(cluster_today.certificate_pem(), proxies_today.certificate_pem()).unwrap();
    let shown = |ca: &Ca, at| vouchers.of(&ca.issue(&request, at).unwrap().chain().unwrap());
    assert_eq!(shown(&cluster_today, today), Some(super::Voucher::Cluster));
    assert_eq!(shown(&proxies_today, today), Some(super::Voucher::FrontProxy));
    // Of authorities with the same names that are not these.
    assert_eq!(shown(&cluster, now()), None);
    assert_eq!(shown(&proxies, now()), None);

    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let access = crate::Access::new(crate::AccessConfig {
        service_account_keys: vec![crate::ServiceAccountKey::from_pem(&key).unwrap()],
        api_audiences: vec!["x".into()],
        ..Default::default()
    })
    .unwrap();
    let remote = crate::authentication::request_header::RemoteUser {
        name: "jane".into(),
        ..Default::default()
    };
    let objects = crate::fake::Fake::default();
    let name = |common_name: &str, remote, as_proxy: bool| {
        let request = CertificateRequest {
            common_name: common_name.into(),
            ..request.clone()
        };
        let der = proxies_today.issue(&request, today).unwrap().chain().unwrap()[0].to_vec();
        let credentials = crate::Credentials {
            peer_certificate: (!as_proxy).then_some(der.as_slice()),
            proxy_certificate: as_proxy.then_some(der.as_slice()),
            remote,
            bearer_token: None,
        };
        access
            .authenticate(&credentials, &objects, today)
            .map(|user| user.unwrap().name)
    };
    assert_eq!(name("front-proxy-client", Some(&remote), true).unwrap(), "jane");
    assert_eq!(
        name("front-proxy-client", Some(&remote), false).unwrap(),
        "front-proxy-client"
    );
    assert_eq!(name("somebody", Some(&remote), true).unwrap_err().code, 401);
    assert_eq!(name("front-proxy-client", None, true).unwrap_err().code, 401);
}
