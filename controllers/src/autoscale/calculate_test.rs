use super::*;
use proptest::prelude::*;
use serde_json::json;

const NOW: &str = "2026-01-01T01:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A pod that asks for a tenth of a CPU, started long ago.
fn pod(name: &str, phase: &str, ready: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "1Ki"}}}]},
        "status": {"phase": phase, "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:30:00Z"}]},
    }))
    .expect("a pod")
}

fn running(count: usize) -> Vec<Pod> {
    (0..count).map(|n| pod(&format!("p{n}"), "Running", "True")).collect()
}

fn samples(values: &[(usize, i64)]) -> Samples {
    let sample = |value| Sample {
        value,
        at: at(NOW),
        window: SignedDuration::from_secs(15),
    };
    values
        .iter()
        .map(|(n, value)| (format!("p{n}"), sample(*value)))
        .collect()
}

fn target(pods: &[Pod], replicas: i32) -> Target<'_> {
    Target {
        replicas,
        pods,
        tolerance: Tolerance { up: 0.1, down: 0.1 },
        now: at(NOW),
    }
}

const CPU: Asked<'static> = Asked {
    resource: "cpu",
    container: None,
};

/// Every pod's use, the target in percent, the replicas and the percentage that follow.
#[test]
fn the_documented_examples() {
    for (uses, percent, expected) in [
        // Twice as busy as wanted: twice as many.
        (&[(0, 100), (1, 100)][..], 50, (4, 100)),
        (&[(0, 25), (1, 25)], 50, (1, 25)),
        // Within a tenth nothing is done.
        (&[(0, 54), (1, 54)], 50, (2, 54)),
        (&[(0, 46), (1, 46)], 50, (2, 46)),
        (&[(0, 56), (1, 56)], 50, (3, 56)),
        (&[(0, 300), (1, 500), (2, 700)], 30, (50, 500)),
    ] {
        let pods = running(uses.len());
        let current = i32::try_from(uses.len()).expect("few");
        let found = utilization(target(&pods, current), CPU, samples(uses), percent).expect("a size");
        assert_eq!((found.0, found.1), expected, "{uses:?} of {percent} %");
    }
}

#[test]
fn pods_without_metrics_count_against_the_change() {
    let pods = running(3);
    // Two of three are twice as busy as wanted; with the third idle it is 133 %.
    let up = utilization(target(&pods, 3), CPU, samples(&[(0, 100), (1, 100)]), 50).expect("a size");
    assert_eq!(up.0, 4);
    // Going down they count as fully busy: (10 + 10 + 100) / 300 is 40 % of the wanted 60.
    let down = utilization(target(&pods, 3), CPU, samples(&[(0, 10), (1, 10)]), 60).expect("a size");
    assert_eq!(down.0, 2);
    // What would turn the direction does nothing.
    let turned = utilization(target(&pods, 3), CPU, samples(&[(0, 10), (1, 10)]), 30).expect("a size");
    assert_eq!(turned.0, 3);
}

#[test]
fn unready_pods_are_not_asked_and_count_as_idle_when_it_goes_up() {
    let mut pods = running(3);
    pods[2] = pod("p2", "Pending", "False");
    let uses = [(0, 100), (1, 100), (2, 999)];
    let up = utilization(target(&pods, 3), CPU, samples(&uses), 50).expect("a size");
    assert_eq!((up.0, up.1), (4, 100));
    let down = utilization(target(&pods, 3), CPU, samples(&[(0, 10), (1, 10), (2, 999)]), 50).expect("a size");
    assert_eq!(down.0, 1);
}

#[test]
fn who_counts_as_unready() {
    let unready = |started: &str, ready: &str, since: &str| {
        let mut one = pod("p0", "Running", ready);
        let status = one.status.as_mut().expect("a status");
        status.start_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(started)));
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_transition_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(since)));
        }
        !group(&[one], &samples(&[(0, 1)]), true, at(NOW)).unready.is_empty()
    };
    // Started within five minutes: unready, or measured before it was ready for a whole window.
    assert!(unready("2026-01-01T00:58:00Z", "False", "2026-01-01T00:58:10Z"));
    assert!(unready("2026-01-01T00:58:00Z", "True", "2026-01-01T00:59:50Z"));
    assert!(!unready("2026-01-01T00:58:00Z", "True", "2026-01-01T00:59:45Z"));
    // Later: only who has never been ready.
    assert!(unready("2026-01-01T00:00:00Z", "False", "2026-01-01T00:00:29Z"));
    assert!(!unready("2026-01-01T00:00:00Z", "False", "2026-01-01T00:00:30Z"));
    assert!(!unready("2026-01-01T00:00:00Z", "True", "2026-01-01T00:59:59Z"));
}

