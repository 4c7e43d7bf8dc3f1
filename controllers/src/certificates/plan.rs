//! Whether a certificate request may be approved without asking, may be signed, or has outlived its use. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::key::created;

pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";
const NODE_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns: Vec<String>,
    pub ips: Vec<String>,
    /// Names of kinds that no node needs (e-mail, URI).
    pub other_names: bool,
}

/// Reads the PEM request; the message says what is wrong with it.
pub fn parse(pem: &[u8]) -> Result<Asked, String> {
    let (_, block) =
        x509_parser::pem::parse_x509_pem(pem).map_err(|error| format!("the request is not PEM: {error}"))?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("the request cannot be read: {error}"))?;
    let subject = &request.certification_request_info.subject;
    let text = |value: Result<&str, _>| value.map(ToString::to_string).ok();
    let mut asked = Asked {
        common_name: subject
            .iter_common_name()
            .find_map(|name| text(name.as_str()))
            .unwrap_or_default(),
        organizations: subject
            .iter_organization()
            .filter_map(|name| text(name.as_str()))
            .collect(),
        ..Default::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(dns) => asked.dns.push((*dns).to_string()),
                GeneralName::IPAddress([a, b, c, d]) => {
                    asked.ips.push(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string());
                }
                GeneralName::IPAddress(bytes) if bytes.len() == 16 => {
                    let octets: [u8; 16] = (*bytes).try_into().unwrap_or_default();
                    asked.ips.push(std::net::Ipv6Addr::from(octets).to_string());
                }
                _ => asked.other_names = true,
            }
        }
    }
    Ok(asked)
}

fn has_usages(spec: &CertificateSigningRequestSpec, needed: &str, allowed: &[&str]) -> bool {
    let usages = spec.usages.as_deref().unwrap_or_default();
    usages.iter().any(|usage| usage == needed) && usages.iter().all(|usage| allowed.contains(&usage.as_str()))
}

fn is_node_identity(asked: &Asked) -> bool {
    asked.common_name.len() > NODE_PREFIX.len()
        && asked.common_name.starts_with(NODE_PREFIX)
        && asked.organizations == [NODES_GROUP]
}

/// Whether the signer may sign what is asked; the message says why not.
pub fn permitted(spec: &CertificateSigningRequestSpec, asked: &Asked) -> Result<(), String> {
    let client = ["key encipherment", "digital signature", "client auth"];
    let serving = ["key encipherment", "digital signature", "server auth"];
    let no_names = asked.dns.is_empty() && asked.ips.is_empty() && !asked.other_names;
    match spec.signer_name.as_str() {
        CLIENT => {
            if asked.organizations.iter().any(|group| group == "system:masters") {
                return Err("subject organization system:masters is not allowed".to_string());
            }
            if !has_usages(spec, "client auth", &client) {
                return Err(
                    "usages must include client auth, beside only key encipherment and digital signature".to_string(),
                );
            }
        }
        NODE_CLIENT => {
            if !is_node_identity(asked) {
                return Err("subject must be O=system:nodes, CN=system:node:<name>".to_string());
            }
            if !no_names {
                return Err("subject alternative names are not allowed".to_string());
            }
            if !has_usages(spec, "client auth", &client) {
                return Err(
                    "usages must include client auth, beside only key encipherment and digital signature".to_string(),
                );
            }
        }
        NODE_SERVING => {
            if !is_node_identity(asked) {
                return Err("subject must be O=system:nodes, CN=system:node:<name>".to_string());
            }
            if asked.dns.is_empty() && asked.ips.is_empty() {
                return Err("at least one DNS name or IP address is needed".to_string());
            }
            if asked.other_names {
                return Err("only DNS names and IP addresses are allowed".to_string());
            }
            if !has_usages(spec, "server auth", &serving) {
                return Err(
                    "usages must include server auth, beside only key encipherment and digital signature".to_string(),
                );
            }
        }
        LEGACY => {}
        other => return Err(format!("{other} is not a signer of this cluster")),
    }
    Ok(())
}

/// Who may have this approved without a person looking.
#[derive(Debug, PartialEq, Eq)]
pub enum Approval {
    No,
    /// When the requester may create this subresource of certificatesigningrequests.
    IfAllowed {
        subresource: &'static str,
        message: &'static str,
    },
    /// The node asks for its own serving certificate; its addresses decide.
    Serving,
}

pub fn approval(spec: &CertificateSigningRequestSpec, asked: &Asked) -> Approval {
    if permitted(spec, asked).is_err() {
        return Approval::No;
    }
    let itself = spec.username.as_deref() == Some(asked.common_name.as_str());
    match spec.signer_name.as_str() {
        NODE_CLIENT if itself => Approval::IfAllowed {
            subresource: "selfnodeclient",
            message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
        },
        NODE_CLIENT => Approval::IfAllowed {
            subresource: "nodeclient",
            message: "Auto approving kubelet client certificate after SubjectAccessReview.",
        },
        NODE_SERVING if itself => Approval::Serving,
        _ => Approval::No,
    }
}

