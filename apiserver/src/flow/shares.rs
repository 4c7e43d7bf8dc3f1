//! How many seats each priority level has: its nominal share, and what it lends and
//! borrows while others have more or less to do. Pure; the formulas are KEP-1040's.

/// A level's part of the whole, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub shares: u32,
    pub lendable_percent: u32,
    /// `None`: it may borrow whatever is lent.
    pub borrowing_percent: Option<u32>,
}

/// Bounds of a level's seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub nominal: u32,
    /// What stays when all that may be lent is lent.
    pub min: u32,
    /// What there is when all that may be borrowed is borrowed.
    pub max: u32,
}

pub fn bounds(shares: &[Share], total: u32) -> Vec<Bounds> {
    let sum: u64 = shares.iter().map(|s| u64::from(s.shares)).sum();
    let part = |of: u32, percent: u32| {
        let rounded = (u64::from(of) * u64::from(percent) + 50) / 100;
        u32::try_from(rounded).unwrap_or(u32::MAX)
    };
    shares
        .iter()
        .map(|share| {
            let nominal = (u64::from(total) * u64::from(share.shares))
                .checked_add(sum.saturating_sub(1))
                .and_then(|n| n.checked_div(sum))
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0);
            let borrowing = share.borrowing_percent.map_or(total, |p| part(nominal, p));
            Bounds {
                nominal,
                min: nominal - part(nominal, share.lendable_percent.min(100)).min(nominal),
                max: nominal.saturating_add(borrowing),
            }
        })
        .collect()
}

/// The seats of each level when `demands` are in use or waited for. Nobody who has a
/// use for its nominal seats gets fewer; what others leave goes to those who want more,
/// in proportion to what they want.
pub fn divide(bounds: &[Bounds], demands: &[u32], total: u32) -> Vec<u32> {
    let rows: Vec<(f64, f64, f64)> = bounds
        .iter()
        .zip(demands)
        .map(|(b, demand)| {
            let least = b.min.max(b.nominal.min(*demand));
            (
                f64::from(least),
                f64::from(least.max(*demand)),
                f64::from(b.max.max(least)),
            )
        })
        .collect();
    let at = |fraction: f64| {
        rows.iter()
            .map(move |(least, want, most)| (want * fraction).clamp(*least, *most))
    };
    let goal = f64::from(total);
    // The sum grows with the fraction: the one that uses up the total is found by halving.
    let (mut low, mut high) = (0.0_f64, 1.0 + goal);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if at(middle).sum::<f64>() <= goal {
            low = middle;
        } else {
            high = middle;
        }
    }
    // Between 0 and `most`, which is a u32.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let seats = at(low).map(|seats| seats.round() as u32).collect();
    seats
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested() -> Vec<Share> {
        // exempt, system, node-high, leader-election, workload-high, workload-low, global-default, catch-all
        [
            (0, 0),
            (30, 33),
            (40, 25),
            (10, 0),
            (40, 50),
            (100, 90),
            (20, 50),
            (5, 0),
        ]
        .iter()
        .map(|(shares, lendable_percent)| Share {
            shares: *shares,
            lendable_percent: *lendable_percent,
            borrowing_percent: None,
        })
        .collect()
    }

    /// The figures that kube-apiserver shows for its own configuration.
    #[test]
    fn nominal_seats_are_upstreams() {
        let found = bounds(&suggested(), 600);
        let nominal: Vec<u32> = found.iter().map(|b| b.nominal).collect();
        assert_eq!(nominal, [0, 74, 98, 25, 98, 245, 49, 13]);
        assert_eq!(found[5].min, 24);
        assert_eq!(found[3].min, 25);
        assert_eq!(bounds(&[], 600), []);
        let zero = Share {
            shares: 0,
            lendable_percent: 0,
            borrowing_percent: Some(50),
        };
        assert_eq!(bounds(&[zero], 600)[0].max, 0);
    }

    #[test]
    fn idle_levels_lend_and_get_back() {
        let all = bounds(&suggested(), 600);
        let mut demands = vec![0; 8];
        demands[6] = 500;
        let lent = divide(&all, &demands, 600);
        assert!(lent[6] > 49 + 200, "{lent:?}");
        assert_eq!(lent[3], 25, "who lends nothing keeps its seats");
        demands[2] = 98;
        demands[5] = 1000;
        let back = divide(&all, &demands, 600);
        assert!(back[2] >= 98 && back[5] >= 245 && back[6] >= 49, "{back:?}");
    }

    #[test]
    fn bounds_hold_for_any_demand() {
        let mut state = 42_u64;
        let mut dice = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u32::try_from(state >> 40).unwrap_or(0)
        };
        for _ in 0..500 {
            let shares: Vec<Share> = (0..1 + dice() % 9)
                .map(|_| Share {
                    shares: dice() % 100,
                    lendable_percent: dice() % 101,
                    borrowing_percent: (dice() % 2 == 0).then(|| dice() % 300),
                })
                .collect();
            let total = 1 + dice() % 1000;
            let all = bounds(&shares, total);
            let demands: Vec<u32> = all.iter().map(|_| dice() % 700).collect();
            let seats = divide(&all, &demands, total);
            for ((b, demand), seats) in all.iter().zip(&demands).zip(&seats) {
                assert!(*seats >= b.min && *seats <= b.max.max(b.nominal), "{b:?} {seats}");
                assert!(*seats >= b.nominal.min(*demand), "{b:?} wants {demand}, has {seats}");
            }
            let sum: u32 = seats.iter().sum();
            let least: u32 = all
                .iter()
                .zip(&demands)
                .map(|(b, d)| b.min.max(b.nominal.min(*d)))
                .sum();
            let count = u32::try_from(all.len()).unwrap_or(0);
            assert!(sum <= total.max(least) + count, "{sum} of {total}");
        }
    }
}
