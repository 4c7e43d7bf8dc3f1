//! Which images have to go when the disk is full or they are old. Pure.

use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Kubernetes' defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// From this much of the disk on, images are removed until it is `low_percent`.
    pub high_percent: u64,
    pub low_percent: u64,
    /// An image stays at least so long after it came.
    pub age_min: Duration,
    /// An image that nobody has used for so long is removed anyway.
    pub age_max: Option<Duration>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            age_min: Duration::from_secs(120),
            age_max: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub bytes: u64,
    /// Pinned, imported, or needed for every pod.
    pub kept: bool,
}

/// When an image was first seen here and when it was last in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub first: Timestamp,
    pub used: Option<Timestamp>,
}

/// Brings the memory of images up to date with what is there now.
pub fn detect(seen: &mut BTreeMap<String, Seen>, images: &[Image], in_use: &BTreeSet<String>, now: Timestamp) {
    seen.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in images {
        let entry = seen.entry(image.id.clone()).or_insert(Seen { first: now, used: None });
        if in_use.contains(&image.id) {
            entry.used = Some(now);
        }
    }
}

/// How many bytes must be freed, if any.
pub fn excess(capacity_bytes: u64, available_bytes: u64, thresholds: &Thresholds) -> Option<u64> {
    let used = capacity_bytes.saturating_sub(available_bytes);
    let part = |percent: u64| u64::try_from(u128::from(capacity_bytes) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    let full = capacity_bytes > 0 && used.saturating_mul(100) / capacity_bytes >= thresholds.high_percent;
    full.then(|| used.saturating_sub(part(thresholds.low_percent)))
}

/// The images to remove, the least recently used first: as many as free `wanted_bytes`
/// (`None`: none for the room), and all that nobody has used for too long.
pub fn victims(
    images: &[Image],
    seen: &BTreeMap<String, Seen>,
    in_use: &BTreeSet<String>,
    wanted_bytes: Option<u64>,
    thresholds: &Thresholds,
    now: Timestamp,
) -> Vec<String> {
    let age = |since: Timestamp| Duration::try_from(since.duration_until(now)).unwrap_or_default();
    let mut free: Vec<(&Image, Seen)> = images
        .iter()
        .filter(|image| !image.kept && !in_use.contains(&image.id))
        .filter_map(|image| seen.get(&image.id).map(|s| (image, *s)))
        .collect();
    free.sort_by_key(|(image, seen)| (seen.used, seen.first, image.id.clone()));
    let mut left = wanted_bytes.unwrap_or(0);
    let mut gone = Vec::new();
    for (image, seen) in free {
        let unused = age(seen.used.unwrap_or(seen.first));
        let old = thresholds.age_max.is_some_and(|max| unused > max);
        let room = left > 0 && age(seen.first) >= thresholds.age_min;
        if old || room {
            left = left.saturating_sub(image.bytes);
            gone.push(image.id.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn image(id: &str, kept: bool) -> Image {
        Image {
            id: id.into(),
            bytes: 100,
            kept,
        }
    }

    fn ids(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn how_much_has_to_go() {
        let thresholds = Thresholds::default();
        for (capacity, available, expected) in [
            (1_000, 200, None),
            (1_000, 151, None),
            (1_000, 150, Some(50)),
            (1_000, 0, Some(200)),
            (0, 0, None),
        ] {
            assert_eq!(
                excess(capacity, available, &thresholds),
                expected,
                "{capacity} {available}"
            );
        }
    }

    #[test]
    fn the_least_recently_used_go_first_and_some_never() {
        let images = [
            image("old", false),
            image("used", false),
            image("kept", true),
            image("busy", false),
        ];
        let mut seen = BTreeMap::new();
        detect(&mut seen, &images, &ids(&["used", "busy"]), at(0));
        let mut more = images.to_vec();
        more.push(image("new", false));
        detect(&mut seen, &more, &ids(&["busy"]), at(1_000));
        let victims = |wanted, age_max, now| {
            let thresholds = Thresholds {
                age_max,
                ..Thresholds::default()
            };
            super::victims(&more, &seen, &ids(&["busy"]), wanted, &thresholds, at(now))
        };
        let week = Some(Duration::from_secs(600));
        for (wanted, age_max, now, expected) in [
            (None, None, 9_999, vec![]),
            (Some(1), None, 1_000, vec!["old"]),
            (Some(100), None, 1_000, vec!["old"]),
            (Some(101), None, 1_000, vec!["old", "used"]),
            (Some(u64::MAX), None, 1_060, vec!["old", "used"]),
            (Some(u64::MAX), None, 1_120, vec!["old", "new", "used"]),
            (None, week, 1_000, vec!["old", "used"]),
            (None, week, 1_601, vec!["old", "new", "used"]),
        ] {
            assert_eq!(victims(wanted, age_max, now), expected, "{wanted:?} {age_max:?} {now}");
        }
        detect(&mut seen, &images[..1], &BTreeSet::new(), at(2_000));
        assert_eq!(seen.len(), 1);
        assert_eq!(seen["old"].first, at(0));
    }
}
