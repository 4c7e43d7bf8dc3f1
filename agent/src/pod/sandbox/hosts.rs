//! The pod's `/etc/hosts`. Pure.

use crate::config::Config;
use crate::pod::spec;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

pub fn hosts_file(config: &Config, pod: &Pod, ips: &[String], host_file: &str) -> String {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut text = if spec::host_network(spec) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (host, domain) = spec::hostname(pod, &config.cluster_domain);
        for ip in ips {
            match &domain {
                Some(domain) => text.push_str(&format!("{ip}\t{host}.{domain}\t{host}\n")),
                None => text.push_str(&format!("{ip}\t{host}\n")),
            }
        }
        text
    };
    if let Some(aliases) = spec.host_aliases.as_ref().filter(|a| !a.is_empty()) {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.clone().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    const HEAD: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
        ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

    #[test]
    fn names_of_the_pod_and_its_aliases() {
        let aliases =
            json!([{"ip": "192.0.2.5", "hostnames": ["x", "y.example"]}, {"ip": "192.0.2.6", "hostnames": ["z"]}]);
        let added = "\n# Entries added by HostAliases.\n192.0.2.5\tx\ty.example\n192.0.2.6\tz\n";
        for (spec, expected) in [
            (json!({"containers": []}), format!("{HEAD}10.42.0.5\tp\n")),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s", "hostAliases": aliases}),
                format!("{HEAD}10.42.0.5\th.s.n.svc.cluster.local\th\n{added}"),
            ),
            (
                json!({"containers": [], "hostname": "h", "hostnameOverride": "over.example"}),
                format!("{HEAD}10.42.0.5\tover.example\n"),
            ),
            (
                json!({"containers": [], "hostNetwork": true, "hostAliases": aliases}),
                format!("# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n{added}"),
            ),
        ] {
            let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
            let pod: Pod = serde_json::from_value(pod).expect("valid");
            let config = Config::new("node", Path::new("/data"));
            let text = hosts_file(&config, &pod, &["10.42.0.5".into()], "127.0.0.1 me\n");
            assert_eq!(text, expected, "{:?}", pod.spec);
        }
    }

    #[test]
    fn host_names() {
        let long = "a".repeat(62) + "-bcd";
        let fqdn = "p.sub.n.svc.cluster.local".to_owned();
        let too_long = format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {0}.sub.n.svc.cluster.local \
             is too long (64 characters is the max, 74 characters requested)",
            "b".repeat(50)
        );
        for (spec, expected) in [
            (json!({"containers": []}), Ok("p".to_owned())),
            (json!({"containers": [], "hostname": long}), Ok("a".repeat(62))),
            (json!({"containers": [], "subdomain": "sub"}), Ok("p".into())),
            (json!({"containers": [], "setHostnameAsFQDN": true}), Ok("p".into())),
            (
                json!({"containers": [], "setHostnameAsFQDN": true, "subdomain": "sub"}),
                Ok(fqdn),
            ),
            (
                json!({"containers": [], "setHostnameAsFQDN": true, "subdomain": "sub", "hostname": "b".repeat(50)}),
                Err(too_long),
            ),
            (
                json!({"containers": [], "hostnameOverride": "o.example"}),
                Ok("o.example".into()),
            ),
        ] {
            let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
            let pod: Pod = serde_json::from_value(pod).expect("valid");
            assert_eq!(spec::kernel_hostname(&pod, "cluster.local"), expected, "{:?}", pod.spec);
        }
    }
}
