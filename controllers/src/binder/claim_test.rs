use super::*;
use serde_json::{Value, json};

fn claim(spec: Value, meta: Value) -> PersistentVolumeClaim {
    let mut whole = json!({"metadata": {"name": "c", "namespace": "n", "uid": "cu"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "s"}});
    merge(&mut whole["spec"], spec);
    merge(&mut whole["metadata"], meta);
    serde_json::from_value(whole).expect("a claim")
}

fn volume(own: &str, spec: Value, phase: &str) -> Arc<PersistentVolume> {
    let mut whole = json!({"metadata": {"name": own}, "status": {"phase": phase}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "s"}});
    merge(&mut whole["spec"], spec);
    Arc::new(serde_json::from_value(whole).expect("a volume"))
}

fn class(own: &str, provisioner: &str, mode: &str, default: bool) -> Arc<StorageClass> {
    let class = json!({"metadata": {"name": own, "annotations": {DEFAULT_CLASS[0]: default.to_string()}},
        "provisioner": provisioner, "volumeBindingMode": mode});
    Arc::new(serde_json::from_value(class).expect("a class"))
}

fn merge(into: &mut Value, from: Value) {
    for (key, value) in from.as_object().expect("an object") {
        into[key] = value.clone();
    }
}

fn world(volumes: Vec<Arc<PersistentVolume>>, classes: Vec<Arc<StorageClass>>) -> World {
    World {
        volumes,
        classes,
        waiting_pods: Vec::new(),
    }
}

/// The verdict in a line.
fn short(verdict: Verdict) -> String {
    match verdict {
        Verdict::Class(class) => format!("class {class}"),
        Verdict::Bind(volume) => format!("bind {}", name(&volume.metadata)),
        Verdict::Pending(provisioner, told) => {
            let told = told.map(|told| format!(" {}: {}", told.reason, told.message));
            format!("pending{}{}", provisioner.unwrap_or_default(), told.unwrap_or_default())
        }
        Verdict::Lost(told) => format!("lost {}", told.reason),
    }
}

#[test]
fn the_best_volume() {
    for (case, spec, volumes, expected) in [
        (
            "smallest",
            json!({}),
            vec![
                volume("big", json!({"capacity": {"storage": "5Gi"}}), "Available"),
                volume("fits", json!({"capacity": {"storage": "1100Mi"}}), "Available"),
                volume("small", json!({"capacity": {"storage": "1023Mi"}}), "Available"),
            ],
            "bind fits",
        ),
        (
            "fewest modes before size",
            json!({}),
            vec![
                volume(
                    "both",
                    json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}),
                    "Available",
                ),
                volume("one", json!({"capacity": {"storage": "2Gi"}}), "Available"),
            ],
            "bind one",
        ),
        (
            "nothing else fits",
            json!({}),
            vec![
                volume("class", json!({"storageClassName": "t"}), "Available"),
                volume("mode", json!({"volumeMode": "Block"}), "Available"),
                volume("access", json!({"accessModes": ["ReadOnlyMany"]}), "Available"),
                volume("new", json!({}), "Pending"),
                volume("gone", json!({}), "Released"),
                volume(
                    "other",
                    json!({"claimRef": {"namespace": "n", "name": "d"}}),
                    "Available",
                ),
                volume(
                    "earlier",
                    json!({"claimRef": {"namespace": "n", "name": "c", "uid": "old"}}),
                    "Available",
                ),
                volume("attributes", json!({"volumeAttributesClassName": "a"}), "Available"),
            ],
            "pending ProvisioningFailed: storageclass.storage.k8s.io \"s\" not found",
        ),
        (
            "meant for it",
            json!({}),
            vec![
                volume("a", json!({}), "Available"),
                volume(
                    "b",
                    json!({"capacity": {"storage": "9Gi"}, "claimRef": {"namespace": "n", "name": "c"}}),
                    "Available",
                ),
            ],
            "bind b",
        ),
        (
            "selector",
            json!({"selector": {"matchLabels": {"x": "y"}}}),
            vec![volume("a", json!({}), "Available")],
            "pending ProvisioningFailed: storageclass.storage.k8s.io \"s\" not found",
        ),
        (
            "by name",
            json!({"volumeName": "b"}),
            vec![volume("a", json!({}), "Available"), volume("b", json!({}), "Available")],
            "bind b",
        ),
        (
            "by a name that is not there",
            json!({"volumeName": "b"}),
            vec![],
            "pending",
        ),
        (
            "by name, too small",
            json!({"volumeName": "b"}),
            vec![volume("b", json!({"capacity": {"storage": "1"}}), "Available")],
            "pending VolumeMismatch: Cannot bind to requested volume \"b\": requested PV is too small",
        ),
        (
            "by name, another class",
            json!({"volumeName": "b"}),
            vec![volume("b", json!({"storageClassName": ""}), "Available")],
            "pending VolumeMismatch: Cannot bind to requested volume \"b\": storageClassName does not match",
        ),
        (
            "by name, somebody else's",
            json!({"volumeName": "b"}),
            vec![volume(
                "b",
                json!({"claimRef": {"namespace": "n", "name": "d", "uid": "du"}}),
                "Bound",
            )],
            "pending FailedBinding: volume \"b\" already bound to a different claim.",
        ),
        (
            "no class",
            json!({"storageClassName": ""}),
            vec![],
            "pending FailedBinding: no persistent volumes available for this claim and no storage class is set",
        ),
    ] {
        let verdict = verdict(&claim(spec, json!({})), &world(volumes, vec![]));
        assert_eq!(short(verdict), expected, "{case}");
    }
}

