//! Config maps and secrets: data by key, optionally immutable.

use crate::check::{Errors, Path, same};
use crate::contract::Column;
use crate::core::pod::gather;
use crate::names;
use crate::row::{AGE, NAME, cell, integer, text};
use crate::rules::Rules;
use crate::tree::{Tree, object, set_text};
use serde_json::Value;
use skiff_api::FieldError;

/// All data of one object; what etcd's request limit allows, as upstream.
const DATA_BYTES_MAX: usize = 1024 * 1024;

const DATA: Column = integer("Data", "Number of keys.");

pub(super) mod config_map {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, DATA, AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        validate: |o| {
            gather(|errors| {
                let mut bytes = 0;
                for list in ["data", "binaryData"] {
                    bytes += keys(o, list, errors);
                }
                for key in o.map("data").into_iter().flatten().map(|(k, _)| k) {
                    if o.at("binaryData").get(key).is_some() {
                        let text = "duplicate of key present in binaryData";
                        errors.invalid(&Path::new("data").key(key), key.as_str(), text);
                    }
                }
                if bytes > DATA_BYTES_MAX {
                    errors.too_long(&Path::new(""), DATA_BYTES_MAX);
                }
            })
        },
        validate_update: |_, new, old| gather(|errors| immutable(new, old, &["data", "binaryData"], errors)),
        row: |o, now| {
            let count = |path: &str| o.map(path).map_or(0, serde_json::Map::len);
            vec![
                cell::name(o),
                (count("data") + count("binaryData")).into(),
                cell::age(o, now),
            ]
        },
        ..Rules::BASE
    };
}

pub(super) mod secret {
    use super::*;

    pub(crate) const COLUMNS: &[Column] = &[NAME, text("Type", "What the data is for."), DATA, AGE];

    pub(crate) static STRATEGY: Rules = Rules {
        default: |o| {
            set_text(o, "type", "Opaque");
            merge_string_data(o);
        },
        validate,
        validate_update: |_, new, old| {
            gather(|errors| {
                errors.immutable(new, old, "type");
                immutable(new, old, &["data"], errors);
            })
        },
        row: |o, now| {
            vec![
                cell::name(o),
                cell::text(o, "type"),
                cell::count(o, "data"),
                cell::age(o, now),
            ]
        },
        fields: |o| vec![("type", o.text("type").into())],
        field_names: &["type"],
        ..Rules::BASE
    };

    /// `stringData` is write-only: it is encoded into `data`, over what is there.
    fn merge_string_data(o: &mut Value) {
        let Some(Value::Object(plain)) = o.as_object_mut().and_then(|m| m.remove("stringData")) else {
            return;
        };
        if plain.is_empty() {
            return;
        }
        if let Some(data) = object(o, "data") {
            for (key, value) in plain {
                data[key] = base64(value.as_str().unwrap_or("").as_bytes()).into();
            }
        }
    }

    fn validate(o: &Value) -> Vec<FieldError> {
        gather(|errors| {
            if keys(o, "data", errors) > DATA_BYTES_MAX {
                errors.too_long(&Path::new("data"), DATA_BYTES_MAX);
            }
            let data = Path::new("data");
            let mut need = |wanted: &[&str]| {
                for key in wanted.iter().filter(|k| o.at("data").get(**k).is_none()) {
                    errors.required(&data.key(key), "");
                }
            };
            match o.text("type") {
                "kubernetes.io/dockercfg" => need(&[".dockercfg"]),
                "kubernetes.io/dockerconfigjson" => need(&[".dockerconfigjson"]),
                "kubernetes.io/ssh-auth" => need(&["ssh-privatekey"]),
                "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
                "kubernetes.io/basic-auth"
                    if o.at("data").get("username").is_none() && o.at("data").get("password").is_none() =>
                {
                    need(&["username", "password"]);
                }
                "kubernetes.io/service-account-token" => {
                    let account = o.at("metadata.annotations").get("kubernetes.io/service-account.name");
                    if account.and_then(Value::as_str).unwrap_or("").is_empty() {
                        let at = Path::new("metadata.annotations");
                        errors.required(&at.key("kubernetes.io/service-account.name"), "");
                    }
                }
                _ => {}
            }
        })
    }
}

/// Checks the keys of `list` and answers the bytes of its values.
fn keys(o: &Value, list: &str, errors: &mut Errors) -> usize {
    let path = Path::new(list);
    let mut bytes = 0;
    for (key, value) in o.map(list).into_iter().flatten() {
        errors.all(&path.key(key), key, names::config_key(key));
        bytes += value.as_str().map_or(0, str::len);
    }
    bytes
}

fn immutable(new: &Value, old: &Value, keys: &[&str], errors: &mut Errors) {
    if !old.flag("immutable") {
        return;
    }
    const TEXT: &str = "field is immutable when `immutable` is set";
    if !new.flag("immutable") {
        errors.forbidden(&Path::new("immutable"), TEXT);
    }
    for key in keys {
        if !same(new.at(key), old.at(key)) {
            errors.forbidden(&Path::new(key), TEXT);
        }
    }
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(char::from(ALPHABET[(word >> (18 - 6 * i)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}
