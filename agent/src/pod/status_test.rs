use super::*;
use crate::pod::backoff::Backoff;
use crate::pod::observed::{Container as Seen, Sandbox};
use crate::pod::plan::{Probed, Waiting};
use serde_json::{Value, json};

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).expect("in range")
}

fn pod(spec: Value, status: Value) -> Pod {
    let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "generation": 3});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).expect("valid")
}

fn seen(containers: &[(&str, State, i32)]) -> Observed {
    let mut observed = Observed::default();
    observed.put_sandbox(Sandbox {
        id: "s".into(),
        ready: true,
        ips: vec!["10.42.0.5".into()],
        ..Default::default()
    });
    for (name, state, exit_code) in containers {
        observed.put_container(Seen {
            id: format!("{name}-id"),
            sandbox_id: "s".into(),
            name: (*name).into(),
            state: *state,
            exit_code: *exit_code,
            ..Default::default()
        });
    }
    observed
}

fn probed(names: &[&str]) -> Memory {
    let up = Probed {
        started: true,
        ready: true,
        failed: None,
    };
    let mut memory = Memory::default();
    memory.probed.extend(names.iter().map(|n| (format!("{n}-id"), up)));
    memory
}

/// Phase, then each condition as `Type=Status reason message`.
fn shown(pod: &Pod, seen: &Observed, memory: &Memory) -> Vec<String> {
    let status = status(pod, seen, memory, &["192.0.2.1".into()], now());
    let conditions = status.conditions.into_iter().flatten().map(|c| {
        let words = [c.reason, c.message].map(Option::unwrap_or_default).join(" ");
        format!("{}={} {}", c.type_, c.status, words).trim_end().to_owned()
    });
    status.phase.into_iter().chain(conditions).collect()
}

fn states(pod: &Pod, seen: &Observed, memory: &Memory) -> Vec<String> {
    let status = status(pod, seen, memory, &[], now());
    let all = status
        .init_container_statuses
        .into_iter()
        .chain(status.container_statuses);
    all.chain(status.ephemeral_container_statuses)
        .flatten()
        .map(|c| {
            let short = |s: ContainerState| match s {
                ContainerState { waiting: Some(w), .. } => w.reason.unwrap_or_default(),
                ContainerState { running: Some(_), .. } => "running".into(),
                ContainerState {
                    terminated: Some(t), ..
                } => format!("{} {}", t.reason.unwrap_or_default(), t.exit_code),
                _ => "-".into(),
            };
            let last = c.last_state.map(short).unwrap_or_default();
            let started = c.started.map_or("?", |on| if on { "started" } else { "unstarted" });
            let ready = if c.ready { "ready" } else { "unready" };
            format!(
                "{}: {}, {last}, {ready}, {started}",
                c.name,
                c.state.map(short).unwrap_or_default()
            )
        })
        .collect()
}

use k8s_openapi::api::core::v1::ContainerState;

#[test]
fn conditions_of_a_pod_that_runs() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}), json!({}));
    let found = shown(&pod, &seen(&[("a", State::Running, 0)]), &probed(&["a"]));
    let unready = "ContainersNotReady containers with unready status: [b]";
    assert_eq!(
        found,
        [
            "Pending".to_owned(),
            "PodReadyToStartContainers=True".into(),
            "Initialized=True".into(),
            format!("Ready=False {unready}"),
            format!("ContainersReady=False {unready}"),
            "PodScheduled=True".into(),
        ]
    );
    let both = seen(&[("a", State::Running, 0), ("b", State::Running, 0)]);
    let found = shown(&pod, &both, &probed(&["a", "b"]));
    assert_eq!(found[0], "Running");
    assert!(found[1..].iter().all(|c| c.ends_with("=True")), "{found:?}");
    assert_eq!(
        shown(&pod, &Observed::default(), &Memory::default())[1],
        "PodReadyToStartContainers=False"
    );
}

