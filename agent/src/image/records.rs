//! Who has shown a right to which image on this node, so that nobody uses an image of
//! a private registry only because somebody else's pod has pulled it (KEP-2535). Pure.

use super::credentials::{Found, Login, Source};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Beyond that an image is checked with its registry instead.
const SECRETS_MAX: usize = 100;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// Mixed into what is kept of passwords: two nodes keep different things.
    salt: String,
    /// By image id, then by name without tag.
    pulled: BTreeMap<String, BTreeMap<String, Access>>,
    /// Pulls that have begun: an image with one of these names may be somebody's.
    begun: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Access {
    anybody: bool,
    secrets: Vec<Shown>,
}

/// A secret whose login was good for the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Shown {
    namespace: String,
    name: String,
    uid: String,
    hash: String,
}

impl Records {
    pub fn new(salt: String) -> Self {
        Self {
            salt,
            ..Self::default()
        }
    }

    fn shown(&self, source: &Source, login: &Login) -> Shown {
        let text = format!(
            "{}\0{}\0{}\0{}",
            self.salt, login.username, login.password, login.identity_token
        );
        let hash = digest(&SHA256, text.as_bytes());
        Shown {
            namespace: source.namespace.clone(),
            name: source.name.clone(),
            uid: source.uid.clone(),
            hash: hash.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
        }
    }

    /// Whether there is more to keep than before.
    pub fn begin(&mut self, image: &str) -> bool {
        self.begun.insert(image.to_owned())
    }

    pub fn failed(&mut self, image: &str) {
        self.begun.remove(image);
    }

    /// `holder`: the secret that was good for it; `None` for anybody.
    pub fn pulled(&mut self, image: &str, name: &str, id: &str, holder: Option<(&Source, &Login)>) {
        let shown = holder.map(|(source, login)| self.shown(source, login));
        let access = self
            .pulled
            .entry(id.to_owned())
            .or_default()
            .entry(name.to_owned())
            .or_default();
        match shown {
            None => access.anybody = true,
            Some(shown) if access.secrets.len() < SECRETS_MAX => {
                access
                    .secrets
                    .retain(|s| (&s.uid, &s.name, &s.namespace) != (&shown.uid, &shown.name, &shown.namespace));
                access.secrets.push(shown);
            }
            Some(_) => {}
        }
        self.begun.remove(image);
    }

    /// Whether a pod with these logins has to ask the registry although the image is
    /// there. What was there before anybody pulled it is for everybody.
    pub fn must_pull(&self, image: &str, name: &str, id: &str, secrets: &[Found]) -> bool {
        let Some(names) = self.pulled.get(id) else {
            return self.begun.contains(image);
        };
        let Some(access) = names.get(name) else { return true };
        let known = |found: &Found| {
            let own = self.shown(&found.source, &found.login);
            // The same login from elsewhere, or the same secret with a new password.
            let same = |s: &Shown| (&s.uid, &s.name, &s.namespace) == (&own.uid, &own.name, &own.namespace);
            access.secrets.iter().any(|s| s.hash == own.hash || same(s))
        };
        !access.anybody && !secrets.iter().any(known)
    }

    /// Forgets images that are gone; says whether there were any.
    pub fn prune(&mut self, present: &BTreeSet<String>) -> bool {
        let before = self.pulled.len();
        self.pulled.retain(|id, _| present.contains(id));
        self.pulled.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(secret: &str, password: &str) -> Found {
        Found {
            login: Login {
                username: "u".into(),
                password: password.into(),
                ..Login::default()
            },
            source: Source {
                namespace: "n".into(),
                name: secret.into(),
                uid: secret.into(),
            },
        }
    }

    #[test]
    fn who_may_use_what_is_there() {
        let mut records = Records::new("s".into());
        assert!(!records.must_pull("r/a:1", "r/a", "id1", &[]), "preloaded");
        records.begin("r/a:1");
        assert!(records.must_pull("r/a:1", "r/a", "id1", &[]), "being pulled");
        let (own, other) = (found("s", "p"), found("t", "q"));
        records.pulled("r/a:1", "r/a", "id1", Some((&own.source, &own.login)));
        for (secrets, expected) in [
            (vec![], true),
            (vec![other.clone()], true),
            (vec![own.clone()], false),
            (vec![other.clone(), own.clone()], false),
            (vec![found("t", "p")], false),
            (vec![found("s", "changed")], false),
        ] {
            assert_eq!(
                records.must_pull("r/a:1", "r/a", "id1", &secrets),
                expected,
                "{secrets:?}"
            );
        }
        assert!(records.must_pull("m/a:1", "m/a", "id1", &[own]), "by another name");
        let text = serde_json::to_string(&records).expect("writes");
        assert!(!text.contains("\"p\""), "no password is kept: {text}");
        assert_eq!(serde_json::from_str::<Records>(&text).expect("reads"), records);
        records.pulled("r/a:1", "r/a", "id1", None);
        assert!(!records.must_pull("r/a:1", "r/a", "id1", &[]), "open to anybody");
        assert!(records.prune(&BTreeSet::new()));
        assert!(!records.must_pull("r/a:1", "r/a", "id1", &[other]));
    }

    #[test]
    fn failed_pulls_leave_nothing() {
        let mut records = Records::new("s".into());
        assert!(records.begin("r/a:1"));
        assert!(!records.begin("r/a:1"));
        records.failed("r/a:1");
        assert_eq!(records, Records::new("s".into()));
    }
}
