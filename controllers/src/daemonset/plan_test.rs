//! Tables for a DaemonSet's decisions.

use super::*;
use crate::pods::NewPod;
use crate::pods::testing::{at, pod, seen};
use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::{NodeSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn node(name: &str, taint: Option<(&str, &str)>) -> Arc<Node> {
    let taints = taint.map(|(key, effect)| {
        vec![Taint {
            key: key.to_string(),
            effect: effect.to_string(),
            ..Default::default()
        }]
    });
    Arc::new(Node {
        metadata: ObjectMeta {
            name: Some(name.to_string()),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            taints,
            ..Default::default()
        }),
        status: None,
    })
}

fn set() -> DaemonSet {
    DaemonSet {
        spec: Some(DaemonSetSpec {
            template: PodTemplateSpec {
                spec: Some(PodSpec::default()),
                ..Default::default()
            },
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn one_pod_on_each_node_that_tolerates_it() {
    let nodes = [
        node("a", None),
        node("b", Some(("node.kubernetes.io/not-ready", "NoExecute"))),
        node("c", Some(("dedicated", "NoSchedule"))),
        node("d", Some(("dedicated", "NoExecute"))),
    ];
    let on_c = Arc::new(pod("stays", "Running", Some("c"), Some(1)));
    let on_d = Arc::new(pod("goes", "Running", Some("d"), Some(1)));
    let pods = [on_c, on_d.clone()];
    let set = set();
    let changes = manage(
        &Observed {
            set: &set,
            nodes: &nodes,
            pods: &pods,
            hash: "h",
        },
        at(9),
    );
    assert_eq!(
        changes,
        Changes {
            create: vec!["a".into(), "b".into()],
            delete: vec![on_d],
            finished: vec![]
        }
    );
}

#[test]
fn a_created_pod_counts_for_its_node_before_it_is_bound() {
    let nodes = [node("a", None)];
    let mut waiting = pod("p", "Pending", None, None);
    waiting.spec = seen(NewPod {
        spec: Some(pod_spec(&PodSpec::default(), "a")),
        ..Default::default()
    })
    .spec;
    let set = set();
    let pods = [Arc::new(waiting)];
    let observed = Observed {
        set: &set,
        nodes: &nodes,
        pods: &pods,
        hash: "h",
    };
    assert_eq!(manage(&observed, at(9)), Changes::default());
    let status = status(&observed, at(1));
    assert_eq!(
        (status.desired_number_scheduled, status.current_number_scheduled),
        (1, 1)
    );
}

#[test]
fn rolling_updates_take_one_node_at_a_time() {
    let nodes = [node("a", None), node("b", None)];
    let pods = [
        Arc::new(pod("on-a", "Running", Some("a"), Some(1))),
        Arc::new(pod("on-b", "Running", Some("b"), Some(1))),
    ];
    let set = set();
    assert_eq!(
        roll(
            &Observed {
                set: &set,
                nodes: &nodes,
                pods: &pods,
                hash: "new"
            },
            at(9)
        )
        .delete
        .len(),
        1
    );
    assert_eq!(
        roll(
            &Observed {
                set: &set,
                nodes: &nodes,
                pods: &pods[..1],
                hash: "new"
            },
            at(9)
        )
        .delete
        .len(),
        0
    );
}

#[test]
fn with_surge_the_new_pod_comes_first() {
    let nodes = [node("a", None), node("b", None)];
    let mut set = set();
    set.spec.get_or_insert_default().update_strategy =
        serde_json::from_value(serde_json::json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})).ok();
    let old = |node: &str| Arc::new(pod(&format!("old-{node}"), "Running", Some(node), Some(1)));
    let new = |ready: bool| {
        let mut made = pod("new-a", "Running", Some("a"), ready.then_some(1));
        made.labels =
            Some(crate::selector::Labels::from([("controller-revision-hash".to_string(), "h".to_string())]).into());
        Arc::new(made)
    };
    let step = |pods: &[Arc<Pod>]| {
        let observed = Observed {
            set: &set,
            nodes: &nodes,
            pods,
            hash: "h",
        };
        (manage(&observed, at(9)), roll(&observed, at(9)))
    };
    let nothing = Changes::default;
    let (managed, rolled) = step(&[old("a"), old("b")]);
    assert_eq!((managed, rolled.create), (nothing(), vec!["a".to_string()]));
    let both = step(&[old("a"), old("b"), new(false)]);
    assert_eq!(both, (nothing(), nothing()), "two pods on a node are no leftover");
    let (managed, rolled) = step(&[old("a"), old("b"), new(true)]);
    assert_eq!(managed.delete, [old("a")], "the new one took over");
    assert_eq!((rolled.delete, rolled.create), (vec![old("a")], vec!["b".to_string()]));
    let broken = Arc::new(pod("old-a", "Running", Some("a"), None));
    let (managed, _) = step(&[broken.clone(), old("b"), new(false)]);
    assert_eq!(managed.delete, [broken], "it does not work anyway");
}

#[test]
fn finished_pods_and_pods_for_lost_nodes_go() {
    let nodes = [node("a", None), node("b", None)];
    let mut lost = pod("lost", "Pending", None, None);
    lost.spec = seen(NewPod {
        spec: Some(pod_spec(&PodSpec::default(), "gone")),
        ..Default::default()
    })
    .spec;
    let lost = Arc::new(lost);
    let failed = Arc::new(pod("failed", "Failed", Some("a"), None));
    let bound = Arc::new(pod("bound", "Running", Some("gone"), Some(1)));
    let older = Arc::new(pod("older", "Running", Some("b"), None));
    let mut newer = pod("newer", "Running", Some("b"), Some(1));
    newer.metadata.creation_timestamp = Some(crate::key::time(at(5)));
    let newer = Arc::new(newer);
    let set = set();
    let pods = [lost.clone(), failed.clone(), bound, newer.clone(), older];
    let observed = Observed {
        set: &set,
        nodes: &nodes,
        pods: &pods,
        hash: "h",
    };
    let changes = manage(&observed, at(9));
    assert_eq!(changes.finished, [("a".to_string(), failed)]);
    assert_eq!(changes.delete, [newer, lost], "the oldest stays, ready or not");
    assert_eq!(changes.create, [] as [&str; 0], "a failed pod holds its place");
}

#[test]
fn the_status_counts_each_node_once() {
    let nodes = [node("a", None), node("b", Some(("x", "NoSchedule"))), node("c", None)];
    let mut leaving = pod("leaving", "Running", Some("c"), Some(1));
    leaving.metadata.deletion_timestamp = Some(crate::key::time(at(5)));
    let pods = [
        Arc::new(pod("a", "Running", Some("a"), Some(1))),
        Arc::new(pod("b", "Running", Some("b"), Some(1))),
        Arc::new(leaving),
    ];
    let set = set();
    let observed = Observed {
        set: &set,
        nodes: &nodes,
        pods: &pods,
        hash: "h",
    };
    let status = status(&observed, at(9));
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_misscheduled,
            status.number_ready,
            status.number_unavailable
        ),
        (2, 2, 1, 2, Some(0))
    );
}
