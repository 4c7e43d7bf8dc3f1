//! The rules that a cluster's tables lead to, and the way from one set to the next.
//! `UPDATE_EXPECT=1` rewrites the golden files.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use skiff_network::proxy::model::{self, Model};
use skiff_network::proxy::ruleset::{Family, Ruleset, Site, desired};
use skiff_network::proxy::transaction::{diff, full, render};
use skiff_network::routes::{Via, plan};
use skiff_network::{Backend, ClusterView, NetworkConfig};
use std::net::IpAddr;
use std::sync::Arc;

fn dns() -> IpAddr {
    "10.43.0.10".parse().unwrap()
}

fn site() -> Site {
    Site {
        family: Family::V4,
        pod_cidrs: vec!["10.42.1.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        cluster_dns: Some(dns()),
    }
}

fn service(view: &mut ClusterView, name: &str, spec: Value) {
    let value = json!({"metadata": {"namespace": "d", "name": name}, "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
    let mut value: k8s_openapi::api::core::v1::Service = serde_json::from_value(value).unwrap();
    if value.spec.as_ref().unwrap().type_.as_deref() != Some("LoadBalancer") {
        value.status = None;
    }
    view.services.insert(("d".into(), name.into()), Arc::new(value));
}

/// `(address, node, ready, serving and terminating)`.
fn endpoints(view: &mut ClusterView, name: &str, list: &[(&str, &str, bool, bool)]) {
    let list: Vec<Value> = list
        .iter()
        .map(|(ip, node, ready, draining)| {
            json!({"addresses": [ip], "nodeName": node,
                "conditions": {"ready": ready, "serving": ready | draining, "terminating": draining}})
        })
        .collect();
    let value = json!({"metadata": {"labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
        "endpoints": list, "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]});
    view.endpoint_slices.insert(
        ("d".into(), name.into()),
        Arc::new(serde_json::from_value(value).unwrap()),
    );
}

fn read(view: &ClusterView) -> Model {
    model::read(view, "n1", dns())
}

fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{path} differs; look, then UPDATE_EXPECT=1");
}

fn sample() -> ClusterView {
    let mut view = ClusterView::default();
    let ports = |node: u16| json!([{"port": 80, "nodePort": node}]);
    service(
        &mut view,
        "plain",
        json!({"clusterIP": "10.43.0.20", "ports": [{"port": 80}]}),
    );
    endpoints(
        &mut view,
        "plain",
        &[("10.42.1.5", "n1", true, false), ("10.42.2.5", "n2", true, false)],
    );
    let balanced = json!({"type": "LoadBalancer", "clusterIP": "10.43.0.21", "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["192.0.2.0/24"], "ports": ports(30021)});
    service(&mut view, "balanced", balanced);
    endpoints(
        &mut view,
        "balanced",
        &[("10.42.1.6", "n1", true, false), ("10.42.2.6", "n2", true, false)],
    );
    service(
        &mut view,
        "empty",
        json!({"clusterIP": "10.43.0.22", "externalIPs": ["192.0.2.77"], "ports": ports(30022)}),
    );
    let sticky = json!({"clusterIP": "10.43.0.23", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
    service(&mut view, "sticky", sticky);
    endpoints(&mut view, "sticky", &[("10.42.2.8", "n2", true, false)]);
    service(
        &mut view,
        "inside",
        json!({"clusterIP": "10.43.0.24", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]}),
    );
    endpoints(&mut view, "inside", &[("10.42.2.9", "n2", true, false)]);
    service(
        &mut view,
        "dns",
        json!({"clusterIP": "10.43.0.10", "ports": [{"port": 53}]}),
    );
    endpoints(&mut view, "dns", &[("10.42.2.9", "n2", true, false)]);
    view
}

#[test]
fn whole_ruleset() {
    golden("full.nft", &render(&full(&desired(&read(&sample()), &site()))));
}

#[test]
fn one_changed_service_is_a_small_transaction() {
    let before = sample();
    let mut after = before.clone();
    endpoints(
        &mut after,
        "plain",
        &[("10.42.2.5", "n2", true, false), ("10.42.2.99", "n2", true, false)],
    );
    endpoints(&mut after, "empty", &[("10.42.2.50", "n2", true, false)]);
    after.services.remove(&("d".to_owned(), "sticky".to_owned()));
    let (old, new) = (desired(&read(&before), &site()), desired(&read(&after), &site()));
    golden("change.nft", &render(&diff(&old, &new)));
    assert!(diff(&new, &new).ops.is_empty());
}

#[test]
fn choice_of_backends() {
    let cases: [(&str, &[(&str, &str, bool, bool)], &[&str], &[&str]); 4] = [
        (
            "ready only",
            &[("10.0.0.1", "n1", true, false), ("10.0.0.2", "n2", false, true)],
            &["10.0.0.1"],
            &["10.0.0.1"],
        ),
        (
            "draining when none is ready",
            &[("10.0.0.1", "n1", false, true), ("10.0.0.2", "n2", false, false)],
            &["10.0.0.1"],
            &["10.0.0.1"],
        ),
        (
            "draining here when the ready are elsewhere",
            &[("10.0.0.1", "n1", false, true), ("10.0.0.2", "n2", true, false)],
            &["10.0.0.2"],
            &["10.0.0.1"],
        ),
        ("none", &[("10.0.0.1", "n1", false, false)], &[], &[]),
    ];
    for (what, list, all, local) in cases {
        let mut view = ClusterView::default();
        service(
            &mut view,
            "s",
            json!({"clusterIP": "10.43.0.20", "ports": [{"port": 80}]}),
        );
        endpoints(&mut view, "s", list);
        let model = read(&view);
        let found = model.services.values().next().unwrap();
        let ips = |backends: &[model::Backend]| backends.iter().map(|b| b.ip.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (ips(&found.backends), ips(&found.local_backends)),
            (ips_of(all), ips_of(local)),
            "{what}"
        );
    }
}

fn ips_of(list: &[&str]) -> Vec<String> {
    list.iter().map(|ip| (*ip).to_owned()).collect()
}

/// The kernel's opinion of a walk through changes: after each difference the
/// table is what a whole replacement would have made.
#[test]
fn differences_add_up_to_the_whole() {
    let namespace = format!("sknet-rules-{}", std::process::id());
    let run = |program: &str, arguments: &[&str], input: &str| -> String {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace, program]).args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}\n{input}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    struct Gone<'a>(&'a str);
    impl Drop for Gone<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("ip").args(["netns", "del", self.0]).status();
        }
    }
    assert!(
        std::process::Command::new("ip")
            .args(["netns", "add", &namespace])
            .status()
            .unwrap()
            .success()
    );
    let _gone = Gone(&namespace);
    let (mut seed, mut current): (u64, Option<Ruleset>) = (1, None);
    let mut view = sample();
    for step in 0..25 {
        let mut next = |bound: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % bound
        };
        let name = ["plain", "balanced", "empty", "sticky", "inside", "new"][usize::try_from(next(6)).unwrap()];
        match next(4) {
            0 => {
                view.services.remove(&("d".to_owned(), name.to_owned()));
            }
            1 => {
                let affinity = if next(2) == 0 { "ClientIP" } else { "None" };
                let spec = json!({"type": "LoadBalancer", "clusterIP": format!("10.43.1.{}", next(3)),
                    "sessionAffinity": affinity, "ports": [{"port": 80, "nodePort": 30100 + next(3)}]});
                service(&mut view, name, spec);
            }
            _ => {
                let ips: Vec<String> = (0..next(4)).map(|i| format!("10.42.{}.{}", 1 + i % 2, 5 + i)).collect();
                let list: Vec<_> = ips
                    .iter()
                    .map(|ip| {
                        (
                            ip.as_str(),
                            if ip.starts_with("10.42.1.") { "n1" } else { "n2" },
                            true,
                            false,
                        )
                    })
                    .collect();
                endpoints(&mut view, name, &list);
            }
        }
        let wanted = desired(&read(&view), &site());
        let transaction = current
            .as_ref()
            .map_or_else(|| full(&wanted), |current| diff(current, &wanted));
        run("nft", &["-f", "-"], &render(&transaction));
        let by_steps = sorted(&run("nft", &["list", "table", "ip", "skiff"], ""));
        run("nft", &["-f", "-"], &render(&full(&wanted)));
        let at_once = sorted(&run("nft", &["list", "table", "ip", "skiff"], ""));
        assert_eq!(by_steps, at_once, "step {step}");
        current = Some(wanted);
    }
}

/// Chains and elements come in the order of their making, which does not matter.
fn sorted(listing: &str) -> Vec<String> {
    let mut lines: Vec<String> = listing
        .replace(", ", "\n")
        .replace(['{', '}', ','], "\n")
        .lines()
        .map(|l| l.trim().to_owned())
        .collect();
    lines.sort();
    lines.retain(|line| !line.is_empty());
    lines
}

#[test]
fn ways_to_other_nodes() {
    let config = |backend| NetworkConfig {
        node_name: "n1".into(),
        node_ip: "192.0.2.1".parse().unwrap(),
        pod_cidr: "10.42.1.0/24".parse().unwrap(),
        cluster_cidrs: vec![],
        service_cidrs: vec![],
        cluster_dns: dns(),
        cluster_domain: "cluster.local".into(),
        backend,
        upstream_resolv_conf: "/etc/resolv.conf".into(),
        data_dir: "/nowhere".into(),
        mtu: None,
    };
    let mut view = ClusterView::default();
    for (name, ip, range) in [
        ("n1", "192.0.2.1", "10.42.1.0/24"),
        ("near", "192.0.2.2", "10.42.2.0/24"),
        ("far", "198.51.100.3", "10.42.3.0/24"),
        ("thief", "192.0.2.4", "10.42.1.0/24"),
        ("unready", "192.0.2.5", ""),
    ] {
        let value =
            json!({"spec": {"podCIDR": range}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]}});
        view.nodes
            .insert(name.into(), Arc::new(serde_json::from_value(value).unwrap()));
    }
    let segments = ["192.0.2.1/24".parse().unwrap()];
    for (backend, near, far, unreachable) in [
        (Backend::Auto, "node 192.0.2.2", "tunnel 10.42.3.1", "thief"),
        (Backend::Vxlan, "tunnel 10.42.2.1", "tunnel 10.42.3.1", "thief"),
        (Backend::Direct, "node 192.0.2.2", "none", "far thief"),
    ] {
        let plan = plan(&config(backend), &view.nodes, &segments);
        let via = |range: &str| match plan.routes.get(&range.parse().unwrap()) {
            Some(Via::Node(ip)) => format!("node {ip}"),
            Some(Via::Tunnel(ip)) => format!("tunnel {ip}"),
            None => "none".to_owned(),
        };
        let lost: Vec<&str> = plan.unreachable.keys().map(String::as_str).collect();
        let found = (
            via("10.42.2.0/24"),
            via("10.42.3.0/24"),
            via("10.42.1.0/24"),
            lost.join(" "),
        );
        assert_eq!(
            found,
            (near.into(), far.into(), "none".into(), unreachable.into()),
            "{backend:?}"
        );
        let tunnelled = plan.routes.values().filter(|via| matches!(via, Via::Tunnel(_))).count();
        assert_eq!(
            (plan.neighbours.len(), plan.forwarding.len(), plan.tunnel.is_some()),
            (tunnelled, tunnelled, tunnelled > 0)
        );
    }
}

/// A range that was added to the cluster later is no part of the node's configuration.
#[test]
fn addresses_of_added_ranges_are_refused_one_by_one() {
    let mut view = ClusterView::default();
    for (name, ip) in [
        ("inside", "10.43.0.30"),
        ("added", "10.196.0.30"),
        ("empty", "10.196.0.31"),
    ] {
        service(&mut view, name, json!({"clusterIP": ip, "ports": [{"port": 80}]}));
    }
    endpoints(&mut view, "added", &[("10.42.1.5", "n1", true, false)]);
    let rules = desired(&read(&view), &site());
    let refused: Vec<&String> = rules.elements["cluster_ips"].keys().collect();
    assert_eq!(refused, ["10.196.0.30", "10.196.0.31"]);
    assert_eq!(
        rules.elements["services"].len(),
        1,
        "only what has backends is translated"
    );
}
