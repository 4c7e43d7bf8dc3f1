//! Names of drivers, pools, devices, attributes; and the sizes of lists and maps.
//! Limits are those of the API, written down in its types.

use crate::check::{Errors, Path};
use crate::core::source;
use crate::names;
use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

const POOL_BYTES_MAX: usize = 253;
const ID_BYTES_MAX: usize = 32;
/// Longest key of an attribute that is shown whole: domain, slash, name.
const KEY_SHOWN_MAX: usize = 63 + 1 + ID_BYTES_MAX;

pub(super) use source::csi_driver as driver;

pub(super) fn label(name: &str, path: &Path, errors: &mut Errors) {
    errors.all(path, name, names::dns_label(name));
}

pub(super) fn subdomain(name: &str, path: &Path, errors: &mut Errors) {
    errors.all(path, name, names::dns_subdomain(name));
}

pub(super) fn pool(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > POOL_BYTES_MAX {
        errors.too_long(path, POOL_BYTES_MAX);
    }
    name.split('/').for_each(|part| subdomain(part, path, errors));
}

fn identifier(id: &str, path: &Path, errors: &mut Errors) {
    const SHAPE: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
    if id.len() > ID_BYTES_MAX {
        errors.too_long(path, ID_BYTES_MAX);
    }
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let rest = |b: u8| letter(b) || b.is_ascii_digit();
    if !id.bytes().next().is_some_and(letter) || !id.bytes().all(rest) {
        errors.invalid(path, id, SHAPE);
    }
}

/// `name` or `domain/name`.
pub(super) fn qualified(name: &str, path: &Path, errors: &mut Errors) {
    let parts: Vec<&str> = name.splitn(3, '/').collect();
    match parts[..] {
        [id] => identifier(id, path, errors),
        [domain, id] => {
            match domain {
                "" => errors.invalid(path, "", "the domain must not be empty"),
                _ => driver(domain, path, errors),
            }
            match id {
                "" => errors.invalid(path, "", "the name must not be empty"),
                _ => identifier(id, path, errors),
            }
        }
        _ => errors.invalid(path, name, "must not contain more than one slash"),
    }
}

/// `domain/name`.
pub(super) fn fully_qualified(name: &str, path: &Path, errors: &mut Errors) {
    qualified(name, path, errors);
    if !name.contains('/') {
        let text = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, text);
    }
}

/// A UID in its one form.
pub(super) fn uid(uid: &str, path: &Path, errors: &mut Errors) {
    let dash = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    let digits = |s: &str| s.bytes().filter(|b| *b != b'-').all(|b| b.is_ascii_hexdigit());
    let shaped = uid.len() == 36 && uid.bytes().enumerate().all(|(i, b)| (b == b'-') == dash(i));
    if shaped && digits(uid) {
        if uid.bytes().any(|b| b.is_ascii_uppercase()) {
            let text = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
            errors.invalid(path, uid, text);
        }
    } else if [32, 36, 38, 45].contains(&uid.len()) {
        errors.invalid(path, uid, "error validating uid: invalid UUID format");
    } else {
        let text = format!("error validating uid: invalid UUID length: {}", uid.len());
        errors.invalid(path, uid, &text);
    }
}

type Check<'a> = &'a mut dyn FnMut(&Value, &Path, &mut Errors);

/// Checks each item, unless there are too many.
pub(super) fn list(items: &[Value], max: usize, path: &Path, errors: &mut Errors, check: Check) {
    if items.len() > max {
        return errors.too_many(path, items.len(), max);
    }
    for (i, item) in items.iter().enumerate() {
        check(item, &path.at(i), errors);
    }
}

/// As `list`, and no two items have the same key.
pub(super) fn set(
    items: &[Value],
    max: usize,
    key: fn(&Value) -> Value,
    path: &Path,
    errors: &mut Errors,
    check: Check,
) {
    list(items, max, path, errors, check);
    if items.len() > max {
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, item) in items.iter().enumerate() {
        let key = key(item);
        if !seen.insert(key.to_string()) {
            errors.duplicate(&path.at(i), key);
        }
    }
}

pub(super) fn itself(item: &Value) -> Value {
    item.as_str().unwrap_or("").into()
}

pub(super) fn by_name(item: &Value) -> Value {
    item.text("name").into()
}

/// Checks each member of the map at `path`; one that is called oddly is shown cut.
pub(super) fn map(
    members: &Value,
    max: usize,
    path: &Path,
    errors: &mut Errors,
    key: fn(&str, &Path, &mut Errors),
    check: Check,
) {
    let Some(members) = members.as_object() else { return };
    if members.len() > max {
        return errors.too_many(path, members.len(), max);
    }
    for (name, member) in members {
        key(name, path, errors);
        check(member, &path.key(&shortened(name)), errors);
    }
}

fn shortened(key: &str) -> std::borrow::Cow<'_, str> {
    if key.len() <= KEY_SHOWN_MAX {
        return key.into();
    }
    let keep = KEY_SHOWN_MAX - 3;
    let (mut head, mut tail) = (keep.div_ceil(2), key.len() - keep / 2);
    while !key.is_char_boundary(head) {
        head -= 1;
    }
    while !key.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}...{}", &key[..head], &key[tail..]).into()
}
