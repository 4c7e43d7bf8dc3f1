use super::*;
use proptest::prelude::*;
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn rules(value: serde_json::Value) -> HorizontalPodAutoscalerBehavior {
    serde_json::from_value(value).expect("a behaviour")
}

/// What the API fills in where a behaviour is given.
fn defaults() -> HorizontalPodAutoscalerBehavior {
    rules(json!({
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]},
        "scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
    }))
}

fn bounds(current: i32) -> Bounds {
    Bounds {
        min: 1,
        max: 100,
        current,
    }
}

#[test]
fn without_behaviour() {
    for (current, desired, replicas, reason) in [
        (1, 10, 4, "ScaleUpLimit"),
        (10, 30, 20, "ScaleUpLimit"),
        (60, 200, 100, "TooManyReplicas"),
        (5, 0, 1, "TooFewReplicas"),
        (5, 7, 7, "DesiredWithinRange"),
    ] {
        let found = limit(&mut History::default(), None, bounds(current), desired, at(0));
        assert_eq!(
            (found.replicas, found.why.0),
            (replicas, reason),
            "{current} to {desired}"
        );
        assert_eq!(found.limited, reason != "DesiredWithinRange");
        assert_eq!(found.able, READY);
    }
}

#[test]
fn going_down_waits_five_minutes() {
    for behavior in [None, Some(defaults())] {
        let mut history = History::default();
        history.begin(10, at(0));
        let mut look = |second| limit(&mut history, behavior.as_ref(), bounds(10), 2, at(second));
        let held = look(15);
        assert_eq!((held.replicas, held.able.0), (10, "ScaleDownStabilized"));
        assert_eq!(look(285).replicas, 10);
        let free = look(301);
        assert_eq!((free.replicas, free.able), (2, READY));
    }
}

#[test]
fn going_up_may_wait_too() {
    let mut behavior = defaults();
    behavior.scale_up.as_mut().expect("rules").stabilization_window_seconds = Some(60);
    let mut history = History::default();
    history.begin(2, at(0));
    let mut look = |desired, second| limit(&mut history, Some(&behavior), bounds(2), desired, at(second));
    let held = look(6, 15);
    assert_eq!((held.replicas, held.able.0), (2, "ScaleUpStabilized"));
    assert_eq!(look(5, 45).replicas, 2);
    assert_eq!(look(6, 61).replicas, 5, "the lowest of the last minute");
}

/// The documented policies: four pods or ten percent a minute, whichever is more.
#[test]
fn policies_limit_the_rate() {
    let behavior = |select: &str| {
        rules(
            json!({"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]}}),
        )
    };
    for (select, current, desired, replicas, why) in [
        ("Max", 80, 10, 72, "ScaleDownLimit"),
        ("Max", 37, 10, 33, "ScaleDownLimit"),
        ("Min", 80, 10, 76, "ScaleDownLimit"),
        ("Min", 35, 10, 31, "ScaleDownLimit"),
        ("Disabled", 80, 10, 80, "ScaleDownLimit"),
        ("Max", 10, 90, 14, "ScaleUpLimit"),
        ("Max", 80, 90, 88, "ScaleUpLimit"),
        ("Min", 10, 90, 11, "ScaleUpLimit"),
        ("Disabled", 10, 90, 10, "ScaleUpLimit"),
        ("Max", 98, 500, 100, "TooManyReplicas"),
        ("Max", 3, 0, 1, "TooFewReplicas"),
    ] {
        let found = limit(
            &mut History::default(),
            Some(&behavior(select)),
            bounds(current),
            desired,
            at(0),
        );
        assert_eq!(
            (found.replicas, found.why.0),
            (replicas, why),
            "{select} {current} to {desired}"
        );
    }
}

#[test]
fn a_period_counts_what_was_done_in_it() {
    let behavior = rules(
        json!({"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]}, "scaleDown": {"policies": []}}),
    );
    let mut history = History::default();
    let first = limit(&mut history, Some(&behavior), bounds(10), 50, at(0));
    assert_eq!(first.replicas, 14);
    history.scaled(Some(&behavior), 10, 14, at(0));
    assert_eq!(
        limit(&mut history, Some(&behavior), bounds(14), 50, at(30)).replicas,
        14
    );
    assert_eq!(
        limit(&mut history, Some(&behavior), bounds(14), 50, at(61)).replicas,
        18
    );
}

proptest! {
    /// Whatever is asked for, the size stays within the bounds or moves towards them, and at the policies' rate.
    #[test]
    fn stays_within_bounds(asked in prop::collection::vec((0i32..200, 1i64..120), 1..60), with_rules in any::<bool>()) {
        let behavior = with_rules.then(defaults);
        let (mut history, mut current, mut now) = (History::default(), 10, 0);
        history.begin(current, at(0));
        let mut sizes = vec![(0, current)];
        for (desired, passed) in asked {
            now += passed;
            // The rate is counted from what there was when the period, of 15 s, began.
            let begun = sizes.iter().rev().find(|(since, _)| *since <= now - 15).map_or(10, |(_, size)| *size);
            let from = if with_rules { begun } else { current };
            let found = limit(&mut history, behavior.as_ref(), bounds(current), desired, at(now));
            prop_assert!((1..=100).contains(&found.replicas));
            prop_assert!(found.replicas <= (from * 2).max(from + 4).max(current));
            if found.replicas != current {
                history.scaled(behavior.as_ref(), current, found.replicas, at(now));
                sizes.push((now, found.replicas));
            }
            current = found.replicas;
            prop_assert!(history.recommendations.len() <= REMEMBERED_MAX && history.added.len() <= REMEMBERED_MAX);
        }
    }

    /// What is asked for long enough is what there is in the end.
    #[test]
    fn settles(desired in 1i32..100, start in 1i32..100, with_rules in any::<bool>()) {
        let behavior = with_rules.then(defaults);
        let (mut history, mut current) = (History::default(), start);
        history.begin(current, at(0));
        for look in 1..60 {
            let found = limit(&mut history, behavior.as_ref(), bounds(current), desired, at(look * 15));
            if found.replicas != current {
                history.scaled(behavior.as_ref(), current, found.replicas, at(look * 15));
            }
            current = found.replicas;
        }
        prop_assert_eq!(current, desired);
    }
}
