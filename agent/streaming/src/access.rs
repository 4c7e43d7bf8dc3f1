//! Who may do what on the node's endpoint: which subresource of the node a path
//! is, and who a client certificate names. Pure.
//! <https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>.

use crate::runtime::Caller;
use http::Method;

/// Common name of the API server's client certificate.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const ADMINISTRATORS: &str = "system:masters";

/// The API server stands for its users, whom it has checked; administrators may do
/// everything. Neither needs to be asked about.
pub fn is_trusted(caller: &Caller) -> bool {
    caller.name == API_SERVER || caller.groups.iter().any(|group| group == ADMINISTRATORS)
}

/// The user that a certificate names. TLS has verified the chain.
pub fn named_by(certificate: &[u8]) -> Option<Caller> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|group| Some(group.as_str().ok()?.to_owned()));
    let mut groups: Vec<String> = groups.collect();
    groups.push("system:authenticated".into());
    Some(Caller {
        name,
        groups,
        ..Caller::default()
    })
}

pub fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// Subresources of the node of which one must be allowed, the finest first.
pub fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "healthz" => &["healthz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "configz" => &["configz", "proxy"],
        "statusz" => &["statusz", "proxy"],
        "flagz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

/// As upstream words it.
pub fn refusal(caller: &Caller, verb: &str, subresources: &[&str]) -> String {
    let list = subresources.join(" ");
    format!(
        "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{list}])\n",
        caller.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources() {
        for (path, expected) in [
            ("/stats/summary", "stats"),
            ("/metrics", "metrics"),
            ("/metrics/cadvisor", "metrics"),
            ("/metricsx", "proxy"),
            ("/logs/", "log"),
            ("/logs/syslog", "log"),
            ("/checkpoint/a/b/c", "checkpoint"),
            ("/healthz", "healthz,proxy"),
            ("/healthz/ping", "healthz,proxy"),
            ("/pods", "pods,proxy"),
            ("/runningpods/", "pods,proxy"),
            ("/configz", "configz,proxy"),
            ("/exec/a/b/c", "proxy"),
            ("/", "proxy"),
        ] {
            assert_eq!(subresources(path).join(","), expected, "{path}");
        }
    }

    #[test]
    fn who_needs_no_review() {
        let caller = |name: &str, group: &str| Caller {
            name: name.into(),
            groups: vec![group.into()],
            ..Caller::default()
        };
        assert!(is_trusted(&caller(API_SERVER, "g")));
        assert!(is_trusted(&caller("admin", ADMINISTRATORS)));
        assert!(!is_trusted(&caller("system:node:n", "system:nodes")));
        assert!(!is_trusted(&Caller::default()));
    }

    #[test]
    fn refusals_are_worded_as_upstream() {
        let caller = Caller {
            name: "jane".into(),
            ..Caller::default()
        };
        assert_eq!(
            refusal(&caller, "get", &["pods", "proxy"]),
            "Forbidden (user=jane, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
        );
    }
}
