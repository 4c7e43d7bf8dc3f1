//! How long decisions take by themselves, without API server or store:
//! `cargo run --release -p skiff-scheduler --example decide -- [NODES] [PODS]`.
//! Each kind of pod is decided and placed so many times, on a cluster that has some
//! pods per node already.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};
use skiff_scheduler::{Budget, Candidate, PodInfo, Snapshot, preempt, schedule};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pods on each node before the measurement, of so many templates in all.
const PODS_PER_NODE: usize = 10;
const TEMPLATES: usize = 100;
const ZONES: usize = 10;

fn node(at: usize) -> Node {
    let name = format!("node-{at}");
    let value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", at % ZONES), "kubernetes.io/os": "linux"}},
        "status": {"allocatable": {"cpu": "32", "memory": "256Gi", "pods": "500", "ephemeral-storage": "1Ti"}},
    });
    serde_json::from_value(value).expect("a node")
}

fn pod(name: &str, template: &str, spec: &Value) -> Pod {
    let mut spec = spec.clone();
    if spec.get("containers").is_none() {
        spec["containers"] =
            json!([{"name": "c", "image": "img:1", "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]);
    }
    let value = json!({"metadata": {"namespace": "default", "name": name, "uid": name, "labels": {"app": template}}, "spec": spec});
    serde_json::from_value(value).expect("a pod")
}

fn cluster(nodes: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for at in 0..nodes {
        snapshot.set_node(&node(at));
        for number in 0..PODS_PER_NODE {
            let template = format!("old-{}", (at * PODS_PER_NODE + number) % TEMPLATES);
            let pod = pod(&format!("old-{at}-{number}"), &template, &json!({}));
            snapshot.set_pod(&format!("node-{at}"), Arc::new(PodInfo::new(&pod)));
        }
    }
    snapshot
}

fn between(field: &str, key: &str, preferred: bool) -> Value {
    let term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": "new"}}});
    let rule = if preferred {
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm": term}]})
    } else {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]})
    };
    json!({"affinity": {field: rule}})
}

fn spread(key: &str, action: &str) -> Value {
    json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": action,
        "labelSelector": {"matchLabels": {"app": "new"}}}]})
}

/// Time that this thread has been running: what others do on a busy machine does not count.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(ran.unwrap_or(0))
}

/// Decides on `pods` pods and places them; (the whole, the slowest one).
fn run(
    snapshot: &mut Snapshot,
    pods: usize,
    make: impl Fn(usize) -> Pod,
    kin: Option<&LabelSelector>,
) -> (Duration, Duration) {
    let mut slowest = Duration::ZERO;
    let candidates: Vec<Candidate> = (0..pods)
        .map(|at| Candidate::with(Arc::new(make(at)), Arc::default(), kin.cloned().map(Arc::new)))
        .collect();
    let whole = busy();
    for (at, candidate) in candidates.iter().enumerate() {
        let begun = Instant::now();
        let placement = schedule(snapshot, candidate, at as u64).expect("it fits");
        let decided = begun.elapsed();
        snapshot.set_pod(&placement.node, candidate.info.clone());
        slowest = slowest.max(decided);
    }
    (busy() - whole, slowest)
}

fn report(name: &str, pods: usize, (whole, slowest): (Duration, Duration)) {
    let each = whole / u32::try_from(pods).expect("not so many");
    println!("{name:38} {each:>10.1?} each, slowest {slowest:>10.1?}");
}

fn main() {
    let number = |at: usize, default| {
        std::env::args()
            .nth(at)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (nodes, pods) = (number(1, 5000), number(2, 2000));
    let fresh = Instant::now();
    let base = cluster(nodes);
    println!(
        "{nodes} nodes, {} pods set in {:.1?}",
        base.pod_count(),
        fresh.elapsed()
    );
    let (host, zone) = ("kubernetes.io/hostname", "topology.kubernetes.io/zone");
    let new = |at: usize, spec: &Value| pod(&format!("new-{at}"), "new", spec);
    for (name, spec) in [
        ("basic", json!({})),
        ("required affinity, zone", between("podAffinity", zone, false)),
        ("required anti-affinity, host", between("podAntiAffinity", host, false)),
        ("preferred affinity, host", between("podAffinity", host, true)),
        ("preferred anti-affinity, host", between("podAntiAffinity", host, true)),
        ("required spreading, zone", spread(zone, "DoNotSchedule")),
        ("required spreading, host", spread(host, "DoNotSchedule")),
        ("preferred spreading, zone", spread(zone, "ScheduleAnyway")),
        ("preferred spreading, host", spread(host, "ScheduleAnyway")),
    ] {
        let pods = pods.min(nodes);
        report(name, pods, run(&mut base.clone(), pods, |at| new(at, &spec), None));
    }
    let kin: LabelSelector = serde_json::from_value(json!({"matchLabels": {"app": "new"}})).expect("a selector");
    report(
        "default spreading",
        pods,
        run(&mut base.clone(), pods, |at| new(at, &json!({})), Some(&kin)),
    );
    let many = |at: usize| pod(&format!("new-{at}"), &format!("new-{}", at % TEMPLATES), &json!({}));
    report("100 templates in turn", pods, run(&mut base.clone(), pods, many, None));
    let ordinal = |at: usize| {
        pod(
            &format!("new-{at}"),
            &format!("new-{at}"),
            &between("podAntiAffinity", host, true),
        )
    };
    report(
        "each pod other labels, anti-affinity",
        pods,
        run(&mut base.clone(), pods, ordinal, None),
    );
    let daemon = |at: usize| {
        let field = json!({"key": "metadata.name", "operator": "In", "values": [format!("node-{}", at % nodes)]});
        let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        new(
            at,
            &json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}),
        )
    };
    report("daemon set", pods, run(&mut base.clone(), pods, daemon, None));
    in_vain(&mut base.clone(), pods);
    makes_room(&mut base.clone(), pods.min(nodes));
}

fn asks(cpu: &str, priority: i32) -> Value {
    json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

fn in_vain(snapshot: &mut Snapshot, pods: usize) {
    let begun = busy();
    for at in 0..pods {
        let candidate = Candidate::new(Arc::new(pod(&format!("new-{at}"), "new", &asks("32", 0))));
        let why = schedule(snapshot, &candidate, 0).expect_err("it is too much");
        preempt(snapshot, &candidate, &why, &[]).expect_err("nobody is of lower priority");
    }
    report(
        "unschedulable, with a try at preemption",
        pods,
        (busy() - begun, Duration::ZERO),
    );
}

/// Each takes the place of all that is on some node.
fn makes_room(snapshot: &mut Snapshot, pods: usize) {
    let (whole, mut slowest) = (busy(), Duration::ZERO);
    for at in 0..pods {
        let candidate = Candidate::new(Arc::new(pod(&format!("new-{at}"), "new", &asks("31500m", 10))));
        let begun = Instant::now();
        let why = schedule(snapshot, &candidate, 0).expect_err("it is too much");
        let room = preempt(snapshot, &candidate, &why, &[Budget::default()]).expect("room");
        slowest = slowest.max(begun.elapsed());
        for victim in &room.victims {
            snapshot.remove_pod(&victim.key);
        }
        snapshot.set_pod(&room.node, candidate.info.clone());
    }
    report("preemption", pods, (busy() - whole, slowest));
}
