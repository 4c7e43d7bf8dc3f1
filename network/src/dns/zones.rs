//! What the cluster's names mean: Kubernetes' DNS specification 1.1.0
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>). Pure.
//!
//! Names are read, not stored: a question's labels say which Service to look up
//! in the view, and only two small indices stand beside it.

use crate::proxy::model::SERVICE_NAME;
use crate::view::{ClusterView, Key};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Seconds a client may keep an answer: as CoreDNS' kubernetes plugin, since
/// endpoints come and go.
pub const TTL: u32 = 5;

pub struct Zones {
    view: Arc<ClusterView>,
    /// `cluster.local` as labels.
    domain: Vec<String>,
    dns: IpAddr,
    /// Ranges whose reverse names are ours.
    reverse_ranges: Vec<IpNet>,
    slices: BTreeMap<Key, Vec<Arc<EndpointSlice>>>,
    reverse: BTreeMap<IpAddr, String>,
    serial: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Somebody else's name.
    NotOurs,
    Records {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// An alias for a name to be looked up in turn.
    Alias {
        record: Box<Record>,
        target: Name,
    },
    /// The name exists, without records of the type asked.
    NoData,
    NoName,
}

/// The cluster as DNS needs it.
#[derive(Debug, Clone)]
pub struct Site {
    pub domain: String,
    pub dns: IpAddr,
    pub reverse_ranges: Vec<IpNet>,
}

impl Zones {
    pub fn new(view: Arc<ClusterView>, site: &Site, serial: u32) -> Zones {
        let mut slices: BTreeMap<Key, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
        for ((namespace, _), slice) in &view.endpoint_slices {
            if let Some(service) = slice
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(SERVICE_NAME))
            {
                slices
                    .entry((namespace.clone(), service.clone()))
                    .or_default()
                    .push(slice.clone());
            }
        }
        let domain = site
            .domain
            .trim_matches('.')
            .to_ascii_lowercase()
            .split('.')
            .map(str::to_owned)
            .collect();
        let mut zones = Zones {
            domain,
            dns: site.dns,
            reverse_ranges: site.reverse_ranges.clone(),
            slices,
            reverse: BTreeMap::new(),
            serial,
            view: view.clone(),
        };
        for (key, service) in &view.services {
            zones.index_reverse(key, service);
        }
        zones
    }

    /// Whether a new view says anything else to DNS.
    pub fn same(&self, view: &ClusterView) -> bool {
        fn same<T>(a: &BTreeMap<Key, Arc<T>>, b: &BTreeMap<Key, Arc<T>>) -> bool {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((ka, va), (kb, vb))| Arc::ptr_eq(va, vb) && ka == kb)
        }
        same(&self.view.services, &view.services) && same(&self.view.endpoint_slices, &view.endpoint_slices)
    }

    fn index_reverse(&mut self, key: &Key, service: &Service) {
        let base = format!("{}.{}.svc", key.1, key.0);
        let mut found: Vec<(IpAddr, String)> = cluster_ips(service).into_iter().map(|ip| (ip, base.clone())).collect();
        if is_headless(service) {
            for endpoint in self.ready(key) {
                found.extend(ips(endpoint).map(|ip| (ip, format!("{}.{base}", host_label(endpoint, ip)))));
            }
        }
        for (ip, name) in found {
            self.reverse.entry(ip).or_insert(name);
        }
    }

    fn ready<'a>(&'a self, key: &Key) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
        self.slices
            .get(key)
            .into_iter()
            .flatten()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .filter(|endpoint| {
                endpoint
                    .conditions
                    .as_ref()
                    .and_then(|conditions| conditions.ready)
                    .unwrap_or(true)
            })
    }

    fn name(&self, relative: &str) -> Name {
        let labels = relative
            .split('.')
            .filter(|l| !l.is_empty())
            .chain(self.domain.iter().map(String::as_str));
        let name = Name::from_labels(labels.map(str::as_bytes)).unwrap_or_else(|_| Name::root());
        fqdn(name)
    }

    /// Goes with every answer that has no records.
    pub fn soa(&self) -> Record {
        let soa = SOA::new(
            self.name("ns.dns"),
            self.name("hostmaster"),
            self.serial,
            7200,
            1800,
            86400,
            TTL,
        );
        Record::from_rdata(self.name(""), TTL, RData::SOA(soa))
    }
}

