//! Encryption at rest: bodies of the named keys are AES-256-GCM wherever they
//! touch a disk (log, state, snapshots). In memory they are plain.
//!
//! A sealed body is `0x00 'S' 1`, a 12-byte random nonce, then ciphertext and
//! tag; the store's key is authenticated with it, so that bodies cannot be moved
//! between keys. JSON never begins with a zero byte, so bodies written before
//! encryption was turned on are told apart. Random nonces are safe for 2^32
//! bodies a key (NIST SP 800-38D), which is a secret a second for a century.

use crate::codec::{CodecError, Seal};
use crate::contract::StoreError;
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;

const MAGIC: [u8; 3] = [0, b'S', 1];
/// Shows whether a key is the one that the directory was written with.
const CHECK_FILE: &str = "key-check";
const CHECK_TEXT: &[u8] = b"skiff store key";

/// What is encrypted, and with what.
#[derive(Clone)]
pub struct Encryption {
    pub key: [u8; 32],
    /// Keys that begin with one of these.
    pub prefixes: Vec<Bytes>,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption")
            .field("prefixes", &self.prefixes)
            .finish_non_exhaustive()
    }
}

pub struct Encrypted {
    key: LessSafeKey,
    random: SystemRandom,
    prefixes: Vec<Bytes>,
}

impl Encrypted {
    /// Refuses a key that is not the directory's own.
    pub fn open(dir: &Path, encryption: &Encryption) -> Result<Self, StoreError> {
        let key = UnboundKey::new(&AES_256_GCM, &encryption.key).expect("32 bytes are a key of AES-256");
        let sealer = Self {
            key: LessSafeKey::new(key),
            random: SystemRandom::new(),
            prefixes: encryption.prefixes.clone(),
        };
        let path = dir.join(CHECK_FILE);
        match std::fs::read(&path) {
            Ok(kept) => {
                let opened = sealer.decrypt(CHECK_FILE.as_bytes(), &kept);
                if opened.as_deref() != Ok(CHECK_TEXT) {
                    return Err(StoreError::Internal(format!(
                        "the encryption key is not the one that {} was written with: restore the key file from a backup",
                        dir.display()
                    )));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let beside = path.with_extension("new");
                let sealed = sealer.encrypt(CHECK_FILE.as_bytes(), CHECK_TEXT);
                std::fs::write(&beside, &sealed)
                    .and_then(|()| std::fs::File::open(&beside)?.sync_all())
                    .and_then(|()| std::fs::rename(&beside, &path))
                    .map_err(|source| StoreError::Io {
                        action: format!("writing {}", path.display()),
                        source,
                    })?;
            }
            Err(source) => {
                return Err(StoreError::Io {
                    action: format!("reading {}", path.display()),
                    source,
                });
            }
        }
        Ok(sealer)
    }

    fn encrypt(&self, key: &[u8], body: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).expect("the kernel gives random bytes");
        let mut out = Vec::with_capacity(MAGIC.len() + NONCE_LEN + body.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(body);
        let text = &mut out[MAGIC.len() + NONCE_LEN..];
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key), text)
            .expect("bodies are far below the cipher's 64 GiB");
        out.extend_from_slice(tag.as_ref());
        out
    }

    fn decrypt(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CodecError> {
        let wrong = CodecError::Invalid("an encrypted body (is the key file the right one?)");
        let Some((nonce, text)) = sealed
            .get(MAGIC.len()..)
            .and_then(|rest| rest.split_first_chunk::<NONCE_LEN>())
        else {
            return Err(wrong);
        };
        let mut text = text.to_vec();
        let length = match self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(key), &mut text)
        {
            Ok(plain) => plain.len(),
            Err(_) => return Err(wrong),
        };
        text.truncate(length);
        Ok(text)
    }
}

impl Seal for Encrypted {
    fn seal<'a>(&self, key: &[u8], body: &'a [u8]) -> Cow<'a, [u8]> {
        if self.prefixes.iter().any(|prefix| key.starts_with(prefix)) {
            return Cow::Owned(self.encrypt(key, body));
        }
        Cow::Borrowed(body)
    }

    fn open(&self, key: &[u8], body: Bytes) -> Result<Bytes, CodecError> {
        if body.starts_with(&MAGIC) {
            return self.decrypt(key, &body).map(Bytes::from);
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(dir: &Path, key: u8) -> Result<Encrypted, StoreError> {
        let prefixes = vec![Bytes::from_static(b"/registry/core/secrets/")];
        Encrypted::open(
            dir,
            &Encryption {
                key: [key; 32],
                prefixes,
            },
        )
    }

    #[test]
    fn named_keys_are_unreadable_on_disk_and_bound_to_their_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let sealer = sealer(dir.path(), 7).expect("opened");
        let (secret, other) = (
            b"/registry/core/secrets/d/a".as_slice(),
            b"/registry/core/secrets/d/b".as_slice(),
        );
        let body = Bytes::from_static(b"{\"data\":\"hunter2\"}");
        let sealed = sealer.seal(secret, &body);
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_ne!(sealed, sealer.seal(secret, &body), "nonces differ");
        assert_eq!(
            sealer.open(secret, sealed.clone().into_owned().into()),
            Ok(body.clone())
        );
        assert!(
            sealer.open(other, sealed.into_owned().into()).is_err(),
            "moved to another key"
        );
        let plain = b"/registry/core/configmaps/d/a".as_slice();
        assert_eq!(sealer.seal(plain, &body), &body[..]);
        assert_eq!(
            sealer.open(secret, body.clone()),
            Ok(body),
            "written before encryption was on"
        );
    }

    #[test]
    fn another_key_is_refused_before_anything_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        sealer(dir.path(), 7).expect("opened");
        sealer(dir.path(), 7).expect("opened again");
        let Err(error) = sealer(dir.path(), 8) else {
            panic!("another key was taken")
        };
        assert!(error.to_string().contains("restore the key file"), "{error}");
    }
}
