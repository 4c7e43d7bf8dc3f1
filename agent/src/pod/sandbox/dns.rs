//! The pod's `/etc/resolv.conf`. Pure.

use crate::config::Config;
use crate::pod::spec;
use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodSpec};
use skiff_proto::cri::v1 as cri;

/// What resolvers read of a file; Kubernetes writes no more.
const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LINE_MAX: usize = 2_048;

/// `host_resolv_conf` is the text of the node's own file. What had to be left out is
/// told beside the result.
pub fn dns(config: &Config, pod: &Pod, host_resolv_conf: &str) -> (cri::DnsConfig, Vec<String>) {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let host = parsed(host_resolv_conf);
    let cluster = || {
        let (namespace, domain) = (spec::key(pod).0, &config.cluster_domain);
        let own = [
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        let mut searches = Vec::from(own);
        add(&mut searches, &host.searches);
        searches.retain(|s| s != ".");
        cri::DnsConfig {
            servers: vec![config.cluster_dns.to_string()],
            searches,
            options: vec!["ndots:5".into()],
        }
    };
    let mut found = match (spec.dns_policy.as_deref(), spec::host_network(spec)) {
        (Some("None"), _) => cri::DnsConfig::default(),
        (Some("ClusterFirstWithHostNet"), _) => cluster(),
        (Some("Default"), _) | (_, true) => host.clone(),
        _ => cluster(),
    };
    if let Some(extra) = &spec.dns_config {
        merge(&mut found, extra);
    }
    let problems = limit(&mut found);
    (found, problems)
}

fn parsed(resolv_conf: &str) -> cri::DnsConfig {
    let mut found = cri::DnsConfig::default();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        let Some(keyword) = words.next() else { continue };
        match keyword {
            "nameserver" => found.servers.extend(words.next().map(str::to_owned)),
            // Of several lines the last one counts.
            "search" => {
                let whole = |word: &str| match word.trim_end_matches('.') {
                    "" => ".".to_owned(),
                    name => name.to_owned(),
                };
                found.searches = words.map(whole).collect();
            }
            "options" => found.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    found
}

fn add(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn merge(found: &mut cri::DnsConfig, extra: &PodDNSConfig) {
    add(&mut found.servers, extra.nameservers.as_deref().unwrap_or_default());
    add(&mut found.searches, extra.searches.as_deref().unwrap_or_default());
    for option in extra.options.iter().flatten() {
        let name = option.name.clone().unwrap_or_default();
        found.options.retain(|o| o.split(':').next() != Some(&name));
        found.options.push(match option.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name,
        });
    }
}

fn limit(found: &mut cri::DnsConfig) -> Vec<String> {
    let mut problems = Vec::new();
    if found.servers.len() > SERVERS_MAX {
        found.servers.truncate(SERVERS_MAX);
        problems.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            found.servers.join(" ")
        ));
    }
    let before = found.searches.len();
    found.searches.truncate(SEARCHES_MAX);
    while found.searches.join(" ").len() > SEARCH_LINE_MAX {
        found.searches.pop();
    }
    if found.searches.len() < before {
        problems.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            found.searches.join(" ")
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    const HOST: &str =
        "# ours\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch corp.example. example\noptions timeout:2\n";

    #[track_caller]
    fn check(spec: serde_json::Value, expected: &str) {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).expect("valid");
        let (dns, problems) = dns(&Config::new("node", Path::new("/data")), &pod, HOST);
        let lines = [dns.servers, dns.searches, dns.options, problems].map(|l| l.join(" "));
        assert_eq!(lines.join(" | ").trim_end_matches([' ', '|']), expected);
    }

    #[test]
    fn policies() {
        let cluster = "10.43.0.10 | n.svc.cluster.local svc.cluster.local cluster.local corp.example example | ndots:5";
        let host = "192.0.2.1 192.0.2.2 | corp.example example | timeout:2";
        check(json!({"containers": []}), cluster);
        check(json!({"containers": [], "dnsPolicy": "ClusterFirst"}), cluster);
        check(json!({"containers": [], "dnsPolicy": "Default"}), host);
        check(
            json!({"containers": [], "dnsPolicy": "ClusterFirst", "hostNetwork": true}),
            host,
        );
        check(
            json!({"containers": [], "dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
            cluster,
        );
        check(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.9"],
                   "searches": ["a.example"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            "192.0.2.9 | a.example | ndots:2 edns0",
        );
        check(
            json!({"containers": [], "dnsPolicy": "Default", "dnsConfig": {"nameservers": ["192.0.2.1", "192.0.2.9"],
                   "searches": ["example", "b.example"], "options": [{"name": "timeout", "value": "5"}]}}),
            "192.0.2.1 192.0.2.2 192.0.2.9 | corp.example example b.example | timeout:5",
        );
    }

    #[test]
    fn what_is_too_much_is_left_out_and_told() {
        check(
            json!({"containers": [], "dnsPolicy": "Default", "dnsConfig": {"nameservers": ["192.0.2.7", "192.0.2.8"]}}),
            "192.0.2.1 192.0.2.2 192.0.2.7 | corp.example example | timeout:2 | Nameserver limits were exceeded, \
             some nameservers have been omitted, the applied nameserver line is: 192.0.2.1 192.0.2.2 192.0.2.7",
        );
        let many: Vec<String> = (0..40).map(|i| format!("s{i}")).collect();
        let kept = many[..32].join(" ");
        check(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.9"], "searches": many}}),
            &format!(
                "192.0.2.9 | {kept} |  | Search Line limits were exceeded, some search paths have been omitted, \
                 the applied search line is: {kept}"
            ),
        );
    }
}