pub fn answer(zones: &Zones, name: &Name, kind: RecordType) -> Answer {
    let labels: Vec<String> = name
        .iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect();
    if let Some(found) = reverse(zones, name, &labels, kind) {
        return found;
    }
    let Some(split) = labels.len().checked_sub(zones.domain.len()) else {
        return Answer::NotOurs;
    };
    let (rest, domain) = labels.split_at(split);
    if domain != zones.domain {
        return Answer::NotOurs;
    }
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match rest.as_slice() {
        [] => match kind {
            RecordType::SOA => records(vec![zones.soa()]),
            RecordType::NS => one(name, RData::NS(NS(zones.name("ns.dns")))),
            _ => Answer::NoData,
        },
        ["ns", "dns"] => addresses(name, kind, [zones.dns]),
        ["dns-version"] => match kind {
            RecordType::TXT => one(name, RData::TXT(TXT::new(vec!["1.1.0".to_owned()]))),
            _ => Answer::NoData,
        },
        ["dns" | "svc" | "pod"] | [_, "pod"] => Answer::NoData,
        [ip, _, "pod"] => dashed(ip).map_or(Answer::NoName, |ip| addresses(name, kind, [ip])),
        [namespace, "svc"] => {
            let from = ((*namespace).to_owned(), String::new());
            let first = zones.view.services.range(from..).next();
            if first.is_some_and(|((found, _), _)| found == namespace) {
                Answer::NoData
            } else {
                Answer::NoName
            }
        }
        [below @ .., service, namespace, "svc"] => {
            let key = ((*namespace).to_owned(), (*service).to_owned());
            match zones.view.services.get(&key) {
                Some(service) => of_service(
                    zones,
                    &Asked {
                        name,
                        kind,
                        key: &key,
                        service,
                    },
                    below,
                ),
                None => Answer::NoName,
            }
        }
        _ => Answer::NoName,
    }
}

struct Asked<'a> {
    name: &'a Name,
    kind: RecordType,
    key: &'a Key,
    service: &'a Service,
}

fn of_service(zones: &Zones, asked: &Asked<'_>, below: &[&str]) -> Answer {
    let external = asked
        .service
        .spec
        .as_ref()
        .filter(|spec| spec.type_.as_deref() == Some("ExternalName"));
    if let Some(target) = external.and_then(|spec| spec.external_name.as_deref()) {
        return if below.is_empty() {
            alias(asked, target)
        } else {
            Answer::NoName
        };
    }
    match below {
        [] if asked.kind == RecordType::SRV => services(zones, asked, None),
        [] if is_headless(asked.service) => {
            let found: BTreeSet<IpAddr> = zones.ready(asked.key).flat_map(ips).collect();
            if found.is_empty() {
                Answer::NoName
            } else {
                addresses(asked.name, asked.kind, found)
            }
        }
        [] => addresses(asked.name, asked.kind, cluster_ips(asked.service)),
        [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
            services(zones, asked, Some((&port[1..], &protocol[1..])))
        }
        // Only stands between `_port._tcp.svc` and `svc`.
        ["_tcp" | "_udp" | "_sctp"] => Answer::NoData,
        [host] => {
            let found: BTreeSet<IpAddr> = zones
                .ready(asked.key)
                .flat_map(|endpoint| ips(endpoint).map(move |ip| (endpoint, ip)))
                .filter(|(endpoint, ip)| host_label(endpoint, *ip) == *host)
                .map(|(_, ip)| ip)
                .collect();
            if found.is_empty() {
                Answer::NoName
            } else {
                addresses(asked.name, asked.kind, found)
            }
        }
        _ => Answer::NoName,
    }
}

