//! Kubernetes' quantities: read as thousandths, written as upstream's canonical form.

/// The value in thousandths, rounded up; `None` when it is no quantity.
pub fn milli(quantity: &str) -> Option<i128> {
    let digits = quantity
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(digits);
    let (scale_up, scale_down): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
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
            let ten = 10_i128.checked_pow(power.unsigned_abs())?;
            if power >= 0 { (ten, 1) } else { (1, ten) }
        }
    };
    let negative = number.starts_with('-');
    let unsigned = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Nine places are Kubernetes' precision.
    let fraction = &fraction[..fraction.len().min(9)];
    let places = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let numerator = whole
        .checked_mul(places)?
        .checked_add(part)?
        .checked_mul(scale_up)?
        .checked_mul(1_000)?;
    let divisor = places.checked_mul(scale_down)?;
    let value = numerator / divisor + i128::from(numerator % divisor != 0);
    Some(if negative { -value } else { value })
}

/// Thousandths as a whole number, rounded up.
pub fn of_milli(milli: i128) -> i64 {
    let up = milli.div_euclid(1_000) + i128::from(milli.rem_euclid(1_000) != 0);
    i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
}

/// Bytes with the largest power of 1024 that divides them, as `64Mi`.
pub fn binary(bytes: i64) -> String {
    let mut value = bytes;
    let mut suffix = "";
    for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if value == 0 || value % 1_024 != 0 {
            break;
        }
        value /= 1_024;
        suffix = next;
    }
    format!("{value}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("1", Some(1_000)),
            ("100m", Some(100)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("1e3", Some(1_000_000)),
            ("2E", Some(2_000_000_000_000_000_000_000)),
            ("1n", Some(1)),
            ("-1", Some(-1_000)),
            ("", None),
            ("x", None),
            ("1x", None),
            ("0.5e-38", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
        assert_eq!((of_milli(1), of_milli(-1_500), of_milli(i128::MAX)), (1, -1, i64::MAX));
    }

    #[test]
    fn canonical_forms() {
        for (bytes, expected) in [
            (0, "0"),
            (1_000, "1000"),
            (1_024, "1Ki"),
            (67_108_864, "64Mi"),
            (1_079_296, "1054Ki"),
        ] {
            assert_eq!(binary(bytes), expected);
        }
    }
}