#[test]
fn readiness_gates_are_told_apart() {
    let spec = json!({"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/no"}, {"conditionType": "x/off"}, {"conditionType": "x/on"}]});
    let held = json!({"conditions": [{"type": "x/off", "status": "False"}, {"type": "x/on", "status": "True"}]});
    let found = shown(&pod(spec, held), &seen(&[("a", State::Running, 0)]), &probed(&["a"]));
    assert_eq!(
        found[3],
        "Ready=False ReadinessGatesNotReady corresponding condition of pod readiness gate \"x/no\" does not exist., \
         the status of pod readiness gate \"x/off\" is not \"True\", but False"
    );
    assert_eq!(found[4], "ContainersReady=True");
}

#[test]
fn sidecars_count_for_initialisation_and_readiness() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    let pod = pod(spec, json!({}));
    let begun = seen(&[("i", State::Exited, 0), ("s", State::Running, 0)]);
    assert_eq!(
        shown(&pod, &begun, &Memory::default())[2..4],
        [
            "Initialized=False ContainersNotInitialized containers with incomplete status: [s]",
            "Ready=False ContainersNotReady containers with unready status: [s a]"
        ]
    );
    // A sidecar that is made anew does not undo the initialisation.
    let again = seen(&[
        ("i", State::Exited, 0),
        ("s", State::Exited, 1),
        ("a", State::Running, 0),
    ]);
    assert_eq!(
        shown(&pod, &again, &probed(&["a"]))[2..4],
        [
            "Initialized=True",
            "Ready=False ContainersNotReady containers with unready status: [s]"
        ]
    );
    assert_eq!(
        states(&pod, &begun, &probed(&["s"])),
        [
            "i: Completed 0, -, ready, unstarted",
            "s: running, -, ready, started",
            "a: PodInitializing, -, unready, unstarted"
        ]
    );
}

#[test]
fn phases() {
    let exits = |a: i32, b: i32| seen(&[("a", State::Exited, a), ("b", State::Exited, b)]);
    for (policy, of_b, observed, expected) in [
        ("Always", json!(null), exits(0, 0), "Running"),
        ("OnFailure", json!(null), exits(0, 1), "Running"),
        ("OnFailure", json!(null), exits(0, 0), "Succeeded"),
        ("Never", json!(null), exits(0, 1), "Failed"),
        ("Never", json!(null), exits(0, 0), "Succeeded"),
        ("Never", json!("OnFailure"), exits(0, 1), "Running"),
        ("Always", json!("Never"), exits(0, 0), "Running"),
        (
            "Never",
            json!(null),
            seen(&[("a", State::Running, 0), ("b", State::Exited, 1)]),
            "Running",
        ),
        ("Never", json!(null), seen(&[("a", State::Running, 0)]), "Pending"),
    ] {
        let spec =
            json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b", "restartPolicy": of_b}]});
        assert_eq!(
            shown(&pod(spec, json!({})), &observed, &Memory::default())[0],
            expected,
            "{policy} {of_b}"
        );
    }
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let found = shown(
        &pod(spec, json!({})),
        &seen(&[("i", State::Exited, 1)]),
        &Memory::default(),
    );
    assert_eq!(found[0], "Failed");
    assert_eq!(
        found[2..4],
        [
            "Initialized=False ContainersNotInitialized containers with incomplete status: [i]",
            "Ready=False PodFailed"
        ]
    );
}

#[test]
fn a_finished_pod_says_so_in_its_conditions() {
    let pod = pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
        json!({}),
    );
    let mut observed = seen(&[("a", State::Exited, 0)]);
    observed.sandboxes[0].ready = false;
    let found = shown(&pod, &observed, &Memory::default());
    assert_eq!(
        found,
        [
            "Succeeded",
            "PodReadyToStartContainers=False",
            "Initialized=True PodCompleted",
            "Ready=False PodCompleted",
            "ContainersReady=False PodCompleted",
            "PodScheduled=True"
        ]
    );
}

