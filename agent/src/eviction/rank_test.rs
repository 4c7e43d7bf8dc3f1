use super::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MIB: i64 = 1 << 20;

fn pod(name: &str, spec: Value) -> Arc<Pod> {
    let value = json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": spec});
    Arc::new(serde_json::from_value(value).expect("valid"))
}

fn asking(name: &str, memory: &str, priority: i32) -> Arc<Pod> {
    let needs = json!({"requests": {"memory": memory}});
    pod(
        name,
        json!({"priority": priority, "containers": [{"name": "c", "resources": needs}]}),
    )
}

fn using(pod: Arc<Pod>, memory_mib: i64) -> Candidate {
    let used = Use {
        memory_bytes: memory_mib * MIB,
        logs_bytes: MIB,
        written_bytes: 2 * MIB,
        inodes: 3,
    };
    Candidate {
        pod,
        used: PodUse {
            containers: [("c".to_owned(), used)].into(),
            memory_bytes: memory_mib * MIB,
            ..PodUse::default()
        },
    }
}

#[test]
fn who_goes_first() {
    let mut all = vec![
        using(asking("within", "100Mi", 0), 90),
        using(asking("little-over", "100Mi", 0), 110),
        using(asking("much-over", "100Mi", 0), 300),
        using(asking("important", "100Mi", 1_000), 900),
        using(asking("critical", "0", 2_000_000_000), 5_000),
        using(asking("less-within", "100Mi", -1), 1),
    ];
    rank(&mut all, Signal::Memory);
    let names: Vec<String> = all.iter().map(|c| spec::key(&c.pod).1).collect();
    assert_eq!(
        names,
        ["much-over", "little-over", "important", "less-within", "within"]
    );
    // Nobody asks for processes: priority, then who has the most.
    let mut all = vec![
        using(asking("few", "0", 0), 1),
        using(asking("many", "0", 0), 1),
        using(asking("low", "0", -1), 1),
    ];
    all[1].used.processes = 50;
    rank(&mut all, Signal::Pids);
    let names: Vec<String> = all.iter().map(|c| spec::key(&c.pod).1).collect();
    assert_eq!(names, ["low", "many", "few"]);
}

#[test]
fn upstreams_words() {
    let left = Left {
        available: 50 * MIB,
        capacity: 1_000 * MIB,
    };
    let threshold = |signal, value: &str| {
        let name = if signal == Signal::Memory {
            "memory.available"
        } else {
            "nodefs.available"
        };
        let text = format!("{name}<{value}");
        super::super::threshold::Settings::parse(&text, "", "", "")
            .expect("right")
            .thresholds
            .remove(0)
    };
    let one = using(asking("p", "100Mi", 0), 300);
    assert_eq!(
        message(&one, &threshold(Signal::Memory, "100Mi"), left),
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
         Container c was using 300Mi, request is 100Mi, has larger consumption of memory. "
    );
    assert_eq!(
        message(&one, &threshold(Signal::Nodefs, "10%"), left),
        "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 50Mi. \
         Container c was using 3Mi, request is 0, has larger consumption of ephemeral-storage. "
    );
    let within = using(asking("p", "1Gi", 0), 300);
    assert_eq!(
        message(&within, &threshold(Signal::Memory, "100Mi"), left),
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
    );
}

#[test]
fn a_pods_own_limits() {
    let limit = |text: &str| json!({"limits": {"ephemeral-storage": text}});
    let one = |limit: Value, size: &str| {
        pod(
            "p",
            json!({
            "containers": [{"name": "c", "resources": limit}, {"name": "d", "resources": limit}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": size}}]}),
        )
    };
    let told = |pod: &Pod, volume_mib: i64, own_mib: i64| {
        let mut used = using(asking("p", "0", 0), 1).used;
        used.containers.entry("c".into()).or_default().written_bytes = (own_mib - 1) * MIB;
        used.volumes = vec![("v".into(), volume_mib * MIB, 1)];
        beyond_own_limits(pod, &used)
    };
    let sized = one(json!({}), "5Mi");
    assert!(has_limits(&sized) && !has_limits(&asking("p", "1", 0)));
    assert_eq!(told(&sized, 5, 1), None);
    let expected = "Usage of EmptyDir volume \"v\" exceeds the limit \"5Mi\". ";
    assert_eq!(told(&sized, 6, 1).as_deref(), Some(expected));
    let limited = one(limit("10Mi"), "100Mi");
    assert_eq!(told(&limited, 10, 10), None);
    let expected = "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. ";
    assert_eq!(told(&limited, 11, 10).as_deref(), Some(expected));
    let expected = "Container c exceeded its local ephemeral storage limit \"10Mi\". ";
    assert_eq!(told(&limited, 1, 11).as_deref(), Some(expected));
    let mut critical = (*sized).clone();
    critical.spec.as_mut().expect("given").priority = Some(2_000_000_000);
    assert_eq!(told(&critical, 6, 1), None);
}

#[test]
fn whom_a_pressed_node_lets_in() {
    let (memory, disk) = (
        BTreeSet::from([Pressure::Memory]),
        BTreeSet::from([Pressure::Memory, Pressure::Disk]),
    );
    let nothing = pod("a", json!({"containers": [{"name": "c"}]}));
    let something = asking("b", "1Mi", 0);
    let tolerant = pod(
        "c",
        json!({"containers": [{"name": "c"}],
        "tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}]}),
    );
    let critical = asking("d", "0", 2_000_000_000);
    let refused = |text: &str| Err(format!("The node had condition: [{text}]. "));
    for (pod, under_memory, under_both) in [
        (
            &nothing,
            refused("MemoryPressure"),
            refused("MemoryPressure DiskPressure"),
        ),
        (&something, Ok(()), refused("MemoryPressure DiskPressure")),
        (&tolerant, Ok(()), refused("MemoryPressure DiskPressure")),
        (&critical, Ok(()), Ok(())),
    ] {
        assert_eq!(admits(pod, &memory), under_memory);
        assert_eq!(admits(pod, &disk), under_both);
        assert_eq!(admits(pod, &BTreeSet::new()), Ok(()));
    }
}
