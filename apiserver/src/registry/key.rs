//! Where objects lie: `/registry/<group or core>/<plural>/[<namespace>/]<name>`,
//! group and plural being those of the kind's storage. Part of the data format:
//! changing it needs a migration.

use bytes::Bytes;
use skiff_kinds::Kind;

/// Prefix of all objects of a kind, or of those in one namespace.
pub fn prefix_of(kind: &Kind, namespace: &str) -> Bytes {
    let (group, plural) = kind.storage;
    let group = if group.is_empty() { "core" } else { group };
    let mut key = String::with_capacity(14 + group.len() + plural.len() + namespace.len() + 40);
    key.push_str("/registry/");
    key.push_str(group);
    key.push('/');
    key.push_str(plural);
    key.push('/');
    if kind.namespaced && !namespace.is_empty() {
        key.push_str(namespace);
        key.push('/');
    }
    Bytes::from(key)
}

pub fn key_of(kind: &Kind, namespace: &str, name: &str) -> Bytes {
    let mut key = Vec::from(prefix_of(kind, namespace));
    key.extend_from_slice(name.as_bytes());
    Bytes::from(key)
}

/// `(namespace, name)` of a key under the kind's prefix.
pub fn split_key<'a>(kind: &Kind, key: &'a [u8]) -> (&'a str, &'a str) {
    let text = std::str::from_utf8(key).unwrap_or("");
    let mut parts = text.rsplit('/');
    let name = parts.next().unwrap_or("");
    let namespace = if kind.namespaced {
        parts.next().unwrap_or("")
    } else {
        ""
    };
    (namespace, name)
}