#[test]
fn what_cannot_be_calculated_is_told() {
    let pods = running(1);
    let said = |pods: &[Pod], asked, uses: &[(usize, i64)]| {
        utilization(target(pods, 1), asked, samples(uses), 50).expect_err("an error")
    };
    assert_eq!(said(&[], CPU, &[]), NO_PODS);
    assert_eq!(said(&pods, CPU, &[]), NO_METRICS);
    let gpu = Asked {
        resource: "gpu",
        container: None,
    };
    assert_eq!(
        said(&pods, gpu, &[(0, 1)]),
        "missing request for gpu in container c of Pod p0"
    );
    let other = Asked {
        resource: "cpu",
        container: Some("other"),
    };
    assert_eq!(said(&pods, other, &[(0, 1)]), "no metrics returned matched known pods");
}

#[test]
fn requests_of_pods_sidecars_and_containers() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {
            "initContainers": [
                {"name": "once", "resources": {"requests": {"cpu": "9"}}},
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
            ],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}],
        },
    }))
    .expect("a pod");
    assert_eq!(request(&pod, CPU), Ok(150));
    let only = |name| Asked {
        resource: "cpu",
        container: Some(name),
    };
    assert_eq!(
        (request(&pod, only("c")), request(&pod, only("side"))),
        (Ok(100), Ok(50))
    );
    let mut whole = pod;
    let resources = json!({"requests": {"cpu": "400m"}});
    whole.spec.as_mut().expect("a spec").resources = serde_json::from_value(resources).expect("resources");
    assert_eq!((request(&whole, CPU), request(&whole, only("c"))), (Ok(400), Ok(100)));
}

#[test]
fn averages_and_values() {
    let pods = running(3);
    assert_eq!(
        plain(target(&pods, 3), samples(&[(0, 20), (1, 20), (2, 20)]), false, 10),
        Ok((6, 20))
    );
    assert_eq!(
        plain(target(&pods, 3), samples(&[(0, 10), (1, 10), (2, 11)]), false, 10),
        Ok((3, 10))
    );
    assert_eq!(by_value(target(&pods, 3), 20_000, 10_000), Ok(6));
    assert_eq!(by_value(target(&pods, 3), 10_500, 10_000), Ok(3));
    assert_eq!(
        by_value(target(&[], 0), 25_000, 10_000),
        Ok(3),
        "from zero, by the value alone"
    );
    assert_eq!(by_value(target(&[], 0), 0, 10_000), Ok(0));
    assert!(by_value(target(&[], 1), 25_000, 10_000).is_err());
    let tolerance = Tolerance { up: 0.1, down: 0.1 };
    assert_eq!(by_average(tolerance, 4, 100, 10), (10, 25));
    assert_eq!(by_average(tolerance, 10, 105, 10), (10, 11));
    assert_eq!(by_average(tolerance, 0, 100, 10), (10, 100));
}

#[test]
fn tolerances_differ_by_direction() {
    let pods = running(2);
    let mut one = target(&pods, 2);
    one.tolerance = Tolerance { up: 0.5, down: 0.0 };
    let size = |uses: &[(usize, i64)]| utilization(one, CPU, samples(uses), 50).expect("a size").0;
    assert_eq!(size(&[(0, 70), (1, 70)]), 2);
    assert_eq!(size(&[(0, 80), (1, 80)]), 4);
    assert_eq!(size(&[(0, 24), (1, 24)]), 1);
}

proptest! {
    /// Busier pods never lead to fewer replicas, and nothing makes it panic.
    #[test]
    fn more_use_never_means_fewer(
        uses in prop::collection::vec(prop::option::of(0i64..1_000_000), 1..8),
        more in 0i64..1_000_000, percent in 1i32..500, replicas in 0i32..1_000,
    ) {
        let pods = running(uses.len());
        let given: Vec<(usize, i64)> = uses.iter().enumerate().filter_map(|(n, v)| Some((n, (*v)?))).collect();
        let busier: Vec<(usize, i64)> = given.iter().map(|(n, v)| (*n, v + more)).collect();
        let size = |values: &[(usize, i64)]| utilization(target(&pods, replicas), CPU, samples(values), percent);
        // What keeps the size may step aside of what changes it where replicas and pods differ.
        if let (Ok(one), Ok(two)) = (size(&given), size(&busier)) && usize::try_from(replicas) == Ok(pods.len()) {
            prop_assert!(two.0 >= one.0, "{one:?} {two:?}");
        }
    }
}
