//! Nodes that have a pod's images already. Pure.

use super::SCORE_MAX;
use crate::snapshot::State;

const MIB: i64 = 1024 * 1024;
/// Upstream's bounds: less is not worth going there for, more per image is as good.
const BYTES_MIN: i64 = 23 * MIB;
const BYTES_PER_IMAGE_MAX: i64 = 1000 * MIB;

/// Scores by slot; `None`: no node has any of them. An image counts for less, the
/// fewer nodes have it, or all pods would go to those.
pub fn scores(state: &State, images: &[String]) -> Option<Vec<u8>> {
    let mut sums: Option<Vec<i64>> = None;
    for image in images {
        let Some(on) = state.images.on(image) else { continue };
        let sums = sums.get_or_insert_with(|| vec![0; state.slots.len()]);
        let spread = on.len() as f64 / state.existing.max(1) as f64;
        for (slot, bytes) in on {
            let scaled = (*bytes as f64 * spread) as i64;
            sums[*slot as usize] = sums[*slot as usize].saturating_add(scaled);
        }
    }
    let most = BYTES_PER_IMAGE_MAX.saturating_mul(i64::try_from(images.len()).unwrap_or(i64::MAX));
    let score = |sum: i64| SCORE_MAX * (sum.clamp(BYTES_MIN, most) - BYTES_MIN) / (most - BYTES_MIN);
    Some(
        sums?
            .into_iter()
            .map(|sum| u8::try_from(score(sum)).unwrap_or(0))
            .collect(),
    )
}
