use super::*;
use crate::pod::observed::Sandbox;
use serde_json::json;

fn pod(policy: &str, init: &[&str], sidecars: &[&str], apps: &[&str]) -> Pod {
    let mut first: Vec<_> = sidecars
        .iter()
        .map(|n| json!({"name": n, "restartPolicy": "Always"}))
        .collect();
    first.extend(init.iter().map(|n| json!({ "name": n })));
    let apps: Vec<_> = apps.iter().map(|n| json!({ "name": n })).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": first, "containers": apps, "terminationGracePeriodSeconds": 5}
    }))
    .expect("valid")
}

fn seen(ready: bool, containers: &[(&str, State, i32)]) -> Observed {
    let mut observed = Observed::default();
    observed.put_sandbox(Sandbox {
        id: "s".into(),
        ready,
        stopped: !ready,
        ..Default::default()
    });
    for (name, state, exit_code) in containers {
        observed.put_container(Container {
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

fn ready() -> Memory {
    Memory {
        volumes_ready: true,
        ..Default::default()
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).expect("in range")
}

fn words(decision: &Decision) -> Vec<String> {
    decision
        .actions
        .iter()
        .map(|a| match a {
            Action::MountVolumes => "volumes".into(),
            Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
            Action::Start { name, attempt } => format!("start {name} {attempt}"),
            Action::Kill { name, grace_s, .. } => format!("kill {name} {grace_s}"),
            Action::StopSandbox { .. } => "stop sandbox".into(),
            Action::BeginAnew => "begin anew".into(),
            Action::PastDeadline => "deadline".into(),
            Action::Teardown => "teardown".into(),
        })
        .collect()
}

#[track_caller]
fn check(pod: &Pod, seen: &Observed, memory: &Memory, expected: &[&str]) {
    assert_eq!(words(&plan(pod, seen, memory, now())), expected);
}

#[test]
fn sandbox_and_volumes_are_made_side_by_side() {
    let pod = pod("Always", &[], &[], &["a"]);
    check(
        &pod,
        &Observed::default(),
        &Memory::default(),
        &["sandbox 0", "volumes"],
    );
    let mut busy = Memory::default();
    busy.in_flight.extend([Op::Sandbox, Op::Volumes]);
    check(&pod, &Observed::default(), &busy, &[]);
    check(&pod, &seen(true, &[]), &Memory::default(), &["volumes"]);
    check(&pod, &seen(false, &[]), &ready(), &["sandbox 1"]);
}

#[test]
fn init_containers_run_one_after_another() {
    let pod = pod("Always", &["i", "j"], &[], &["a", "b"]);
    check(&pod, &seen(true, &[]), &ready(), &["start i 0"]);
    check(&pod, &seen(true, &[("i", State::Running, 0)]), &ready(), &[]);
    check(&pod, &seen(true, &[("i", State::Exited, 1)]), &ready(), &["start i 1"]);
    check(&pod, &seen(true, &[("i", State::Exited, 0)]), &ready(), &["start j 0"]);
    let done = [("i", State::Exited, 0), ("j", State::Exited, 0)];
    check(&pod, &seen(true, &done), &ready(), &["start a 0"]);
}

#[test]
fn a_sidecar_must_have_started_before_the_next() {
    let pod = pod("Always", &["i"], &["side"], &["a"]);
    let running = seen(true, &[("side", State::Running, 0)]);
    check(&pod, &running, &ready(), &[]);
    let mut started = ready();
    started.probed.insert(
        "side-id".into(),
        Probed {
            started: true,
            ..Default::default()
        },
    );
    check(&pod, &running, &started, &["start i 0"]);
}

#[test]
fn restart_policies() {
    for (policy, code, expected) in [
        ("Always", 0, vec!["start a 1"]),
        ("Always", 1, vec!["start a 1"]),
        ("OnFailure", 1, vec!["start a 1"]),
        ("OnFailure", 0, vec!["stop sandbox"]),
        ("Never", 1, vec!["stop sandbox"]),
    ] {
        check(
            &pod(policy, &[], &[], &["a"]),
            &seen(true, &[("a", State::Exited, code)]),
            &ready(),
            &expected,
        );
    }
}

#[test]
fn a_crash_loop_waits() {
    let pod = pod("Always", &[], &[], &["a"]);
    let mut memory = ready();
    memory.crash.insert(
        "a".into(),
        Backoff {
            delay_s: 10,
            since: now(),
        },
    );
    let decision = plan(&pod, &seen(true, &[("a", State::Exited, 1)]), &memory, now());
    assert_eq!(decision.actions, []);
    assert_eq!(decision.wake_at, Timestamp::from_second(1_000_010).ok());
}

#[test]
fn failed_liveness_kills_with_grace() {
    let pod = pod("Always", &[], &[], &["a"]);
    let mut memory = ready();
    memory.probed.insert(
        "a-id".into(),
        Probed {
            failed: Some(Failed::Liveness),
            ..Default::default()
        },
    );
    check(&pod, &seen(true, &[("a", State::Running, 0)]), &memory, &["kill a 5"]);
}

/// Each kill with the ids that it waits for.
fn kills(decision: &Decision) -> Vec<String> {
    let each = decision.actions.iter().filter_map(|action| match action {
        Action::Kill {
            name, grace_s, after, ..
        } => Some(
            format!("{name} {grace_s} after {}", after.join(" "))
                .trim_end_matches(" after ")
                .to_owned(),
        ),
        _ => None,
    });
    each.collect()
}

#[test]
fn all_are_told_to_end_at_once_and_sidecars_wait_for_their_turn() {
    let pod = pod("Always", &[], &["one", "two"], &["a"]);
    let mut memory = ready();
    memory.terminating = true;
    let all = [
        ("one", State::Running, 0),
        ("two", State::Running, 0),
        ("a", State::Running, 0),
    ];
    let decision = plan(&pod, &seen(true, &all), &memory, now());
    assert_eq!(kills(&decision), ["a 5", "one 5 after a-id two-id", "two 5 after a-id"]);
    let decision = plan(&pod, &seen(true, &all[..1]), &memory, now());
    assert_eq!(kills(&decision), ["one 5"]);
    check(&pod, &seen(true, &[]), &memory, &["stop sandbox"]);
    check(&pod, &seen(false, &[]), &memory, &["teardown"]);
    memory.in_flight.insert(Op::Container("a".into()));
    check(&pod, &seen(true, &[]), &memory, &[]);
    memory.in_flight.clear();
    memory.torn_down = true;
    check(&pod, &Observed::default(), &memory, &[]);
}

#[test]
fn a_verdict_may_leave_less_time() {
    let pod = pod("Always", &[], &[], &["a"]);
    let running = seen(true, &[("a", State::Running, 0)]);
    for (given, expected) in [
        (None, "kill a 5"),
        (Some(3), "kill a 3"),
        (Some(0), "kill a 2"),
        (Some(60), "kill a 5"),
    ] {
        let mut memory = ready();
        memory.failed = Some(Verdict {
            grace_s: given,
            ..Verdict::default()
        });
        check(&pod, &running, &memory, &[expected]);
    }
}

#[test]
fn containers_have_restart_rules_of_their_own() {
    let rule = |action: &str, operator: &str, values: &[i32]| json!([{"action": action, "exitCodes": {"operator": operator, "values": values}}]);
    for (policy, own, rules, code, again) in [
        ("Never", json!("OnFailure"), json!([]), 1, true),
        ("Never", json!("OnFailure"), json!([]), 0, false),
        ("Always", json!("Never"), json!([]), 1, false),
        ("Never", json!("Never"), rule("Restart", "In", &[42]), 42, true),
        ("Never", json!("Never"), rule("Restart", "In", &[42]), 41, false),
        ("Never", json!("Never"), rule("Restart", "NotIn", &[42]), 41, true),
        ("Never", json!("Always"), json!([]), 0, true),
    ] {
        let spec = json!({"restartPolicy": policy, "containers": [
            {"name": "a", "restartPolicy": own, "restartPolicyRules": rules}, {"name": "b"}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("valid");
        let observed = seen(true, &[("a", State::Exited, code), ("b", State::Running, 0)]);
        let expected: &[&str] = if again { &["start a 1"] } else { &[] };
        check(&pod, &observed, &ready(), expected);
    }
}

/// Init containers `i` and (a sidecar) `s`, `a`, and `b`, for whose end with 88 all are restarted.
fn restarting_all() -> Pod {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]);
    let spec = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}, {"name": "b", "restartPolicy": "Never", "restartPolicyRules": rules}],
        "ephemeralContainers": [{"name": "e"}]});
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("valid")
}

#[test]
fn one_container_restarts_all() {
    let pod = restarting_all();
    let observed = |s, a, b, code| {
        seen(
            true,
            &[
                ("i", State::Exited, 0),
                ("s", s, 0),
                ("a", a, 0),
                ("b", b, code),
                ("e", State::Running, 0),
            ],
        )
    };
    let (running, exited) = (State::Running, State::Exited);
    // Any other end is one as ever.
    check(&pod, &observed(running, running, exited, 87), &ready(), &[]);
    check(
        &pod,
        &observed(running, running, exited, 88),
        &ready(),
        &["kill a 0", "kill s 0"],
    );
    let mut memory = ready();
    memory.in_flight.insert(Op::Stop("s-id".into()));
    check(&pod, &observed(running, exited, exited, 88), &memory, &[]);
    check(&pod, &observed(exited, exited, exited, 88), &ready(), &["begin anew"]);

    let mut after = observed(exited, exited, exited, 88);
    let named = |c: &&mut Container| c.name != "e";
    after
        .containers
        .values_mut()
        .flatten()
        .filter(named)
        .for_each(|c| c.past = true);
    check(&pod, &after, &ready(), &["start i 1"]);
    after.put_container(Container {
        id: "i-2".into(),
        sandbox_id: "s".into(),
        name: "i".into(),
        state: exited,
        attempt: 1,
        created_at_ns: 1,
        ..Default::default()
    });
    check(&pod, &after, &ready(), &["start s 1"]);
    // However often it is looked at, what is past stays so.
    let looked_at = Container {
        past: false,
        ..after.last("a").cloned().expect("there")
    };
    after.put_container(looked_at);
    assert!(after.newest("a").is_none() && after.last("a").is_some_and(|c| c.past));
}

#[test]
fn the_api_hears_of_a_restart_before_it_is_done() {
    let mut pod = restarting_all();
    let mut observed = seen(true, &[("a", State::Exited, 0), ("b", State::Exited, 88)]);
    let trigger = &mut observed.containers.get_mut("b").expect("there")[0];
    trigger.finished_at_ns = i64::try_from(now().as_nanosecond()).expect("in range") - 500_000_000;
    let decision = plan(&pod, &observed, &ready(), now());
    assert_eq!(words(&decision), Vec::<String>::new());
    let wake = now() + SignedDuration::from_millis(1_500);
    assert_eq!(decision.wake_at, Some(wake), "not for ever");
    assert_eq!(words(&plan(&pod, &observed, &ready(), wake)), ["begin anew"]);
    let told = json!({"conditions": [{"type": "AllContainersRestarting", "status": "True"}]});
    pod.status = serde_json::from_value(told).expect("valid");
    check(&pod, &observed, &ready(), &["begin anew"]);
}

#[test]
fn an_init_container_of_its_own_policy_fails_the_pod_or_not() {
    for (policy, own, expected) in [
        ("Never", json!(null), vec!["stop sandbox"]),
        ("Never", json!("OnFailure"), vec!["start i 1"]),
        ("Always", json!("Never"), vec!["stop sandbox"]),
        ("Always", json!(null), vec!["start i 1"]),
    ] {
        let spec = json!({"restartPolicy": policy, "initContainers": [{"name": "i", "restartPolicy": own}],
            "containers": [{"name": "a"}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("valid");
        check(&pod, &seen(true, &[("i", State::Exited, 1)]), &ready(), &expected);
    }
}

#[test]
fn a_new_image_replaces_the_container() {
    let mut pod = pod("Always", &[], &["s"], &["a"]);
    let spec = pod.spec.as_mut().expect("set");
    spec.containers[0].image = Some("new".into());
    let mut observed = seen(true, &[("s", State::Running, 0), ("a", State::Running, 0)]);
    let running = &mut observed.containers.get_mut("a").expect("there")[0];
    running.image_wanted = "new".into();
    check(&pod, &observed, &ready(), &[]);
    observed.containers.get_mut("a").expect("there")[0].image_wanted = "old".into();
    let decision = plan(&pod, &observed, &ready(), now());
    let Some(Action::Kill { message, .. }) = decision.actions.first() else {
        panic!("{decision:?}")
    };
    assert_eq!(message, "Container a definition changed, will be restarted");
}

#[test]
fn what_is_blocked_does_nothing() {
    let pod = pod("Always", &[], &[], &["a"]);
    let mut memory = Memory {
        blocked: Some(Waiting {
            reason: "AppArmor".into(),
            message: String::new(),
        }),
        ..Memory::default()
    };
    check(&pod, &Observed::default(), &memory, &[]);
    memory.terminating = true;
    check(&pod, &Observed::default(), &memory, &["teardown"]);
}

#[test]
fn a_stop_is_hurried_but_never_put_off() {
    let pod = pod("Always", &[], &[], &["a"]);
    let running = seen(true, &[("a", State::Running, 0)]);
    let mut memory = ready();
    memory.terminating = true;
    memory.in_flight.insert(Op::Stop("a-id".into()));
    for (ends_at, expected) in [(1_000_003, vec![]), (1_000_005, vec![]), (1_000_060, vec!["kill a 5"])] {
        let at = Timestamp::from_second(ends_at).expect("in range");
        memory.stop_by.insert("a-id".into(), at);
        check(&pod, &running, &memory, &expected);
    }
    memory.forced = true;
    memory
        .stop_by
        .insert("a-id".into(), Timestamp::from_second(1_000_005).expect("in range"));
    check(&pod, &running, &memory, &["kill a 2"]);
}

#[test]
fn a_pod_ends_at_its_deadline() {
    let mut pod = pod("Always", &[], &[], &["a"]);
    pod.spec.as_mut().expect("set").active_deadline_seconds = Some(10);
    let running = seen(true, &[("a", State::Running, 0)]);
    for (started_s, expected) in [(999_991, vec![]), (999_990, vec!["deadline"])] {
        let started = Timestamp::from_second(started_s).expect("in range");
        pod.status = serde_json::from_value(json!({ "startTime": started.to_string() })).ok();
        check(&pod, &running, &ready(), &expected);
    }
    let mut failed = ready();
    failed.failed = Some(Verdict::default());
    check(&pod, &running, &failed, &["kill a 5"]);
}

#[test]
fn a_dead_sandbox_gives_its_address_back_before_it_is_replaced() {
    let pod = pod("Always", &[], &[], &["a"]);
    let mut dead = seen(false, &[("a", State::Running, 0)]);
    dead.sandboxes[0].stopped = false;
    check(&pod, &dead, &ready(), &["kill a 5"]);
    let mut dead = seen(false, &[("a", State::Exited, 137)]);
    dead.sandboxes[0].stopped = false;
    check(&pod, &dead, &ready(), &["stop sandbox"]);
    dead.sandboxes[0].stopped = true;
    check(&pod, &dead, &ready(), &["sandbox 1"]);
}

#[test]
fn debug_containers_start_once() {
    let mut pod = pod("Always", &[], &[], &["a"]);
    let debug = json!([{"name": "d", "image": "i", "targetContainerName": "a"}]);
    pod.spec.as_mut().expect("set").ephemeral_containers = serde_json::from_value(debug).ok();
    let running = seen(true, &[("a", State::Running, 0)]);
    check(&pod, &running, &ready(), &["start d 0"]);
    let ended = seen(true, &[("a", State::Running, 0), ("d", State::Exited, 1)]);
    check(&pod, &ended, &ready(), &[]);
}

#[test]
fn an_end_that_the_runtime_refuses_is_not_asked_for_without_a_pause() {
    let (pod, since) = (pod("Always", &[], &[], &["a"]), now());
    let mut memory = ready();
    memory.terminating = true;
    let mut seen = seen(true, &[("a", State::Exited, 137)]);
    for (op, action) in [
        (Op::StopSandbox("s".into()), "stop sandbox"),
        (Op::Teardown, "teardown"),
    ] {
        check(&pod, &seen, &memory, &[action]);
        memory.retry.insert(op, Backoff { delay_s: 4, since });
        let decision = plan(&pod, &seen, &memory, now());
        assert_eq!(decision.actions, [], "{action}");
        assert_eq!(decision.wake_at, Timestamp::from_second(1_000_004).ok());
        seen.sandboxes[0].stopped = true;
    }
}