#[test]
fn classes_decide_when_and_by_whom() {
    let volumes = || vec![volume("a", json!({}), "Available")];
    let external = "pendingx.io/p ExternalProvisioning: Waiting for a volume to be created either by the external \
        provisioner 'x.io/p' or manually by the system administrator. If volume creation is delayed, please verify \
        that the provisioner is running and correctly registered.";
    let delayed = || vec![class("s", "x.io/p", "WaitForFirstConsumer", false)];
    let at_once = || vec![class("s", "x.io/p", "Immediate", false)];
    let waits = "pending WaitForFirstConsumer: waiting for first consumer to be created before binding";
    let selected = json!({"annotations": {SELECTED_NODE: "node"}});
    let by_hand = vec![class("s", "kubernetes.io/no-provisioner", "Immediate", false)];
    let no_class = json!({"storageClassName": null});
    let defaults = vec![
        class("z", "x.io/p", "Immediate", false),
        class("d", "x.io/p", "Immediate", true),
    ];
    for (spec, meta, volumes, classes, expected) in [
        (json!({}), json!({}), volumes(), at_once(), "bind a"),
        (json!({}), json!({}), vec![], at_once(), external),
        (json!({}), json!({}), volumes(), delayed(), waits),
        (json!({}), selected, volumes(), delayed(), external),
        (
            json!({}),
            json!({}),
            vec![],
            by_hand,
            "pending ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner",
        ),
        (no_class.clone(), json!({}), volumes(), defaults.clone(), "class d"),
        (
            json!({"storageClassName": ""}),
            json!({}),
            vec![],
            defaults,
            "pending FailedBinding: no persistent volumes available for this claim and no storage class is set",
        ),
    ] {
        let verdict = verdict(&claim(spec, meta), &world(volumes, classes));
        assert_eq!(short(verdict), expected);
    }
    let waiting = World {
        waiting_pods: vec!["p".into(), "q".into()],
        ..world(vec![], delayed())
    };
    let verdict = verdict(&claim(json!({}), json!({})), &waiting);
    assert_eq!(
        short(verdict),
        "pending WaitForPodScheduled: waiting for pods p,q to be scheduled"
    );
}

#[test]
fn what_was_bound_is_lost_with_its_volume() {
    let completed = json!({"annotations": {BIND_COMPLETED: "yes"}});
    let reference = |uid: &str| json!({"claimRef": {"namespace": "n", "name": "c", "uid": uid}});
    for (spec, volumes, expected) in [
        (json!({}), vec![], "lost ClaimLost"),
        (json!({"volumeName": "v"}), vec![], "lost ClaimLost"),
        (
            json!({"volumeName": "v"}),
            vec![volume("v", reference("cu"), "Bound")],
            "bind v",
        ),
        (
            json!({"volumeName": "v"}),
            vec![volume("v", json!({}), "Available")],
            "bind v",
        ),
        (
            json!({"volumeName": "v"}),
            vec![volume("v", reference("other"), "Bound")],
            "lost ClaimMisbound",
        ),
    ] {
        let verdict = verdict(&claim(spec, completed.clone()), &world(volumes, vec![]));
        assert_eq!(short(verdict), expected);
    }
}

/// The four writes, and that nothing is left to be written after them.
#[test]
fn both_sides_of_a_binding() {
    let (own, free) = (
        claim(json!({}), json!({"resourceVersion": "7"})),
        volume("v", json!({}), "Available"),
    );
    let given = given(&free, &own).expect("it names nobody");
    assert_eq!(
        serde_json::to_value(&given.spec.as_ref().expect("a spec").claim_ref).expect("written"),
        json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "n", "name": "c", "uid": "cu",
            "resourceVersion": "7"})
    );
    assert_eq!(annotation(&given.metadata, BOUND_BY_CONTROLLER), Some("yes"));
    assert_eq!(super::given(&given, &own), None);
    let taking = taking(&own, &given).expect("it has none");
    assert_eq!(taking.spec.as_ref().expect("a spec").volume_name.as_deref(), Some("v"));
    assert_eq!(annotation(&taking.metadata, BOUND_BY_CONTROLLER), Some("yes"));
    assert_eq!(annotation(&taking.metadata, BIND_COMPLETED), Some("yes"));
    assert_eq!(super::taking(&taking, &given), None);
    let told = told_bound(&taking, &given).expect("its status says nothing");
    assert_eq!(
        serde_json::to_value(&told.status).expect("written"),
        json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}})
    );
    assert_eq!(told_bound(&told, &given), None);
    // What both asked for is not the controller's to undo.
    let meant = volume("v", json!({"claimRef": {"namespace": "n", "name": "c"}}), "Available");
    let meant = super::given(&meant, &own).expect("without a uid");
    assert_eq!(annotation(&meant.metadata, BOUND_BY_CONTROLLER), None);
    let asks = claim(json!({"volumeName": "v"}), json!({}));
    let asks = super::taking(&asks, &meant).expect("not completed");
    assert_eq!(annotation(&asks.metadata, BOUND_BY_CONTROLLER), None);
    let lost = super::told(&told, "Lost")
        .expect("it was bound")
        .status
        .expect("a status");
    assert_eq!((lost.phase.as_deref(), lost.capacity), (Some("Lost"), None));
}

#[test]
fn provisioners_are_asked_once() {
    let asked = with_provisioner(&claim(json!({}), json!({})), "x.io/p").expect("nobody is asked");
    assert!(
        PROVISIONER
            .iter()
            .all(|key| annotation(&asked.metadata, key) == Some("x.io/p"))
    );
    assert_eq!(with_provisioner(&asked, "x.io/p"), None);
}