#[test]
fn what_containers_wait_for() {
    let pod = pod(
        json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "d"}]}),
        json!({}),
    );
    let exited = seen(&[("a", State::Exited, 137), ("d", State::Running, 0)]);
    let mut memory = Memory::default();
    assert_eq!(
        states(&pod, &exited, &memory),
        ["a: Error 137, -, unready, unstarted", "d: running, -, unready, ?"]
    );
    memory.crash.insert(
        "a".into(),
        Backoff {
            delay_s: 80,
            since: now(),
        },
    );
    assert_eq!(
        states(&pod, &exited, &memory)[0],
        "a: CrashLoopBackOff, Error 137, unready, unstarted"
    );
    let told = status(&pod, &exited, &memory, &[], now())
        .container_statuses
        .expect("one");
    assert_eq!(
        told[0]
            .state
            .as_ref()
            .and_then(|s| s.waiting.as_ref()?.message.as_deref()),
        Some("back-off 1m20s restarting failed container=a pod=p_n(u)")
    );
    let waiting = Waiting {
        reason: "ErrImagePull".into(),
        message: "no".into(),
    };
    memory.waiting.insert("a".into(), waiting);
    assert_eq!(
        states(&pod, &exited, &memory)[0],
        "a: ErrImagePull, Error 137, unready, unstarted"
    );
    memory.terminating = true;
    assert_eq!(states(&pod, &exited, &memory)[0], "a: Error 137, -, unready, unstarted");
    assert_eq!(
        states(&pod, &Observed::default(), &Memory::default())[0],
        "a: ContainerCreating, -, unready, unstarted"
    );
}

#[test]
fn a_rejected_pod_has_no_containers() {
    let scheduled =
        json!({"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "x/y", "status": "True"}]});
    let pod = pod(json!({"containers": [{"name": "a"}]}), scheduled);
    let memory = Memory {
        failed: Some(Verdict {
            reason: "OutOfcpu".into(),
            message: "Node didn't have enough resource: cpu".into(),
            rejected: true,
            ..Verdict::default()
        }),
        ..Memory::default()
    };
    let made = status(&pod, &Observed::default(), &memory, &["192.0.2.1".into()], now());
    assert_eq!(made.phase.as_deref(), Some("Failed"));
    assert_eq!(
        made.message.as_deref(),
        Some("Pod was rejected: Node didn't have enough resource: cpu")
    );
    assert_eq!((made.container_statuses.is_none(), made.host_ip), (true, None));
    assert_eq!(made.conditions.map(|c| c.len()), Some(1));
    assert_eq!(made.observed_generation, Some(3));
}

#[test]
fn a_pod_that_the_node_disrupts_says_so() {
    let pod = pod(json!({"containers": [{"name": "a"}]}), json!({}));
    let memory = Memory {
        failed: Some(Verdict {
            reason: "Evicted".into(),
            message: "The node was low on resource: memory.".into(),
            disruption: Some((
                "TerminationByKubelet".into(),
                "The node was low on resource: memory.".into(),
            )),
            ..Verdict::default()
        }),
        ..Memory::default()
    };
    let made = status(&pod, &seen(&[("a", State::Exited, 137)]), &memory, &[], now());
    assert_eq!(made.phase.as_deref(), Some("Failed"));
    let last = made.conditions.clone().and_then(|c| c.last().cloned()).expect("some");
    assert_eq!(
        (last.type_.as_str(), last.reason.as_deref()),
        ("DisruptionTarget", Some("TerminationByKubelet"))
    );
    assert_eq!(owned(Some(&made)), made, "what was written is known again");
    let other =
        json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]});
    let other: PodStatus = serde_json::from_value(other).expect("valid");
    assert_eq!(owned(Some(&other)).conditions, Some(Vec::new()));
}

#[test]
fn messages_share_a_limit() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}), json!({}));
    let mut observed = seen(&[("a", State::Exited, 1), ("b", State::Exited, 1)]);
    for list in observed.containers.values_mut() {
        list[0].message = "é".repeat(4_000);
    }
    let made = status(&pod, &observed, &Memory::default(), &[], now());
    for c in made.container_statuses.into_iter().flatten() {
        let message = c.state.and_then(|s| s.terminated?.message).unwrap_or_default();
        assert_eq!(message.len(), 6 << 10);
    }
}

