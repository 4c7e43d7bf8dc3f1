//! Users that a front proxy vouches for: who it names in `X-Remote-*` headers.
//! Whether the peer is a front proxy was decided before, by its certificate.
//! See <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>.

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, authenticated};
use crate::contract::UserInfo;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub const USER_HEADER: &str = "x-remote-user";
pub const UID_HEADER: &str = "x-remote-uid";
pub const GROUP_HEADER: &str = "x-remote-group";
pub const EXTRA_PREFIX: &str = "x-remote-extra-";
/// Common names of certificates that may act as a front proxy; the first is the server's own.
pub const ALLOWED_NAMES: [&str; 1] = ["front-proxy-client"];

/// What a front proxy says about who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoteUser {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl RemoteUser {
    /// Reads the headers of a request, in lower case; `None`: they name nobody.
    pub fn read<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut remote = Self::default();
        for (name, value) in headers {
            match name {
                USER_HEADER if remote.name.is_empty() => remote.name = value.to_string(),
                UID_HEADER if remote.uid.is_empty() => remote.uid = value.to_string(),
                GROUP_HEADER if !value.is_empty() => remote.groups.push(value.to_string()),
                _ => {
                    if let Some(key) = name.strip_prefix(EXTRA_PREFIX) {
                        remote.extra.entry(unescaped(key)).or_default().push(value.to_string());
                    }
                }
            }
        }
        (!remote.name.is_empty()).then_some(remote)
    }

    /// The user; who is known to be anonymous stays so.
    pub fn user(&self) -> UserInfo {
        let known = |group: &str| self.groups.iter().any(|g| g == group);
        let (uid, extra) = (self.uid.clone(), self.extra.clone());
        if self.name == ANONYMOUS || known(AUTHENTICATED) || known(UNAUTHENTICATED) {
            let mut groups = self.groups.clone();
            groups.sort();
            groups.dedup();
            return UserInfo {
                name: self.name.clone(),
                uid,
                groups,
                extra,
            };
        }
        authenticated(self.name.clone(), uid, self.groups.clone(), extra)
    }
}

/// The headers by which this server, as a front proxy, tells who asks.
pub fn headers_of(user: &UserInfo) -> Vec<(String, String)> {
    let mut headers = vec![(USER_HEADER.to_string(), user.name.clone())];
    if !user.uid.is_empty() {
        headers.push((UID_HEADER.to_string(), user.uid.clone()));
    }
    headers.extend(user.groups.iter().map(|g| (GROUP_HEADER.to_string(), g.clone())));
    for (key, values) in &user.extra {
        let name = format!("{EXTRA_PREFIX}{}", escaped(key));
        headers.extend(values.iter().map(|value| (name.clone(), value.clone())));
    }
    headers
}

/// Whether a header is one that only a front proxy may set.
pub fn is_remote_header(name: &str) -> bool {
    matches!(name, USER_HEADER | UID_HEADER | GROUP_HEADER) || name.starts_with(EXTRA_PREFIX)
}

/// What extension servers are told, in the ConfigMap that they read their trust from.
pub fn trust_data(client_ca_pem: &str, front_proxy_ca_pem: &str) -> Vec<(&'static str, String)> {
    let mut data = Vec::new();
    if !client_ca_pem.is_empty() {
        data.push(("client-ca-file", client_ca_pem.to_string()));
    }
    if !front_proxy_ca_pem.is_empty() {
        let list = |names: &[&str]| json!(names).to_string();
        data.push(("requestheader-allowed-names", list(&ALLOWED_NAMES)));
        data.push(("requestheader-client-ca-file", front_proxy_ca_pem.to_string()));
        data.push(("requestheader-extra-headers-prefix", list(&["X-Remote-Extra-"])));
        data.push(("requestheader-group-headers", list(&["X-Remote-Group"])));
        data.push(("requestheader-uid-headers", list(&["X-Remote-Uid"])));
        data.push(("requestheader-username-headers", list(&["X-Remote-User"])));
    }
    data
}

