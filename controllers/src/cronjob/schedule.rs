//! Cron schedules: parsing them, and the instants they mean in a time zone. Pure.
//!
//! An instant belongs to a schedule when the wall clock then reads a matching minute. So a time that a change
//! to summer time leaves out does not happen, and one that comes twice happens twice.

use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A schedule that matches no day within this time (30 February) matches never.
const DAYS_MAX: usize = 5 * 366;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// `@every 5m`: at a distance from the time before.
    Every(SignedDuration),
}

/// One bit per value that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Where both days are restricted, either may match.
    any_day: bool,
    any_weekday: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn number(text: &str, names: &[&str], first: u32) -> Result<u32, Invalid> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = names.iter().position(|name| *name == lower) {
        return Ok(first + u32::try_from(index).unwrap_or(0));
    }
    text.parse()
        .map_err(|_| Invalid(format!("failed to parse int from {text}")))
}

/// The bits of one field, and whether it leaves the value open (`*`).
fn field(text: &str, min: u32, max: u32, names: &[&str]) -> Result<(u64, bool), Invalid> {
    let (mut bits, mut open) = (0, false);
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step, &[], 0)?)),
            None => (part, None),
        };
        let (from, to) = if range == "*" || range == "?" {
            open |= step.is_none_or(|step| step == 1);
            (min, max)
        } else if let Some((from, to)) = range.split_once('-') {
            (number(from, names, min)?, number(to, names, min)?)
        } else {
            let from = number(range, names, min)?;
            (from, if step.is_some() { max } else { from })
        };
        if from < min || to > max || from > to {
            return Err(Invalid(format!("{part}: not a range from {min} to {max}")));
        }
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(Invalid(format!("step of range should be a positive number: {part}")));
        }
        for value in (from..=to).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            bits |= 1 << value;
        }
    }
    Ok((bits, open))
}

/// `1h30m`, as Go writes durations.
fn duration(text: &str) -> Option<SignedDuration> {
    let mut total = 0.0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += value
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    // Rounded down to seconds; at least one.
    SignedDuration::try_from_secs_f64(total.floor().max(1.0)).ok()
}

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if let Some(every) = text.strip_prefix("@every ") {
            let every = duration(every.trim());
            return every
                .map(Self::Every)
                .ok_or_else(|| Invalid(format!("failed to parse duration {text}")));
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts[..] else {
            return Err(Invalid(format!(
                "expected exactly 5 fields, found {}: {text}",
                parts.len()
            )));
        };
        let (days, any_day) = field(days, 1, 31, &[])?;
        let (weekdays, any_weekday) = field(weekdays, 0, 7, &WEEKDAYS)?;
        Ok(Self::Fields(Fields {
            minutes: field(minutes, 0, 59, &[])?.0,
            hours: field(hours, 0, 23, &[])?.0,
            days,
            months: field(months, 1, 12, &MONTHS)?.0,
            // Sunday is 0 and 7.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            any_day,
            any_weekday,
        }))
    }

    /// The first instant after `after`.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(every) => Timestamp::from_second(after.as_second()).ok()?.checked_add(*every).ok(),
            Self::Fields(fields) => {
                let first = after.to_zoned(zone.clone()).date();
                let days = first.series(jiff::Span::new().days(1)).take(DAYS_MAX);
                let mut days = days.filter(|date| fields.has_date(*date));
                days.find_map(|date| fields.instants(date, zone).find(|at| *at > after))
            }
        }
    }

    /// The last instant after `after` and not after `until`.
    pub fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(every) => {
                let step = every.as_secs().max(1);
                let count = (until.as_second() - after.as_second()) / step;
                (count > 0).then(|| Timestamp::from_second(after.as_second() + count * step).ok())?
            }
            Self::Fields(fields) => {
                let (first, last) = (after.to_zoned(zone.clone()).date(), until.to_zoned(zone.clone()).date());
                let days = last.series(jiff::Span::new().days(-1)).take(DAYS_MAX);
                let days = days.take_while(|date| *date >= first);
                let mut days = days.filter(|date| fields.has_date(*date));
                days.find_map(|date| {
                    fields
                        .instants(date, zone)
                        .filter(|at| *at > after && *at <= until)
                        .max()
                })
            }
        }
    }
}

