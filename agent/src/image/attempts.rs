//! In which order, from where and as whom a pull is tried. Pure.
//!
//! containerd asks the mirrors and then the registry by itself, but takes one login a
//! pull. So there is one attempt per login, and each login goes only to the host that it
//! is for: a pod's secret is not shown to a mirror.

use super::credentials::{Found, Login, Source};
use super::reference::Reference;
use super::registries::{self, Endpoint, Registries};

/// Who vouches for the image once it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Pulled by nobody in particular, or by the node's own login: for every pod.
    Node,
    Secret {
        source: Source,
        login: Login,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What containerd is asked to pull.
    pub reference: String,
    /// The login and the host that it is shown to.
    pub login: Option<(Login, String)>,
    pub holder: Holder,
    /// Pulled under this mirror's name: to be given its own afterwards.
    pub mirror: Option<Endpoint>,
}

pub fn plan(image: &Reference, registries: &Registries, secrets: &[Found]) -> Vec<Attempt> {
    let node = |host: &str| registries.login(host).map(|l| (l.clone(), host.to_owned()));
    let mut attempts: Vec<Attempt> = registries
        .rewritten(image)
        .into_iter()
        .map(|(endpoint, repository)| Attempt {
            reference: image.named(&format!("{}/{repository}", registries::alias(&endpoint))),
            login: node(&endpoint.host),
            holder: Holder::Node,
            mirror: Some(endpoint),
        })
        .collect();
    let of_node = |login: (Login, String)| Attempt {
        reference: image.full(),
        login: Some(login),
        holder: Holder::Node,
        mirror: None,
    };
    let before = attempts.len();
    let mirrors = registries.endpoints(image).iter().filter(|e| e.host != image.host());
    attempts.extend(mirrors.filter_map(|e| node(&e.host)).map(of_node));
    attempts.extend(secrets.iter().map(|found| Attempt {
        reference: image.full(),
        login: Some((found.login.clone(), image.host().to_owned())),
        holder: Holder::Secret {
            source: found.source.clone(),
            login: found.login.clone(),
        },
        mirror: None,
    }));
    attempts.extend(node(image.host()).map(of_node));
    if attempts.len() == before {
        attempts.push(Attempt {
            reference: image.full(),
            login: None,
            holder: Holder::Node,
            mirror: None,
        });
    }
    attempts
}

/// Several failures in one message, as Kubernetes joins them.
pub fn joined(errors: &[String]) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for error in errors {
        if !distinct.contains(&error.as_str()) {
            distinct.push(error);
        }
    }
    match distinct.as_slice() {
        [only] => (*only).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(user: &str) -> Found {
        Found {
            login: Login {
                username: user.into(),
                ..Login::default()
            },
            source: Source {
                namespace: "n".into(),
                name: user.into(),
                uid: user.into(),
            },
        }
    }

    /// `reference user@host` of each, with `>` where it is renamed.
    fn planned(image: &str, file: &str, secrets: &[Found]) -> Vec<String> {
        let image = Reference::parse(image).expect("valid");
        let registries = Registries::parse(file).expect("valid");
        plan(&image, &registries, secrets)
            .into_iter()
            .map(|a| {
                let login = a.login.map_or("-".into(), |(l, host)| format!("{}@{host}", l.username));
                let whose = if matches!(a.holder, Holder::Secret { .. }) {
                    "secret"
                } else {
                    "node"
                };
                let reference = if a.mirror.is_some() { "renamed" } else { &a.reference };
                format!("{reference} {login} {whose}")
            })
            .collect()
    }

    #[test]
    fn order() {
        let mirrors = "mirrors: {docker.io: {endpoint: [\"https://m\", \"http://n:1\"], rewrite: {\"^library/(.*)\": \"c/$1\"}}}\n\
            configs: {m: {auth: {username: mm}}, docker.io: {auth: {username: dd}}}";
        for (image, file, secrets, expected) in [
            ("r.io/a", "", vec![], vec!["r.io/a:latest - node"]),
            (
                "r.io/a:1",
                "",
                vec![found("x"), found("y")],
                vec!["r.io/a:1 x@r.io secret", "r.io/a:1 y@r.io secret"],
            ),
            (
                "me/a",
                mirrors,
                vec![found("x")],
                vec![
                    "docker.io/me/a:latest mm@m node",
                    "docker.io/me/a:latest x@registry-1.docker.io secret",
                    "docker.io/me/a:latest dd@registry-1.docker.io node",
                ],
            ),
            (
                "a",
                mirrors,
                vec![],
                vec![
                    "renamed mm@m node",
                    "renamed - node",
                    "docker.io/library/a:latest mm@m node",
                    "docker.io/library/a:latest dd@registry-1.docker.io node",
                ],
            ),
        ] {
            assert_eq!(planned(image, file, &secrets), expected, "{image}");
        }
    }

    #[test]
    fn failures_are_joined_once() {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(joined(&texts(&["a"])), "a");
        assert_eq!(joined(&texts(&["a", "a"])), "a");
        assert_eq!(joined(&texts(&["a", "b", "a"])), "[a, b]");
    }
}
