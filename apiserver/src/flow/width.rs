//! How many seats a request takes: one, but for lists, which take more the more
//! objects they look at; as upstream's work estimator. Pure.

/// Objects that one seat pays for.
const OBJECTS_PER_SEAT: usize = 100;
/// Seats of the largest list.
pub const SEATS_MAX: u32 = 10;
/// No request takes more of its level than this part.
const LEVEL_PERCENT_MAX: u32 = 15;

/// What is known of a list before it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListShape {
    /// Objects of the resource in the store, in the namespace if one is asked for.
    pub stored: usize,
    /// `limit`; 0 if there is none.
    pub limit: usize,
    /// The answer may hold fewer than are looked at.
    pub selects: bool,
}

/// Seats of a list, in a level of so many nominal seats.
pub fn seats(list: ListShape, nominal: u32) -> u32 {
    let page = match list.limit {
        0 => list.stored,
        limit => limit.min(list.stored),
    };
    // Those that are looked at, and those that are written out.
    let looked_at = if list.selects { list.stored } else { page };
    let work = looked_at.saturating_add(page).div_ceil(OBJECTS_PER_SEAT);
    let most = (nominal.saturating_mul(LEVEL_PERCENT_MAX) / 100).clamp(1, SEATS_MAX);
    u32::try_from(work).unwrap_or(u32::MAX).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_what_they_cost() {
        let seats = |stored, limit, selects, nominal| seats(ListShape { stored, limit, selects }, nominal);
        assert_eq!(seats(0, 0, false, 100), 1);
        assert_eq!(seats(50, 0, false, 100), 1);
        assert_eq!(seats(200, 0, false, 100), 4);
        assert_eq!(seats(10_000, 0, false, 100), 10);
        assert_eq!(seats(10_000, 100, false, 100), 2);
        assert_eq!(seats(10_000, 1, true, 100), 10);
        assert_eq!(seats(10_000, 0, false, 13), 1);
        assert_eq!(seats(10_000, 0, false, 49), 7);
        assert_eq!(seats(usize::MAX, 0, true, u32::MAX), 10);
    }
}
