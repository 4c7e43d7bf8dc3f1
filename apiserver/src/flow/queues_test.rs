use super::*;
use std::collections::BTreeSet;

const CONFIG: Queuing = Queuing {
    queues: 64,
    hand_size: 6,
    length_limit: 50,
};

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11
    }
}

#[test]
fn hands_hold_different_queues() {
    let mut dice = Dice(1);
    for (queues, size) in [(64, 6), (128, 6), (16, 4), (1, 1), (3, 3), (2, 5)] {
        let mut seen = BTreeSet::new();
        for _ in 0..500 {
            let hand = hand(dice.next(), queues, size);
            assert_eq!(hand.len(), size.min(queues) as usize);
            assert!(hand.iter().all(|card| *card < queues));
            assert_eq!(hand.iter().collect::<BTreeSet<_>>().len(), hand.len(), "{hand:?}");
            seen.extend(hand);
        }
        assert_eq!(seen.len(), queues as usize, "every queue is dealt to somebody");
    }
}

#[test]
fn a_full_queue_refuses() {
    let mut set = QueueSet::new(Queuing {
        queues: 1,
        hand_size: 1,
        length_limit: 2,
    });
    assert!(set.enqueue(1, 1, 0.0, ()).is_ok());
    assert!(set.enqueue(2, 1, 0.0, ()).is_ok());
    assert_eq!(set.enqueue(3, 1, 0.0, ()), Err(QueueFull));
    assert_eq!((set.len(), set.waiting_seats()), (2, 2));
}

#[test]
fn who_left_is_not_called() {
    let mut set = QueueSet::new(CONFIG);
    let a = set.enqueue(1, 1, 0.0, "a").unwrap();
    set.enqueue(1, 1, 0.0, "b").unwrap();
    assert!(set.cancel(a));
    assert!(!set.cancel(a));
    assert_eq!(set.next(|_| true, 0.0).unwrap().payload, "b");
    assert!(set.next(|_| true, 0.0).is_none());
    assert_eq!(set.len(), 0);
}

#[test]
fn a_wide_request_gets_its_turn() {
    let mut set = QueueSet::new(Queuing {
        queues: 1,
        hand_size: 1,
        length_limit: 9,
    });
    set.enqueue(1, 5, 0.0, "wide").unwrap();
    set.enqueue(1, 1, 0.0, "narrow").unwrap();
    assert!(set.next(|width| width <= 4, 0.0).is_none());
    assert_eq!(set.next(|width| width <= 5, 0.0).unwrap().payload, "wide");
}

/// One seat; each request takes `took`. Answers how many of each flow were served.
fn served(flows: &[(u64, usize)], took: f64, rounds: usize) -> Vec<usize> {
    let mut set = QueueSet::new(Queuing {
        length_limit: 100_000,
        ..CONFIG
    });
    let mut counts = vec![0; flows.len()];
    for (at, (flow, backlog)) in flows.iter().enumerate() {
        for _ in 0..*backlog {
            set.enqueue(*flow, 1, 0.0, at).unwrap();
        }
    }
    let mut now = 0.0;
    for _ in 0..rounds {
        let Some(next) = set.next(|_| true, now) else { break };
        now += took;
        counts[next.payload] += 1;
        set.finished(next.queue, next.width, took, now);
    }
    counts
}

/// A flow with a thousand requests in its hand of queues does not hold up one with a few:
/// they wait for at most a turn of each queue.
#[test]
fn a_noisy_flow_does_not_starve_a_quiet_one() {
    let mut dice = Dice(7);
    for _ in 0..50 {
        let (noisy, quiet) = (dice.next(), dice.next());
        let shared: BTreeSet<u32> = hand(noisy, 64, 6).into_iter().collect();
        if hand(quiet, 64, 6).iter().all(|q| shared.contains(q)) {
            continue;
        }
        for took in [0.0005, 0.003, 0.5] {
            let counts = served(&[(noisy, 1000), (quiet, 5)], took, 60);
            assert_eq!(counts[1], 5, "{counts:?}, {took} s each");
        }
    }
}

/// Two flows with equal backlogs in queues of their own get equal shares.
#[test]
fn equals_share_equally() {
    let mut set = QueueSet::new(Queuing {
        queues: 2,
        hand_size: 1,
        length_limit: 1000,
    });
    for n in 0..400 {
        set.enqueue(n % 2, 1, 0.0, n % 2).unwrap();
    }
    let mut counts = [0_i32; 2];
    let mut now = 0.0;
    for _ in 0..200 {
        let next = set.next(|_| true, now).unwrap();
        // The second flow's requests take thrice as long: it gets a third as many.
        let took = if next.payload == 0 { 0.01 } else { 0.03 };
        now += took;
        counts[next.payload as usize] += 1;
        set.finished(next.queue, 1, took, now);
    }
    assert!((counts[0] - 3 * counts[1]).abs() <= 6, "{counts:?}");
}

/// Whatever happens in whatever order: nothing is lost, nothing comes twice, and no
/// more seats are given out than there are.
#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let mut set = QueueSet::new(CONFIG);
        let (mut entered, mut left) = (BTreeSet::new(), BTreeSet::new());
        let mut ids = Vec::new();
        let mut running: Vec<(u32, u32)> = Vec::new();
        let mut now = 0.0;
        for step in 0..2000_u64 {
            now += 0.001;
            match dice.next() % 4 {
                0 | 1 => {
                    let width = 1 + u32::try_from(dice.next() % 3).unwrap();
                    if let Ok(id) = set.enqueue(dice.next() % 9, width, now, step) {
                        entered.insert(step);
                        ids.push((id, step));
                    }
                }
                2 => {
                    let used: u32 = running.iter().map(|(_, width)| width).sum();
                    if let Some(next) = set.next(|width| used + width <= 8, now) {
                        assert!(left.insert(next.payload));
                        running.push((next.queue, next.width));
                        assert!(running.iter().map(|(_, width)| width).sum::<u32>() <= 8);
                    } else if let Some((queue, width)) = running.pop() {
                        set.finished(queue, width, 0.01, now);
                    }
                }
                _ => {
                    if let Some((id, step)) = ids.pop()
                        && set.cancel(id)
                    {
                        assert!(left.insert(step));
                    }
                }
            }
        }
        while let Some((queue, width)) = running.pop() {
            set.finished(queue, width, 0.01, now);
        }
        while let Some(next) = set.next(|_| true, now) {
            assert!(left.insert(next.payload));
            set.finished(next.queue, next.width, 0.01, now);
        }
        assert_eq!(entered, left);
        assert_eq!(set.len(), 0);
        assert_eq!(set.shown().count(), 0, "idle queues are forgotten");
    }
}