/// The trust of before joined with the one that is wanted, as upstream: names and
/// authorities that others added stay. `None`: nothing changes.
pub fn joined_trust(before: &Value, wanted: &[(&'static str, String)]) -> Option<Value> {
    let mut data = before.as_object().cloned().unwrap_or_default();
    for (key, value) in wanted {
        let old = data.get(*key).and_then(Value::as_str).unwrap_or("");
        let joined = if key.ends_with("-ca-file") {
            join_certificates(old, value)
        } else {
            join_names(old, value)
        };
        data.insert((*key).to_string(), joined.into());
    }
    let data = Value::Object(data);
    (data != *before).then_some(data)
}

fn join_names(old: &str, wanted: &str) -> String {
    let mut names: Vec<String> = serde_json::from_str(old).unwrap_or_default();
    for name in serde_json::from_str::<Vec<String>>(wanted).unwrap_or_default() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    json!(names).to_string()
}

fn join_certificates(old: &str, wanted: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = |text: &str| -> Vec<String> {
        text.split_inclusive(END)
            .map(str::trim)
            .filter(|block| block.starts_with("-----BEGIN CERTIFICATE-----") && block.ends_with(END))
            .map(|block| format!("{block}\n"))
            .collect()
    };
    let mut all = blocks(old);
    for block in blocks(wanted) {
        if !all.contains(&block) {
            all.push(block);
        }
    }
    all.concat()
}

/// Header names hold few characters; the others of an extra key travel as `%XX`.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unescaped(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| {
            char::from(*bytes.get(i)?)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    // Not text: the key stays as it was sent.
    String::from_utf8(out).unwrap_or_else(|_| key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(extra: &[(&str, &str)]) -> UserInfo {
        UserInfo {
            name: "jane".into(),
            uid: "u-1".into(),
            groups: vec!["devs".into(), AUTHENTICATED.into()],
            extra: extra
                .iter()
                .map(|(k, v)| ((*k).to_string(), vec![(*v).to_string()]))
                .collect(),
        }
    }

    #[test]
    fn what_one_proxy_says_the_next_server_reads() {
        let user = who(&[("example.com/scopes", "a b"), ("50%", "x"), ("plain", "")]);
        let headers = headers_of(&user);
        assert!(headers.iter().all(|(name, _)| is_remote_header(name)), "{headers:?}");
        assert!(headers.contains(&("x-remote-extra-example.com%2Fscopes".into(), "a b".into())));
        let lower: Vec<(String, String)> = headers.into_iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
        let read = RemoteUser::read(lower.iter().map(|(n, v)| (n.as_str(), v.as_str()))).unwrap();
        assert_eq!(read.user(), user);
    }

    #[test]
    fn nobody_is_named_without_a_name() {
        assert_eq!(RemoteUser::read([(GROUP_HEADER, "system:masters")].into_iter()), None);
        assert_eq!(RemoteUser::read([(USER_HEADER, "")].into_iter()), None);
        let anonymous = RemoteUser::read([(USER_HEADER, ANONYMOUS), (GROUP_HEADER, UNAUTHENTICATED)].into_iter());
        assert_eq!(anonymous.unwrap().user().groups, [UNAUTHENTICATED]);
        let plain = RemoteUser::read([(USER_HEADER, "a")].into_iter()).unwrap();
        assert_eq!(plain.user().groups, [AUTHENTICATED]);
    }

    #[test]
    fn bad_escapes_stay_as_they_are() {
        for (text, wanted) in [
            ("a%2fb", "a/b"),
            ("a%", "a%"),
            ("a%2", "a%2"),
            ("%zz", "%zz"),
            ("%ff", "%ff"),
        ] {
            assert_eq!(unescaped(text), wanted);
        }
    }

    #[test]
    fn trust_is_joined_not_replaced() {
        let ca = |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
        let wanted = trust_data(&ca("a"), &ca("b"));
        let first = joined_trust(&Value::Null, &wanted).unwrap();
        assert_eq!(first["requestheader-allowed-names"], "[\"front-proxy-client\"]");
        assert_eq!(joined_trust(&first, &wanted), None);
        let others = json!({"client-ca-file": ca("z"), "requestheader-allowed-names": "[\"other\"]", "more": "x"});
        let joined = joined_trust(&others, &wanted).unwrap();
        assert_eq!(joined["client-ca-file"], format!("{}{}", ca("z"), ca("a")));
        assert_eq!(
            joined["requestheader-allowed-names"],
            "[\"other\",\"front-proxy-client\"]"
        );
        assert_eq!(joined["more"], "x");
    }
}
