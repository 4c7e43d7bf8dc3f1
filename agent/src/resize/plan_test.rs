use super::*;
use serde_json::{Value as Json, json};

const MIB: i64 = 1 << 20;

fn needs(cpu: (u32, u32), memory: (u32, u32)) -> Json {
    json!({"requests": {"cpu": format!("{}m", cpu.0), "memory": format!("{}Mi", memory.0)},
        "limits": {"cpu": format!("{}m", cpu.1), "memory": format!("{}Mi", memory.1)}})
}

fn resources(value: &Json) -> ResourceRequirements {
    serde_json::from_value(value.clone()).expect("valid")
}

fn pod(containers: &[(&str, Json, Json)]) -> Pod {
    let each: Vec<Json> = containers
        .iter()
        .map(|(name, needs, policy)| json!({"name": name, "resources": needs, "resizePolicy": policy}))
        .collect();
    serde_json::from_value(json!({"spec": {"containers": each}})).expect("valid")
}

fn running(name: &str, needs: &Json) -> Running {
    Running {
        id: format!("{name}-id"),
        name: name.into(),
        in_force: resources(needs),
    }
}

fn policy(cpu: &str, memory: &str) -> Json {
    json!([{"resourceName": "cpu", "restartPolicy": cpu}, {"resourceName": "memory", "restartPolicy": memory}])
}

#[test]
fn policies_say_who_restarts() {
    let old = needs((100, 200), (100, 200));
    let (stay, anew) = ("NotRequired", "RestartContainer");
    for (new, policy, restart, update) in [
        (needs((100, 200), (100, 200)), policy(anew, anew), 0, 0),
        (needs((200, 200), (100, 200)), policy(stay, anew), 0, 1),
        (needs((100, 300), (100, 200)), policy(anew, stay), 1, 0),
        (needs((100, 200), (150, 200)), policy(stay, anew), 1, 0),
        (needs((100, 200), (100, 300)), policy(anew, stay), 0, 1),
        (needs((200, 300), (200, 300)), policy(stay, anew), 1, 0),
        (needs((200, 300), (200, 300)), json!([]), 0, 1),
    ] {
        let found = change(&pod(&[("a", new.clone(), policy.clone())]), &[running("a", &old)], None);
        assert_eq!(
            (found.restart.len(), found.update.len()),
            (restart, update),
            "{new} {policy}"
        );
    }
    let left = change(&pod(&[("b", old.clone(), json!([]))]), &[running("a", &old)], None);
    assert!(left.is_empty(), "a container that the pod does not have is left alone");
}

fn host() -> Host {
    Host {
        memory_bytes: 1 << 40,
        ..Host::default()
    }
}

/// Where the pod's cgroup stands, and what it is to be.
fn stand(pod: &Pod, old: &Pod) -> (PodLimits, Current) {
    let limits = |pod: &Pod| kernel::pod_limits(pod.spec.as_ref().expect("given"), &host(), None);
    let before = limits(old);
    let now = Current {
        cpu_shares: before.cpu_shares,
        cpu_quota_us: before.cpu_quota_us,
        memory_bytes: before.memory_bytes,
        memory_used_bytes: 0,
    };
    (limits(pod), now)
}

fn told(steps: &[Step]) -> Vec<String> {
    let each = steps.iter().map(|step| match step {
        Step::Pod(value) => format!("pod {value:?}"),
        Step::Container { id, resources: r, .. } => {
            format!(
                "{id} {}/{} {}Mi",
                r.cpu_shares,
                r.cpu_quota,
                r.memory_limit_in_bytes / MIB
            )
        }
    });
    each.collect()
}