fn bits(mask: u64) -> impl Iterator<Item = i8> + Clone {
    (0..63i8).filter(move |bit| mask >> bit & 1 == 1)
}

impl Fields {
    fn has_date(&self, date: Date) -> bool {
        let has = |mask: u64, value: i8| mask >> value & 1 == 1;
        let weekday = match date.weekday() {
            Weekday::Sunday => 0,
            other => other.to_monday_one_offset(),
        };
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, weekday));
        let day_fits = if self.any_day || self.any_weekday {
            day && weekday
        } else {
            day || weekday
        };
        has(self.months, date.month()) && day_fits
    }

    /// The day's instants, in the order of the wall clock.
    fn instants<'a>(&'a self, date: Date, zone: &'a TimeZone) -> impl Iterator<Item = Timestamp> + 'a {
        let times = bits(self.hours).flat_map(|hour| bits(self.minutes).map(move |minute| (hour, minute)));
        let mut all: Vec<Timestamp> = times
            .filter_map(|(hour, minute)| Time::new(hour, minute, 0, 0).ok())
            .flat_map(|time| {
                let at = DateTime::from_parts(date, time);
                let offsets = match zone.to_ambiguous_timestamp(at).offset() {
                    AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
                    AmbiguousOffset::Gap { .. } => [None, None],
                    AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
                };
                offsets
                    .into_iter()
                    .flatten()
                    .filter_map(move |offset| offset.to_timestamp(at).ok())
            })
            .collect();
        all.sort_unstable();
        all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let zone = TimeZone::get(zone).expect("a zone");
        schedule
            .next(at(after), &zone)
            .map_or("never".to_string(), |at| at.to_string())
    }

    #[test]
    fn next_times() {
        for (schedule, after, expected) in [
            ("*/15 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
            ("*/15 * * * *", "2026-01-01T00:59:59Z", "2026-01-01T01:00:00Z"),
            ("0 3 * * mon-fri", "2026-01-02T03:00:00Z", "2026-01-05T03:00:00Z"),
            ("0 0 29 2 ?", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 30 feb *", "2026-01-01T00:00:00Z", "never"),
            // Either day matches where both are restricted.
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 13 * 5", "2026-01-10T00:00:00Z", "2026-01-13T00:00:00Z"),
            ("5/20 1 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T01:05:00Z"),
            ("@hourly", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule} after {after}");
        }
        assert_eq!(
            next("30 9 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin"),
            "2026-07-01T07:30:00Z"
        );
        // 02:30 does not exist on 29 March 2026, and exists twice on 25 October.
        assert_eq!(
            next("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin"),
            "2026-03-30T00:30:00Z"
        );
        assert_eq!(
            next("30 2 * * *", "2026-10-25T00:30:00Z", "Europe/Berlin"),
            "2026-10-25T01:30:00Z"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "x * * * *",
            "@every x",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn last_is_the_last_of_all_next(start in 0i64..4_000_000_000, length in 0i64..100_000,
            schedule in prop::sample::select(vec!["*/7 * * * *", "15 3,9 * * 1", "@daily", "@every 11m", "0 0 1 * *"])) {
            let schedule = Schedule::parse(schedule).expect("a schedule");
            let (after, until) = (Timestamp::from_second(start).expect("a time"), Timestamp::from_second(start + length).expect("a time"));
            let zone = TimeZone::get("Europe/Berlin").expect("a zone");
            let mut expected = None;
            let mut from = after;
            while let Some(at) = schedule.next(from, &zone).filter(|at| *at <= until) {
                prop_assert!(at > from);
                expected = Some(at);
                from = at;
            }
            prop_assert_eq!(schedule.last(after, until, &zone), expected);
        }
    }
}
