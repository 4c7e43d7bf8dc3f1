use super::*;
use serde_json::json;
use std::sync::Arc;

const FIT: Plugins = Plugins(1 << Plugin::NodeResourcesFit as u32);
const TAINTS: Plugins = Plugins(1 << Plugin::TaintToleration as u32);
const BACKOFF_MIN: Duration = Duration::from_secs(1);

fn labelled(name: &str, priority: i32, labels: serde_json::Value) -> Candidate {
    let pod = json!({"metadata": {"namespace": "d", "name": name, "uid": name, "labels": labels},
        "spec": {"containers": [], "priority": priority}});
    Candidate::new(Arc::new(serde_json::from_value(pod).expect("a pod")))
}

fn pod(name: &str, priority: i32) -> Candidate {
    labelled(name, priority, json!({}))
}

fn key(name: &str) -> PodKey {
    ("d".into(), name.into())
}

fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
    queue.pop(now).map(|popped| popped.candidate.info.key.1.clone())
}

/// A queue whose one pod was just refused for want of resources.
fn refused(now: Instant) -> Queue {
    let mut queue = Queue::default();
    queue.add(pod("a", 0), now);
    assert_eq!(popped(&mut queue, now), Some("a".into()));
    queue.unschedulable(&key("a"), FIT, now);
    queue
}

fn wake(queue: &mut Queue, plugins: Plugins, now: Instant) -> usize {
    queue.wake(plugins, now, |_, _| true)
}

#[test]
fn higher_priority_first_then_older() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (name, priority) in [("a", 0), ("b", 10), ("c", 10)] {
        queue.add(pod(name, priority), now);
    }
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
    assert_eq!(order, ["b", "c", "a"]);
}

#[test]
fn one_that_was_tried_goes_behind_its_equals() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 0), now);
    queue.add(pod("b", 0), now);
    assert_eq!(popped(&mut queue, now), Some("a".into()));
    queue.unschedulable(&key("a"), FIT, now);
    let later = now + BACKOFF_MIN;
    wake(&mut queue, FIT, later);
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, later)).collect();
    assert_eq!(order, ["b", "a"]);
}

#[test]
fn an_unschedulable_pod_waits_for_a_change_that_may_help() {
    let now = Instant::now();
    let mut queue = refused(now);
    let later = now + Duration::from_secs(100);
    assert_eq!(popped(&mut queue, later), None, "no event came");
    assert_eq!(wake(&mut queue, TAINTS, later), 0, "taints are not what it lacks");
    assert_eq!(queue.wake(FIT, later, |_, _| false), 0, "not this pod");
    assert_eq!(popped(&mut queue, later), None);
    assert_eq!(wake(&mut queue, FIT, later), 1);
    assert_eq!(popped(&mut queue, later), Some("a".into()));
}

#[test]
fn one_that_many_refused_is_woken_by_either() {
    for woken_by in [FIT, TAINTS, Plugins::ANY] {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        popped(&mut queue, now);
        let both = [Plugin::NodeResourcesFit, Plugin::TaintToleration]
            .into_iter()
            .collect();
        queue.unschedulable(&key("a"), both, now);
        assert_eq!(wake(&mut queue, woken_by, now), 1, "{woken_by:?}");
    }
}

#[test]
fn a_woken_pod_goes_early_when_nothing_else_waits_but_not_twice_in_a_row() {
    let now = Instant::now();
    let mut queue = refused(now);
    let soon = now + Duration::from_millis(500);
    wake(&mut queue, FIT, soon);
    assert_eq!(popped(&mut queue, soon), Some("a".into()));
    queue.unschedulable(&key("a"), FIT, soon);
    wake(&mut queue, FIT, soon);
    assert_eq!(popped(&mut queue, soon), None, "it was early already");
    assert_eq!(queue.next_due(), Some(soon + 2 * BACKOFF_MIN));
    assert_eq!(popped(&mut queue, soon + 2 * BACKOFF_MIN), Some("a".into()));
}

