//! What each of Kubernetes' signers signs. Pure.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers>.

use super::CsrInfo;

/// `Err`: why this signer does not sign this request, in upstream's words where it has some.
pub fn fits_signer(signer: &str, csr: &CsrInfo, usages: &[String]) -> Result<(), String> {
    match signer {
        "kubernetes.io/kube-apiserver-client" => {
            usages_among(
                usages,
                &["digital signature", "key encipherment", "client auth"],
                "client auth",
            )?;
            if csr
                .organizations
                .iter()
                .any(|organization| organization == "system:masters")
            {
                return Err("the group system:masters is not given by this signer".into());
            }
            Ok(())
        }
        "kubernetes.io/kube-apiserver-client-kubelet" => {
            node_subject(csr)?;
            if !csr.dns_names.is_empty() || !csr.ip_addresses.is_empty() || has_other_names(csr) {
                return Err("subject alternative names are not allowed".into());
            }
            usages_are(usages, "client auth")
        }
        "kubernetes.io/kubelet-serving" => {
            node_subject(csr)?;
            if has_other_names(csr) {
                return Err("email and URI subject alternative names are not allowed".into());
            }
            if csr.dns_names.is_empty() && csr.ip_addresses.is_empty() {
                return Err("DNS or IP subjectAltName is required".into());
            }
            usages_are(usages, "server auth")
        }
        "kubernetes.io/legacy-unknown" => Ok(()),
        _ => Err(format!("the signer {signer:?} is not one of this cluster's")),
    }
}

fn node_subject(csr: &CsrInfo) -> Result<(), String> {
    if csr.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".into());
    }
    match csr.common_name.strip_prefix("system:node:") {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("subject common name does not begin with system:node:".into()),
    }
}

fn has_other_names(csr: &CsrInfo) -> bool {
    !csr.emails.is_empty() || !csr.uris.is_empty()
}

/// Exactly digital signature and the purpose; key encipherment is only RSA's.
fn usages_are(usages: &[String], purpose: &str) -> Result<(), String> {
    usages_among(usages, &["digital signature", "key encipherment", purpose], purpose)?;
    if usages.iter().any(|usage| usage == "digital signature") {
        return Ok(());
    }
    Err("usage \"digital signature\" is required".into())
}

fn usages_among(usages: &[String], allowed: &[&str], needed: &str) -> Result<(), String> {
    if let Some(usage) = usages.iter().find(|usage| !allowed.contains(&usage.as_str())) {
        return Err(format!("usage {usage:?} is not allowed"));
    }
    if usages.iter().any(|usage| usage == needed) {
        Ok(())
    } else {
        Err(format!("usage {needed:?} is required"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signers() {
        let info = |name: &str, organization: &str, dns: &[&str]| CsrInfo {
            common_name: name.into(),
            organizations: vec![organization.into()],
            dns_names: dns.iter().map(ToString::to_string).collect(),
            ..CsrInfo::default()
        };
        let node = info("system:node:n", "system:nodes", &[]);
        let serving = info("system:node:n", "system:nodes", &["n"]);
        let (client, kubelet, server) = (
            "kubernetes.io/kube-apiserver-client",
            "kubernetes.io/kube-apiserver-client-kubelet",
            "kubernetes.io/kubelet-serving",
        );
        for (signer, csr, usages, fits) in [
            (kubelet, &node, "digital signature,client auth", true),
            (kubelet, &node, "digital signature,key encipherment,client auth", true),
            (kubelet, &node, "client auth", false),
            (kubelet, &node, "digital signature,server auth,client auth", false),
            (kubelet, &serving, "digital signature,client auth", false),
            (
                kubelet,
                &info("system:node:", "system:nodes", &[]),
                "digital signature,client auth",
                false,
            ),
            (
                kubelet,
                &info("ann", "system:nodes", &[]),
                "digital signature,client auth",
                false,
            ),
            (server, &serving, "digital signature,server auth", true),
            (server, &node, "digital signature,server auth", false),
            (server, &serving, "digital signature,client auth", false),
            (client, &info("ann", "dev", &[]), "client auth", true),
            (client, &info("ann", "system:masters", &[]), "client auth", false),
            (client, &info("ann", "dev", &[]), "server auth", false),
            ("example.com/x", &node, "client auth", false),
        ] {
            let usages: Vec<String> = usages.split(',').map(String::from).collect();
            assert_eq!(
                fits_signer(signer, csr, &usages).is_ok(),
                fits,
                "{signer} {csr:?} {usages:?}"
            );
        }
    }
}
