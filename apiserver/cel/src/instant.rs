//! Points in time from the first second of year 1 to the last of 9999, which is all that
//! RFC 3339 can write: a little more than `jiff::Timestamp` holds.

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use std::fmt;

/// Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    seconds: i64,
    nanos: u32,
}

const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const NANOS: i128 = 1_000_000_000;

impl Instant {
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        Self::new(seconds, 0)
    }

    fn new(seconds: i64, nanos: u32) -> Option<Self> {
        (FIRST_SECOND..=LAST_SECOND)
            .contains(&seconds)
            .then_some(Self { seconds, nanos })
    }

    /// RFC 3339, any offset, any fraction.
    pub fn parse(text: &str) -> Option<Self> {
        let (clock, rest) = text.split_at_checked(19)?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if clock.as_bytes()[10] != b'T' || !digits(&clock[..4]) || clock.get(17..)? > "59" {
            return None;
        }
        let civil: DateTime = clock.parse().ok()?;
        let (nanos, zone) = match rest.strip_prefix('.') {
            None => (0, rest),
            Some(after) => {
                let len = after.find(|c: char| !c.is_ascii_digit())?;
                let nine = format!("{:0<9}", &after[..len.min(9)]);
                (nine.parse().ok().filter(|_| len > 0)?, &after[len..])
            }
        };
        let offset = match zone {
            "Z" => 0,
            _ => {
                let (hours, minutes) = zone.get(1..)?.split_once(':')?;
                if hours.len() != 2 || minutes.len() != 2 || !digits(hours) || !digits(minutes) {
                    return None;
                }
                let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
                let seconds = hours * 3600 + minutes * 60;
                match zone.as_bytes()[0] {
                    _ if hours > 23 || minutes > 59 => return None,
                    b'+' => seconds,
                    b'-' => -seconds,
                    _ => return None,
                }
            }
        };
        Self::new(civil.duration_since(EPOCH).as_secs() - offset, nanos)
    }

    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    fn nanos(&self) -> i128 {
        i128::from(self.seconds) * NANOS + i128::from(self.nanos)
    }

    pub fn plus(&self, nanos: i64) -> Option<Self> {
        let nanos = self.nanos() + i128::from(nanos);
        let seconds = i64::try_from(nanos.div_euclid(NANOS)).ok()?;
        Self::new(seconds, nanos.rem_euclid(NANOS) as u32)
    }

    /// Nanoseconds from `other` to here.
    pub fn since(&self, other: &Self) -> Option<i64> {
        i64::try_from(self.nanos() - other.nanos()).ok()
    }

    /// What a clock shows that is so many seconds ahead of UTC.
    pub fn civil(&self, offset_seconds: i32) -> Option<DateTime> {
        let seconds = self.seconds + i64::from(offset_seconds);
        EPOCH.checked_add(SignedDuration::new(seconds, self.nanos as i32)).ok()
    }

    /// The nearest time that a time zone can be asked about.
    pub fn timestamp(&self) -> Timestamp {
        let nearest = if self.seconds < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        Timestamp::new(self.seconds, self.nanos as i32).unwrap_or(nearest)
    }
}

/// RFC 3339 in UTC, with as many digits of a second as it takes.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.civil(0) {
            Some(civil) => write!(f, "{civil}Z"),
            None => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_every_time_there_is() {
        for (text, back) in [
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
            ("9999-12-31T23:59:59-00:00", "9999-12-31T23:59:59Z"),
            ("2024-05-01T12:00:00.5+02:30", "2024-05-01T09:30:00.5Z"),
            ("1969-12-31T23:59:58.25Z", "1969-12-31T23:59:58.25Z"),
            ("2024-02-29T00:00:00.0123456789Z", "2024-02-29T00:00:00.012345678Z"),
        ] {
            let at = Instant::parse(text).expect(text);
            assert_eq!(at.to_string(), back);
            assert_eq!(Instant::parse(back), Some(at));
            assert_eq!(at.plus(0), Some(at));
        }
        for bad in [
            "",
            "2024-05-01",
            "2024-05-01T10:00:00",
            "2024-05-01 10:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-05-01T10:00:60Z",
            "2024-05-01T10:00:00.Z",
            "2024-05-01T10:00:00+2:00",
            "2024-05-01T10:00:00+24:00",
            "2024-05-01T10:00:00+0200",
            "0000-12-31T23:59:59Z",
            "9999-12-31T23:59:59-01:00",
            "2024-05-01T10:00:0üZ",
        ] {
            assert_eq!(Instant::parse(bad), None, "{bad}");
        }
        let last = Instant::parse("9999-12-31T23:59:59Z").expect("a time");
        assert_eq!(last.plus(NANOS as i64), None);
        assert_eq!(last.since(&last.plus(-1).expect("earlier")), Some(1));
    }
}