#[test]
fn the_pod_grows_first_and_shrinks_last() {
    let (small, large) = (needs((100, 200), (64, 64)), needs((200, 400), (128, 128)));
    let of = |needs: &Json| pod(&[("a", needs.clone(), json!([]))]);
    let all = |new: &Json, old: &Json| {
        let (limits, now) = stand(&of(new), &of(old));
        let change = change(&of(new), &[running("a", old)], None);
        told(&steps(&of(new), &change, &limits, &now, &host()))
    };
    assert_eq!(
        all(&large, &small),
        [
            "pod Memory(134217728)",
            "a-id 102/20000 128Mi",
            "pod CpuQuotaUs(Some(40000))",
            "pod CpuShares(204)",
            "a-id 204/40000 128Mi",
        ]
    );
    assert_eq!(
        all(&small, &large),
        [
            "a-id 204/40000 64Mi",
            "pod Memory(67108864)",
            "a-id 102/20000 64Mi",
            "pod CpuShares(102)",
            "pod CpuQuotaUs(Some(20000))",
        ]
    );
    assert!(all(&small, &small).is_empty());
}

#[test]
fn those_that_give_go_before_those_that_take() {
    let (small, large) = (needs((100, 100), (64, 64)), needs((300, 300), (64, 64)));
    let old = pod(&[("a", small.clone(), json!([])), ("b", large.clone(), json!([]))]);
    let new = pod(&[("a", large.clone(), json!([])), ("b", small.clone(), json!([]))]);
    let (limits, now) = stand(&new, &old);
    let change = change(&new, &[running("a", &small), running("b", &large)], None);
    let steps = told(&steps(&new, &change, &limits, &now, &host()));
    assert_eq!(
        steps,
        ["b-id 102/10000 64Mi", "a-id 307/30000 64Mi"],
        "the pod's sums are the same"
    );
}

#[test]
fn memory_in_use_is_not_taken() {
    let (small, large) = (needs((100, 100), (64, 64)), needs((100, 100), (128, 128)));
    let of = |needs: &Json| pod(&[("a", needs.clone(), json!([]))]);
    let asked = |pod_used: i64, used: u64| {
        let (limits, mut now) = stand(&of(&small), &of(&large));
        now.memory_used_bytes = u64::try_from(pod_used).expect("positive");
        let change = change(&of(&small), &[running("a", &large)], None);
        memory_in_use(&of(&small), &change, &limits, &now, |_| used)
    };
    assert_eq!(asked(60 * MIB, 50), None);
    assert_eq!(
        asked(70 * MIB, 50).as_deref(),
        Some(
            "cannot decrease memory limits: attempting to set pod memory limit (67108864) below current usage (73400320)"
        )
    );
    assert_eq!(
        asked(70 * MIB, 70 << 20).as_deref(),
        Some(
            "cannot decrease memory limits: [attempting to set pod memory limit (67108864) below current usage \
             (73400320), attempting to set container \"a\" memory limit (67108864) below current usage (73400320)]"
        )
    );
}

#[test]
fn containers_without_limits_follow_the_pods() {
    let of = |cpu: &str, memory: &str| {
        let mut pod = pod(&[
            ("a", json!({}), json!([])),
            ("b", needs((100, 100), (16, 16)), json!([])),
        ]);
        let own = json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}});
        pod.spec.as_mut().expect("given").resources = Some(resources(&own));
        pod
    };
    let (old, new) = (of("500m", "64Mi"), of("1", "128Mi"));
    let inherited = old.spec.as_ref().and_then(|s| s.resources.clone());
    let all = [running("a", &json!({})), running("b", &needs((100, 100), (16, 16)))];
    let change = change(&new, &all, inherited.as_ref());
    assert_eq!(change.update.len(), 1);
    let (limits, now) = stand(&new, &old);
    assert_eq!(
        told(&steps(&new, &change, &limits, &now, &host())),
        [
            "pod Memory(134217728)",
            "a-id 512/50000 128Mi",
            "pod CpuQuotaUs(Some(100000))",
            "pod CpuShares(1024)",
            "a-id 1024/100000 128Mi",
        ]
    );
    assert!(super::change(&new, &all, new.spec.as_ref().and_then(|s| s.resources.as_ref())).is_empty());
}
