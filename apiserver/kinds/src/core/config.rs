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
                for (list, size) in [("data", str::len as fn(&str) -> usize), ("binaryData", decoded_len)] {
                    bytes += keys(o, list, size, errors);
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
        warnings: |o| {
            let tls = o.text("type") == "kubernetes.io/tls";
            let pair = [("tls.crt", "certificate"), ("tls.key", "key")];
            let bare = |(key, what): (&str, &str)| {
                let data = base64_decode(o.at("data").get(key).and_then(Value::as_str).unwrap_or(""));
                let found = data.is_some_and(|d| d.windows(11).any(|w| w == b"-----BEGIN "));
                (!found).then(|| format!("tls: failed to find any PEM data in {what} input"))
            };
            let first = pair.into_iter().filter(|_| tls).find_map(bare);
            first.into_iter().collect()
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
            if keys(o, "data", decoded_len, errors) > DATA_BYTES_MAX {
                errors.too_long(&Path::new("data"), DATA_BYTES_MAX);
            }
            let data = Path::new("data");
            let need = |wanted: &[&str], errors: &mut Errors| {
                for key in wanted.iter().filter(|k| o.at("data").get(**k).is_none()) {
                    errors.required(&data.key(key), "");
                }
            };
            match o.text("type") {
                "kubernetes.io/dockercfg" => docker(o, ".dockercfg", errors),
                "kubernetes.io/dockerconfigjson" => docker(o, ".dockerconfigjson", errors),
                "kubernetes.io/ssh-auth" if o.text("data.ssh-privatekey").is_empty() => {
                    errors.required(&data.key("ssh-privatekey"), "");
                }
                "kubernetes.io/tls" => need(&["tls.crt", "tls.key"], errors),
                "kubernetes.io/basic-auth"
                    if o.at("data").get("username").is_none() && o.at("data").get("password").is_none() =>
                {
                    need(&["username", "password"], errors);
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
fn keys(o: &Value, list: &str, size: fn(&str) -> usize, errors: &mut Errors) -> usize {
    let path = Path::new(list);
    let mut bytes = 0;
    for (key, value) in o.map(list).into_iter().flatten() {
        errors.all(&path.key(key), key, names::config_key(key));
        bytes += value.as_str().map_or(0, size);
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

/// What a registry's credentials must be: a JSON object, under its key.
fn docker(o: &Value, key: &str, errors: &mut Errors) {
    let data = Path::new("data");
    let Some(text) = o.at("data").get(key).and_then(Value::as_str) else {
        errors.required(&data.key(key), "");
        return;
    };
    let why = match serde_json::from_slice::<Value>(&base64_decode(text).unwrap_or_default()) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let what = match other {
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}")
        }
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_string(),
        // The contents are secret: not a byte of them is shown.
        Err(_) => "invalid character in JSON input".to_string(),
    };
    errors.invalid(&data.key(key), "<secret contents redacted>", &why);
}

/// How many bytes base64 text stands for.
fn decoded_len(text: &str) -> usize {
    let digits = text.trim_end_matches('=').len();
    digits * 3 / 4
}

/// The bytes of standard base64; none if it is not.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(decoded_len(text));
    let (mut word, mut bits) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = (word << 6 | u32::from(digit)) & 0x00ff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits & 0xff) as u8);
        }
    }
    Some(out)
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
