//! What every server of a cluster has: the authorities and keys. A server that joins is
//! handed them over the channel that its token secured.

use crate::{files, mutual, paths};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use skiff_access::pki::{self, Ca, CertificateRequest, Usage};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The authority of the servers' connections among themselves.
const PEER_CA: &str = "peer-ca";

/// The name that each proves to the others.
pub const PEER_NAME: &str = "peer.skiff";

/// Below the directory of certificates.
const SHARED: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.key",
    "peer-ca.crt",
    "peer-ca.key",
    "store-encryption.key",
];

/// Where the cluster has them: of etcd's API, should it be served.
const OPTIONAL: [&str; 2] = ["etcd/ca.crt", "etcd/ca.key"];

/// Texts of the files, by their names.
#[derive(Serialize, Deserialize)]
pub struct Keys(BTreeMap<String, String>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Reads what a joining server needs; the authority of the peers is made if need be.
pub fn read(data_dir: &Path) -> Result<Keys> {
    peer_authority(data_dir)?;
    let dir = data_dir.join(paths::SERVER_TLS);
    let mut texts = BTreeMap::new();
    for name in SHARED.iter().chain(&OPTIONAL) {
        match std::fs::read_to_string(dir.join(name)) {
            Ok(text) => drop(texts.insert((*name).to_owned(), text)),
            Err(_) if OPTIONAL.contains(name) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.join(name).display())),
        }
    }
    Ok(Keys(texts))
}

/// Writes them, where a server that joins finds them. Names come from another machine:
/// only those that are known are written.
pub fn write(data_dir: &Path, keys: &Keys) -> Result<()> {
    let dir = data_dir.join(paths::SERVER_TLS);
    files::private_directory(&dir)?;
    files::private_directory(&dir.join("etcd"))?;
    if let Some(missing) = SHARED.iter().find(|name| !keys.0.contains_key(**name)) {
        bail!("the server gave no {missing}: use the same version of skiff on all servers");
    }
    for (name, text) in &keys.0 {
        if SHARED.contains(&name.as_str()) || OPTIONAL.contains(&name.as_str()) {
            files::write_private(&dir.join(name), text)?;
        }
    }
    Ok(())
}

fn peer_authority(data_dir: &Path) -> Result<Ca> {
    // Two servers that join at once must not make two of them.
    static MAKING: Mutex<()> = Mutex::new(());
    let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    mutual::authority(&data_dir.join(paths::SERVER_TLS), PEER_CA, "skiff-peer-ca")
}

/// The peers' authority, and this server's own certificate of it.
pub fn peer_identity(data_dir: &Path) -> Result<(Ca, pki::Identity)> {
    let ca = peer_authority(data_dir)?;
    let request = CertificateRequest {
        common_name: PEER_NAME.into(),
        organization: None,
        names: vec![PEER_NAME.into()],
        usage: Usage::Peer,
        lifetime: pki::CERTIFICATE_LIFETIME,
    };
    let dir = data_dir.join(paths::SERVER_TLS);
    let identity = pki::read_or_issue(&dir, "peer", &ca, &request, jiff::Timestamp::now())?;
    Ok((ca, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(dir: &Path) {
        let tls = dir.join(paths::SERVER_TLS);
        files::private_directory(&tls).expect("made");
        for name in SHARED.iter().filter(|name| !name.starts_with("peer")) {
            std::fs::write(tls.join(name), format!("text of {name}")).expect("written");
        }
    }

    #[test]
    fn keys_arrive_as_they_were_and_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (from, to) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        given(from.path());
        let text = serde_json::to_string(&read(from.path()).expect("read")).expect("json");
        write(to.path(), &serde_json::from_str(&text).expect("keys")).expect("written");
        for name in SHARED {
            let [a, b] = [from.path(), to.path()].map(|dir| dir.join(paths::SERVER_TLS).join(name));
            assert_eq!(std::fs::read(a).expect(name), std::fs::read(&b).expect(name));
            let mode = std::fs::metadata(b).expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn who_joins_at_the_same_time_is_handed_the_same() {
        let from = tempfile::tempdir().expect("directory");
        given(from.path());
        let all: Vec<String> = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| read(from.path()).expect("read")))
                .collect();
            let texts = readers
                .into_iter()
                .map(|r| serde_json::to_string(&r.join().expect("read")));
            texts.collect::<Result<_, _>>().expect("json")
        });
        assert!(all.iter().all(|keys| *keys == all[0]));
        peer_identity(from.path()).expect("the authority can be used");
    }

    #[test]
    fn nothing_is_written_but_what_is_known() {
        let (from, to) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        given(from.path());
        let mut keys = read(from.path()).expect("read");
        keys.0.insert("../../escaped".into(), "no".into());
        write(to.path(), &keys).expect("written");
        assert!(!to.path().join("escaped").exists());
        keys.0.remove("sa.key");
        assert!(
            write(to.path(), &keys)
                .expect_err("incomplete")
                .to_string()
                .contains("sa.key")
        );
        assert!(!format!("{keys:?}").contains("text of"), "keys are not printed");
    }
}