#[test]
fn a_woken_pod_lets_others_go_first_until_its_backoff_is_over() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 10), now);
    popped(&mut queue, now);
    queue.unschedulable(&key("a"), FIT, now);
    wake(&mut queue, FIT, now);
    queue.add(pod("b", 0), now);
    assert_eq!(popped(&mut queue, now), Some("b".into()));
    queue.add(pod("c", 0), now);
    let over = now + BACKOFF_MIN;
    assert_eq!(popped(&mut queue, over), Some("a".into()), "its priority counts again");
}

#[test]
fn after_an_error_the_backoff_is_sat_out() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 0), now);
    popped(&mut queue, now);
    queue.failed(&key("a"), now);
    wake(&mut queue, Plugins::ANY, now);
    assert_eq!(popped(&mut queue, now + Duration::from_millis(900)), None);
    assert_eq!(queue.next_due(), Some(now + BACKOFF_MIN));
    assert_eq!(popped(&mut queue, now + BACKOFF_MIN), Some("a".into()));
}

#[test]
fn without_any_event_it_is_tried_after_five_minutes() {
    let now = Instant::now();
    let mut queue = refused(now);
    assert_eq!(popped(&mut queue, now + UNSCHEDULABLE_MAX), Some("a".into()));
}

#[test]
fn backoff_doubles_to_its_bound() {
    let backoff = Backoff::default();
    assert_eq!(
        [1, 2, 3, 4, 5, 40].map(|n| backoff.after(n).as_secs()),
        [1, 2, 4, 8, 10, 10]
    );
}

#[test]
fn a_removed_pod_does_not_come_back() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 0), now);
    popped(&mut queue, now);
    queue.remove(&key("a"));
    queue.failed(&key("a"), now);
    assert_eq!(popped(&mut queue, now + Duration::from_secs(10)), None);
    assert_eq!(queue.next_due(), None);
}

#[test]
fn a_change_of_the_pod_itself_wakes_it_and_of_its_status_does_not() {
    let now = Instant::now();
    let mut queue = refused(now);
    assert!(!queue.add(pod("a", 0), now), "nothing changed");
    assert_eq!(queue.counts().unschedulable, 1);
    assert!(queue.add(labelled("a", 0, json!({"new": "label"})), now));
    let popped = queue.pop(now).expect("the pod");
    assert!(popped.candidate.info.labels.contains_key("new"));
    assert_eq!(popped.attempts, 2);
}

#[test]
fn a_gated_pod_waits_for_its_gates_alone() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add_gated(key("a"), "a", now);
    queue.add_gated(key("a"), "a", now);
    wake(&mut queue, Plugins::ANY, now);
    assert_eq!(popped(&mut queue, now + UNSCHEDULABLE_MAX), None);
    assert_eq!(queue.counts().gated, 1);
    queue.add(pod("b", 0), now);
    queue.add(pod("a", 1), now);
    assert_eq!(queue.counts().gated, 0);
    assert_eq!(popped(&mut queue, now), Some("a".into()), "by its priority");
}

#[test]
fn a_pod_of_the_same_name_is_another_one() {
    let now = Instant::now();
    let mut queue = refused(now);
    let mut again = (*pod("a", 0).pod).clone();
    again.metadata.uid = Some("other".into());
    queue.add(Candidate::new(Arc::new(again)), now);
    let popped = queue.pop(now).expect("the new pod");
    assert_eq!((popped.attempts, popped.candidate.info.uid.as_str()), (1, "other"));
    assert_eq!(queue.counts(), Counts::default());
}

