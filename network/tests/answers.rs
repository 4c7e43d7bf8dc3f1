//! What DNS answers, by tables: `type name -> answer`.
#![allow(clippy::unwrap_used)]

use hickory_proto::rr::{Name, RData, RecordType};
use serde_json::{Value, json};
use skiff_network::ClusterView;
use skiff_network::dns::zones::{Answer, Site, Zones, answer};
use std::sync::Arc;

fn view() -> ClusterView {
    let mut view = ClusterView::default();
    let services = [
        (
            "web",
            json!({"clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}),
        ),
        (
            "dual",
            json!({"clusterIP": "10.43.0.6", "clusterIPs": ["10.43.0.6", "fd43::6"]}),
        ),
        (
            "db",
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]}),
        ),
        ("none", json!({"clusterIP": "None"})),
        ("ext", json!({"type": "ExternalName", "externalName": "Example.com"})),
        (
            "inner",
            json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
        ),
    ];
    for (name, spec) in services {
        let value: Value = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
        view.services.insert(
            ("default".into(), name.into()),
            Arc::new(serde_json::from_value(value).unwrap()),
        );
    }
    let slice = json!({"metadata": {"namespace": "default", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.42.0.7"], "hostname": "db-0", "conditions": {"ready": true}},
                      {"addresses": ["10.42.1.8"]},
                      {"addresses": ["10.42.1.9"], "hostname": "db-9", "conditions": {"ready": false}}]});
    view.endpoint_slices.insert(
        ("default".into(), "db-1".into()),
        Arc::new(serde_json::from_value(slice).unwrap()),
    );
    view
}

fn zones() -> Zones {
    let site = Site {
        domain: "cluster.local".into(),
        dns: "10.43.0.10".parse().unwrap(),
        reverse_ranges: vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()],
    };
    Zones::new(Arc::new(view()), &site, 1)
}

fn ask(zones: &Zones, question: &str) -> String {
    let (kind, name) = question.split_once(' ').unwrap();
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    match answer(zones, &name, kind.parse::<RecordType>().unwrap()) {
        Answer::NotOurs => "elsewhere".into(),
        Answer::NoData => "nodata".into(),
        Answer::NoName => "nxdomain".into(),
        Answer::Alias { target, .. } => format!("alias {target}"),
        Answer::Records { answers, additionals } => {
            let text = |data: &RData| match data {
                RData::SRV(srv) => format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target),
                other => other.to_string(),
            };
            assert!(
                answers.iter().all(|record| record.name == name),
                "{question}: answers to another name"
            );
            let all: Vec<String> = answers
                .iter()
                .chain(&additionals)
                .map(|record| text(&record.data))
                .collect();
            all.join(", ")
        }
    }
}

#[test]
fn names_of_the_specification() {
    let zones = zones();
    for (question, wanted) in [
        ("A web.default.svc.cluster.local", "10.43.0.5"),
        ("A WEB.Default.svc.Cluster.local", "10.43.0.5"),
        ("AAAA web.default.svc.cluster.local", "nodata"),
        ("AAAA dual.default.svc.cluster.local", "fd43::6"),
        ("MX web.default.svc.cluster.local", "nodata"),
        ("A nope.default.svc.cluster.local", "nxdomain"),
        ("A web.other.svc.cluster.local", "nxdomain"),
        ("A a.b.web.default.svc.cluster.local", "nxdomain"),
        // What a search path makes of an absolute name, and of somebody else's.
        ("A web.default.svc.cluster.local.default.svc.cluster.local", "nxdomain"),
        ("A example.com.default.svc.cluster.local", "nxdomain"),
        ("A example.com", "elsewhere"),
        ("A local", "elsewhere"),
        // Headless: ready endpoints only, by host name or by address.
        ("A db.default.svc.cluster.local", "10.42.0.7, 10.42.1.8"),
        ("A db-0.db.default.svc.cluster.local", "10.42.0.7"),
        ("A 10-42-1-8.db.default.svc.cluster.local", "10.42.1.8"),
        ("A db-9.db.default.svc.cluster.local", "nxdomain"),
        ("A none.default.svc.cluster.local", "nxdomain"),
        // Ports.
        (
            "SRV _http._tcp.web.default.svc.cluster.local",
            "0 100 80 web.default.svc.cluster.local., 10.43.0.5",
        ),
        ("SRV _http._udp.web.default.svc.cluster.local", "nxdomain"),
        (
            "SRV _dns._udp.web.default.svc.cluster.local",
            "0 100 53 web.default.svc.cluster.local., 10.43.0.5",
        ),
        ("A _http._tcp.web.default.svc.cluster.local", "nodata"),
        ("A _tcp.web.default.svc.cluster.local", "nodata"),
        (
            "SRV _sql._tcp.db.default.svc.cluster.local",
            "0 50 5432 10-42-1-8.db.default.svc.cluster.local., 0 50 5432 db-0.db.default.svc.cluster.local., \
             10.42.1.8, 10.42.0.7",
        ),
        // External names.
        ("A ext.default.svc.cluster.local", "alias Example.com."),
        ("CNAME ext.default.svc.cluster.local", "Example.com."),
        (
            "A inner.default.svc.cluster.local",
            "alias web.default.svc.cluster.local.",
        ),
        // Pods.
        ("A 10-42-0-7.default.pod.cluster.local", "10.42.0.7"),
        ("AAAA fd00--7.default.pod.cluster.local", "fd00::7"),
        ("AAAA 10-42-0-7.default.pod.cluster.local", "nodata"),
        ("A pod-name.default.pod.cluster.local", "nxdomain"),
        // Reverse.
        ("PTR 5.0.43.10.in-addr.arpa", "web.default.svc.cluster.local."),
        ("PTR 7.0.42.10.in-addr.arpa", "db-0.db.default.svc.cluster.local."),
        ("PTR 99.0.42.10.in-addr.arpa", "nxdomain"),
        ("PTR 1.1.1.1.in-addr.arpa", "elsewhere"),
        // The zone itself.
        ("TXT dns-version.cluster.local", "1.1.0"),
        ("NS cluster.local", "ns.dns.cluster.local."),
        ("A ns.dns.cluster.local", "10.43.0.10"),
        ("A cluster.local", "nodata"),
        ("A svc.cluster.local", "nodata"),
        ("A default.svc.cluster.local", "nodata"),
        ("A defaul.svc.cluster.local", "nxdomain"),
    ] {
        assert_eq!(ask(&zones, question), wanted, "{question}");
    }
}

#[test]
fn only_what_dns_reads_makes_new_zones() {
    let first = Arc::new(view());
    let site = Site {
        domain: "cluster.local".into(),
        dns: "10.43.0.10".parse().unwrap(),
        reverse_ranges: vec![],
    };
    let zones = Zones::new(first.clone(), &site, 1);
    let mut next = (*first).clone();
    next.nodes.insert("n".into(), Arc::default());
    assert!(zones.same(&next));
    next.services.remove(&("default".to_owned(), "web".to_owned()));
    assert!(!zones.same(&next));
}
