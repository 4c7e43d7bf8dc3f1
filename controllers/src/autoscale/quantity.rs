//! Quantities as metrics and sizes need them: thousandths, read and written, and whole units. Pure.

/// In thousandths, rounded up; `None` where the text is no quantity or does not fit.
pub fn milli(text: &str) -> Option<i64> {
    i64::try_from(of_units(text, 1_000)?).ok()
}

/// In units, rounded up; `None` where the text is no quantity.
pub fn whole(text: &str) -> Option<i128> {
    of_units(text, 1)
}

/// In parts of which `parts` are one, rounded up.
fn of_units(text: &str, parts: i128) -> Option<i128> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    // One of the suffix as numerator and denominator.
    let (up, down): (i128, i128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            match power {
                up @ 0..=21 => (10_i128.checked_pow(up.unsigned_abs())?, 1),
                down @ -27..0 => (1, 10_i128.checked_pow(down.unsigned_abs())?),
                _ => return None,
            }
        }
    };
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 12 {
        return None;
    }
    let places = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let numerator = mantissa.checked_mul(up)?.checked_mul(parts)?.checked_mul(sign)?;
    let denominator = places.checked_mul(down)?;
    Some(numerator.div_euclid(denominator) + i128::from(numerator.rem_euclid(denominator) != 0))
}

/// The shortest decimal form, as Kubernetes writes it.
pub fn text(milli: i64) -> String {
    if milli % 1_000 != 0 {
        return format!("{milli}m");
    }
    let mut whole = milli / 1_000;
    let mut suffixes = ["", "k", "M", "G", "T", "P", "E"].into_iter();
    let mut suffix = suffixes.next().unwrap_or_default();
    while whole != 0 && whole % 1_000 == 0 {
        let Some(next) = suffixes.next() else { break };
        (whole, suffix) = (whole / 1_000, next);
    }
    format!("{whole}{suffix}")
}

/// A span of time as Go writes it (`1m30.5s`), in nanoseconds.
pub fn duration_ns(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
        total += number * factor;
        rest = &rest[unit..];
    }
    // Far below what an i64 holds: no window is longer than years.
    (total < 1e18).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read() {
        for (text, expected) in [
            ("0", Some(0)),
            ("100m", Some(100)),
            ("1", Some(1_000)),
            ("1.5", Some(1_500)),
            ("2k", Some(2_000_000)),
            ("1Ki", Some(1_024_000)),
            ("123456789n", Some(124)),
            ("1n", Some(1)),
            ("-500m", Some(-500)),
            ("1e3", Some(1_000_000)),
            ("1E", None),
            ("", None),
            ("x", None),
            ("1x", None),
            ("1e99", None),
            ("99999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
    }

    #[test]
    fn quantities_are_written() {
        for (value, expected) in [
            (0, "0"),
            (250, "250m"),
            (2_000, "2"),
            (1_000_000, "1k"),
            (52_428_800_000, "52428800"),
            (50_000_000_000, "50M"),
            (-500, "-500m"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn spans_are_read() {
        for (text, expected) in [
            ("15s", Some(15_000_000_000)),
            ("1m30.5s", Some(90_500_000_000)),
            ("20.123s", Some(20_123_000_000)),
            ("1h0m0s", Some(3_600_000_000_000)),
            ("5", None),
            ("5d", None),
        ] {
            assert_eq!(duration_ns(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in any::<i64>()) {
            prop_assert_eq!(milli(&text(value)), Some(value));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = (milli(&text), duration_ns(&text));
        }
    }
}