#[test]
fn room_is_made_in_peace() {
    for there in [true, false] {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        popped(&mut queue, now);
        queue.making_room(&key("a"));
        wake(&mut queue, Plugins::ANY, now);
        assert_eq!(popped(&mut queue, now), None, "victims are being removed");
        queue.made_room(&key("a"), there, now);
        assert_eq!(popped(&mut queue, now).is_some(), there);
        if !there {
            wake(&mut queue, FIT, now);
            queue.activate(&key("a"));
            assert_eq!(popped(&mut queue, now), Some("a".into()));
        }
    }
}

#[test]
fn what_was_expected_is_used_at_once() {
    let by = Plugins::NONE.with(Plugin::VolumeBinding);
    for expecting in [true, false] {
        let (mut queue, now) = (refused(Instant::now()), Instant::now());
        // Many tries in vain, and so a long back-off.
        for _ in 0..5 {
            wake(&mut queue, Plugins::ANY, now);
            queue.activate(&key("a"));
            assert_eq!(popped(&mut queue, now), Some("a".into()));
            match expecting {
                true => queue.expecting(&key("a"), by, now),
                false => queue.unschedulable(&key("a"), by, now),
            }
        }
        wake(&mut queue, by, now);
        let counts = queue.counts();
        assert_eq!((counts.active, counts.backoff), if expecting { (1, 0) } else { (0, 1) });
    }
}

#[test]
fn what_could_not_be_tried_was_not_tried() {
    let by = Plugins::NONE.with(Plugin::DynamicResources);
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 0), now);
    for _ in 0..5 {
        let popped = queue.pop(now).expect("ready");
        assert_eq!(popped.attempts, 1);
        queue.held(&key("a"), by, now);
        assert_eq!(wake(&mut queue, FIT, now), 0);
        // No back-off.
        assert_eq!((wake(&mut queue, by, now), queue.counts().active), (1, 1));
    }
    // That its claim was made is told by its status.
    queue.pop(now);
    queue.held(&key("a"), by, now);
    let mut told = (*pod("a", 0).pod).clone();
    told.spec.get_or_insert_default().resource_claims = Some(vec![Default::default()]);
    assert!(queue.add(Candidate::new(Arc::new(told)), now));
}

/// Whatever happens: every pod is in exactly one place, the indexes agree with the
/// entries, and no pod that is neither gated nor handed out is lost for ever.
#[test]
fn no_pod_is_lost_whatever_happens() {
    let begun = Instant::now();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let (mut queue, mut now) = (Queue::default(), begun);
    let mut out: BTreeSet<PodKey> = BTreeSet::new();
    for _ in 0..20_000 {
        let name = format!("p{}", next(12));
        let key = key(&name);
        match next(11) {
            0 => drop(queue.add(pod(&name, i32::try_from(next(3)).expect("small")), now)),
            1 => queue.add_gated(key, &name, now),
            2 => {
                queue.remove(&key);
                out.remove(&key);
            }
            3 | 4 => {
                if let Some(popped) = queue.pop(now) {
                    assert!(out.insert(popped.candidate.info.key.clone()), "handed out twice");
                }
            }
            5 | 6 => {
                if let Some(key) = out.pop_first() {
                    match next(3) {
                        0 => queue.unschedulable(&key, FIT, now),
                        1 => queue.failed(&key, now),
                        _ => {
                            queue.making_room(&key);
                            queue.made_room(&key, next(2) == 0, now);
                        }
                    }
                }
            }
            7 => drop(wake(&mut queue, if next(2) == 0 { FIT } else { TAINTS }, now)),
            8 => queue.activate(&key),
            _ => now += Duration::from_millis(next(3_000)),
        }
        let counts = queue.counts();
        let all = counts.active + counts.backoff + counts.unschedulable + counts.gated + out.len();
        assert_eq!(all, queue.keys().count());
    }
    for key in std::mem::take(&mut out) {
        queue.unschedulable(&key, FIT, now);
    }
    let waiting = queue.keys().count() - queue.counts().gated;
    let end = now + UNSCHEDULABLE_MAX;
    assert_eq!(std::iter::from_fn(|| popped(&mut queue, end)).count(), waiting);
}
