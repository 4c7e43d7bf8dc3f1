use super::*;

fn spec(min: Option<i32>, max: i32) -> HorizontalPodAutoscalerSpec {
    HorizontalPodAutoscalerSpec {
        min_replicas: min,
        max_replicas: max,
        ..Default::default()
    }
}

#[test]
fn bounds_come_before_metrics() {
    for (min, current, expected) in [
        (None, 0, First::Disabled),
        (Some(0), 0, First::Measure),
        (Some(2), 0, First::Disabled),
        (None, 1, First::Measure),
        (None, 10, First::Measure),
        (
            None,
            11,
            First::Resize {
                to: 10,
                why: "Current number of replicas above Spec.MaxReplicas",
            },
        ),
        (
            Some(3),
            2,
            First::Resize {
                to: 3,
                why: "Current number of replicas below Spec.MinReplicas",
            },
        ),
    ] {
        assert_eq!(first(&spec(min, 10), current), expected, "{min:?} {current}");
    }
}

fn wants(replicas: i32, name: &str) -> Result<Measured, Failed> {
    Ok(Measured {
        replicas,
        name: name.into(),
        status: MetricStatus::default(),
    })
}

fn fails() -> Result<Measured, Failed> {
    Err(Failed {
        reason: "FailedGetPodsMetric",
        message: "gone".into(),
        error: "failed to get pods metric value: gone".into(),
    })
}

#[test]
fn the_most_wins() {
    let chosen = choose(3, &[wants(2, "a"), wants(5, "b"), wants(4, "c")]).expect("a size");
    assert_eq!((chosen.replicas, chosen.name.as_str()), (5, "b"));
    assert_eq!(reason(3, &chosen), "b above target");
    assert_eq!(reason(9, &chosen), "All metrics below target");
}

#[test]
fn failed_metrics_hold_the_way_down() {
    assert_eq!(choose(3, &[fails(), wants(5, "b")]).expect("a size").replicas, 5);
    let (first, error) = choose(3, &[wants(2, "b"), fails()]).expect_err("held");
    assert_eq!(first.reason, "FailedGetPodsMetric");
    assert_eq!(
        error,
        "invalid metrics (1 invalid out of 2), first error is: failed to get pods metric value: gone"
    );
    assert!(choose(3, &[fails()]).is_err());
}

#[test]
fn conditions_date_their_transitions() {
    let at = |second| Timestamp::from_second(second).expect("a time");
    let mut hpa = HorizontalPodAutoscaler::default();
    let mut draft = Draft::of(&hpa, at(1));
    draft.condition(ABLE, true, "A", "a");
    draft.condition(ACTIVE, false, "B", "b");
    hpa.status = Some(draft.status);
    let mut draft = Draft::of(&hpa, at(2));
    draft.condition(ABLE, true, "C", "c");
    draft.condition(ACTIVE, true, "D", "d");
    let seen: Vec<(String, String, i64)> = draft
        .status
        .conditions
        .iter()
        .flatten()
        .map(|c| {
            let since = c.last_transition_time.as_ref().expect("a time").0.as_second();
            (c.type_.clone(), c.reason.clone().unwrap_or_default(), since)
        })
        .collect();
    assert_eq!(seen, [(ABLE.into(), "C".into(), 1), (ACTIVE.into(), "D".into(), 2)]);
}