/// What the cluster knows about the addresses that a serving certificate is asked for.
#[derive(Debug, Default)]
pub struct Held {
    /// Addresses in the Node's status; none while the Node does not exist or has not reported.
    pub own: Vec<String>,
    /// Whether another Node or a Service has this address.
    pub by_others: BTreeSet<String>,
}

/// Whether the node may carry the names asked for.
///
/// A Node that has reported its addresses gets these and its name. One that joins needs the certificate before
/// it reports: it gets its name and addresses that nobody else is known to have.
pub fn names_match(asked: &Asked, node: &str, held: &Held) -> bool {
    if held.own.is_empty() {
        return asked.dns == [node] && asked.ips.iter().all(|ip| !held.by_others.contains(ip));
    }
    let known = |name: &String| name == node || held.own.contains(name);
    asked.dns.iter().all(known) && asked.ips.iter().all(|ip| held.own.contains(ip))
}

pub fn node_of(asked: &Asked) -> &str {
    asked.common_name.strip_prefix(NODE_PREFIX).unwrap_or("")
}

pub fn has_condition(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind)
}

/// Seconds until the request is deleted: an hour after a decision, a day while nobody decides.
pub fn expires_in(request: &CertificateSigningRequest, now: Timestamp) -> i64 {
    const DECIDED: i64 = 3600;
    const PENDING: i64 = 24 * 3600;
    let decided = request
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let last = decided
        .filter_map(|condition| condition.last_update_time.as_ref())
        .map(|time| time.0)
        .max();
    let (since, lives) = match last {
        Some(at) => (at, DECIDED),
        None => (created(&request.metadata), PENDING),
    };
    lives - crate::key::seconds_between(since, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(signer: &str, user: &str, usages: &[&str]) -> CertificateSigningRequestSpec {
        CertificateSigningRequestSpec {
            signer_name: signer.to_string(),
            username: Some(user.to_string()),
            usages: Some(usages.iter().map(ToString::to_string).collect()),
            ..Default::default()
        }
    }

    fn node() -> Asked {
        Asked {
            common_name: "system:node:n1".to_string(),
            organizations: vec!["system:nodes".to_string()],
            ..Default::default()
        }
    }

    #[test]
    fn nodes_get_their_own_client_certificates() {
        let usages = ["digital signature", "client auth"];
        let check = |user: &str, asked: &Asked| approval(&spec(NODE_CLIENT, user, &usages), asked);
        assert!(matches!(
            check("system:node:n1", &node()),
            Approval::IfAllowed {
                subresource: "selfnodeclient",
                ..
            }
        ));
        assert!(matches!(
            check("bootstrap", &node()),
            Approval::IfAllowed {
                subresource: "nodeclient",
                ..
            }
        ));
        let admin = Asked {
            organizations: vec!["system:masters".to_string()],
            ..node()
        };
        assert_eq!(check("system:node:n1", &admin), Approval::No);
        let server = spec(NODE_CLIENT, "system:node:n1", &["server auth", "client auth"]);
        assert_eq!(approval(&server, &node()), Approval::No);
    }

    #[test]
    fn serving_names_must_be_the_nodes_own() {
        let asked = Asked {
            dns: vec!["n1".to_string()],
            ips: vec!["10.0.0.5".to_string()],
            ..node()
        };
        let serving = spec(NODE_SERVING, "system:node:n1", &["server auth"]);
        assert_eq!(approval(&serving, &asked), Approval::Serving);
        assert_eq!(
            approval(&spec(NODE_SERVING, "system:node:n2", &["server auth"]), &asked),
            Approval::No
        );
        let held = |own: &[&str], others: &[&str]| Held {
            own: own.iter().map(ToString::to_string).collect(),
            by_others: others.iter().map(ToString::to_string).collect(),
        };
        assert!(names_match(&asked, "n1", &held(&["10.0.0.5"], &[])));
        assert!(!names_match(&asked, "n1", &held(&["10.0.0.6"], &[])));
        assert!(!names_match(&asked, "n2", &held(&["10.0.0.5"], &[])));
        // Before the node has reported.
        assert!(names_match(&asked, "n1", &held(&[], &["10.0.0.1"])));
        assert!(
            !names_match(&asked, "n1", &held(&[], &["10.0.0.5"])),
            "another's address"
        );
        assert!(!names_match(&asked, "n2", &held(&[], &[])), "another's name");
        let foreign = Asked {
            dns: vec!["n1".to_string(), "kubernetes".to_string()],
            ..node()
        };
        assert!(!names_match(&foreign, "n1", &held(&[], &[])));
    }
}