fn alias(asked: &Asked<'_>, target: &str) -> Answer {
    // Not what the API means, but what CoreDNS does with an address there.
    if let Ok(ip) = target.parse::<IpAddr>() {
        return addresses(asked.name, asked.kind, [ip]);
    }
    let Ok(target) = Name::from_ascii(target).map(fqdn) else {
        return Answer::NoData;
    };
    let record = Record::from_rdata(asked.name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
    match asked.kind {
        RecordType::CNAME => records(vec![record]),
        RecordType::A | RecordType::AAAA | RecordType::SRV | RecordType::TXT => Answer::Alias {
            record: Box::new(record),
            target,
        },
        _ => Answer::NoData,
    }
}

/// SRV records of one port, or of all named ports, with the targets' addresses.
fn services(zones: &Zones, asked: &Asked<'_>, port: Option<(&str, &str)>) -> Answer {
    let base = format!("{}.{}.svc", asked.key.1, asked.key.0);
    let wanted = |name: Option<&str>, protocol: Option<&str>| {
        let (name, protocol) = (name.unwrap_or_default(), protocol.unwrap_or("TCP"));
        !name.is_empty() && port.is_none_or(|(n, p)| n == name && protocol.eq_ignore_ascii_case(p))
    };
    let mut targets: BTreeMap<(String, u16), BTreeSet<IpAddr>> = BTreeMap::new();
    if is_headless(asked.service) {
        for slice in zones.slices.get(asked.key).into_iter().flatten() {
            let ports = slice
                .ports
                .iter()
                .flatten()
                .filter(|p| wanted(p.name.as_deref(), p.protocol.as_deref()));
            for number in ports.filter_map(|p| u16::try_from(p.port?).ok()) {
                let endpoints = slice.endpoints.iter().flatten();
                let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
                for (endpoint, ip) in ready.flat_map(|endpoint| ips(endpoint).map(move |ip| (endpoint, ip))) {
                    let host = format!("{}.{base}", host_label(endpoint, ip));
                    targets.entry((host, number)).or_default().insert(ip);
                }
            }
        }
    } else {
        let ports = asked.service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        for port in ports.filter(|p| wanted(p.name.as_deref(), p.protocol.as_deref())) {
            if let Ok(number) = u16::try_from(port.port) {
                targets
                    .entry((base.clone(), number))
                    .or_default()
                    .extend(cluster_ips(asked.service));
            }
        }
    }
    if targets.is_empty() {
        // A port that the Service does not have is no name; the Service itself is one.
        return if port.is_some() { Answer::NoName } else { Answer::NoData };
    }
    if asked.kind != RecordType::SRV && asked.kind != RecordType::ANY {
        return Answer::NoData;
    }
    let weight = (100 / u16::try_from(targets.len()).unwrap_or(100)).max(1);
    let (mut answers, mut additionals) = (Vec::new(), BTreeMap::new());
    for ((host, number), found) in targets {
        let target = zones.name(&host);
        let srv = RData::SRV(SRV::new(0, weight, number, target.clone()));
        answers.push(Record::from_rdata(asked.name.clone(), TTL, srv));
        additionals
            .entry(host)
            .or_insert_with(|| -> Vec<Record> { found.into_iter().map(|ip| record(&target, ip)).collect() });
    }
    Answer::Records {
        answers,
        additionals: additionals.into_values().flatten().collect(),
    }
}

fn reverse(zones: &Zones, name: &Name, labels: &[String], kind: RecordType) -> Option<Answer> {
    if labels.last().map(String::as_str) != Some("arpa") {
        return None;
    }
    let net = name.parse_arpa_name().ok()?;
    if net.prefix_len() != net.max_prefix_len() || !zones.reverse_ranges.iter().any(|range| range.contains(&net.addr()))
    {
        return None;
    }
    Some(match zones.reverse.get(&net.addr()) {
        Some(found) if kind == RecordType::PTR => one(name, RData::PTR(PTR(zones.name(found)))),
        Some(_) => Answer::NoData,
        None => Answer::NoName,
    })
}

fn one(name: &Name, data: RData) -> Answer {
    records(vec![Record::from_rdata(name.clone(), TTL, data)])
}

fn records(answers: Vec<Record>) -> Answer {
    Answer::Records {
        answers,
        additionals: Vec::new(),
    }
}

fn record(name: &Name, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Record::from_rdata(name.clone(), TTL, data)
}

fn addresses(name: &Name, kind: RecordType, ips: impl IntoIterator<Item = IpAddr>) -> Answer {
    let of_kind = |ip: &IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    let found: Vec<Record> = ips.into_iter().filter(of_kind).map(|ip| record(name, ip)).collect();
    if found.is_empty() {
        Answer::NoData
    } else {
        records(found)
    }
}

fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let listed = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|ip| ip.parse().ok())
        .collect::<Vec<IpAddr>>();
    if listed.is_empty() {
        spec.cluster_ip.iter().filter_map(|ip| ip.parse().ok()).collect()
    } else {
        listed
    }
}

fn ips(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + '_ {
    endpoint.addresses.iter().filter_map(|address| address.parse().ok())
}

/// The endpoint's host name, else its address with dashes.
fn host_label(endpoint: &Endpoint, ip: IpAddr) -> String {
    match &endpoint.hostname {
        Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
        _ => ip.to_string().replace(['.', ':'], "-"),
    }
}

/// `10-42-0-5` or `fd00--5`.
fn dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()
}

fn fqdn(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}