#[test]
fn containers_that_are_all_restarted() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]);
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"},
        {"name": "b", "restartPolicy": "Never", "restartPolicyRules": rules}]});
    let pod = pod(spec, json!({}));
    let find = |shown: Vec<String>| {
        let own = |word: &String| word.starts_with("AllContainersRestarting=");
        (
            shown[0].clone(),
            shown.iter().find(|word| own(word)).cloned().unwrap_or_default(),
        )
    };
    let mut observed = seen(&[
        ("i", State::Exited, 0),
        ("a", State::Running, 0),
        ("b", State::Exited, 88),
    ]);
    let memory = Memory::default();
    let told = "AllContainersRestarting=True RestartAllContainersStarted container exited with restart policy rule";
    assert_eq!(find(shown(&pod, &observed, &memory)), ("Running".into(), told.into()));
    for container in observed.containers.values_mut().flatten() {
        (container.state, container.past) = (State::Exited, true);
    }
    let idle = "AllContainersRestarting=False".to_owned();
    assert_eq!(find(shown(&pod, &observed, &memory)), ("Pending".into(), idle.clone()));
    let conditions = shown(&pod, &observed, &memory);
    assert!(conditions.contains(&"Initialized=True".to_owned()), "{conditions:?}");
    let made = status(&pod, &observed, &memory, &[], now());
    let made = made.init_container_statuses.into_iter().chain(made.container_statuses);
    for status in made.flatten() {
        let waiting = status.state.and_then(|s| s.waiting).and_then(|w| w.reason);
        let before = status.last_state.and_then(|s| s.terminated);
        assert_eq!(waiting.as_deref(), Some("PodInitializing"), "{}", status.name);
        assert!(before.is_some() && !status.ready, "{}", status.name);
    }
    let over = seen(&[
        ("i", State::Exited, 1),
        ("a", State::Exited, 0),
        ("b", State::Exited, 0),
    ]);
    let failed = "AllContainersRestarting=False PodFailed".to_owned();
    assert_eq!(find(shown(&pod, &over, &memory)), ("Failed".into(), failed));
}

#[test]
fn mounts_are_told() {
    let mounts = json!([{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w", "readOnly": true}]);
    let pod = pod(
        json!({"containers": [{"name": "a", "volumeMounts": mounts}]}),
        json!({}),
    );
    let made = status(&pod, &Observed::default(), &Memory::default(), &[], now());
    let made = serde_json::to_value(&made.container_statuses.expect("one")[0].volume_mounts).expect("JSON");
    assert_eq!(
        made,
        json!([
            {"name": "v", "mountPath": "/v"},
            {"name": "w", "mountPath": "/w", "readOnly": true, "recursiveReadOnly": "Disabled"}
        ])
    );
}

#[test]
fn mounts_that_could_be_recursive_are_told_as_they_are() {
    let mount =
        |path: &str, mode: &str| json!({"name": "v", "mountPath": path, "readOnly": true, "recursiveReadOnly": mode});
    let mounts = json!([
        mount("/e", "Enabled"),
        mount("i", "IfPossible"),
        mount("/n", "IfPossible"),
        mount("/d", "Disabled")
    ]);
    let pod = pod(
        json!({"containers": [{"name": "a", "volumeMounts": mounts}]}),
        json!({}),
    );
    let told = |recursive: &[&str]| -> Vec<String> {
        let mut observed = seen(&[("a", State::Running, 0)]);
        for container in observed.containers.values_mut().flatten() {
            container.recursive = recursive.iter().map(|path| (*path).to_owned()).collect();
        }
        let made = status(&pod, &observed, &Memory::default(), &[], now());
        let made = made.container_statuses.into_iter().flatten();
        let mounts = made.flat_map(|c| c.volume_mounts.unwrap_or_default());
        mounts.filter_map(|m| m.recursive_read_only).collect()
    };
    assert_eq!(told(&["/e", "/i"]), ["Enabled", "Enabled", "Disabled", "Disabled"]);
    assert_eq!(told(&[]), ["Enabled", "Disabled", "Disabled", "Disabled"]);
}
