//! Resource quantities (`500m`, `1Gi`, `12e6`): parsing, the canonical form that
//! the API server writes, comparison and arithmetic.
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
/// Upstream caps binary amounts at the largest int64.
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;
/// It does not cap others; ours end here, far from what arithmetic could overflow.
const MAX: i128 = 10i128.pow(37);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// An exact amount in billionths, and the family of suffixes it was written with.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

impl Quantity {
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    pub fn from_units(units: i64) -> Self {
        Self {
            nanos: i128::from(units) * NANO,
            format: Format::DecimalSi,
        }
    }

    pub fn from_millis(millis: i64) -> Self {
        Self {
            nanos: i128::from(millis) * (NANO / 1000),
            format: Format::DecimalSi,
        }
    }

    /// A number of bytes, shown with `Ki`, `Mi`, ...
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            nanos: i128::from(bytes) * NANO,
            format: Format::BinarySi,
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded up (away from zero), as upstream's `Value()`.
    pub fn value(&self) -> i64 {
        clamp(round_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up, as upstream's `MilliValue()`.
    pub fn milli_value(&self) -> i64 {
        clamp(round_up(self.nanos, NANO / 1000))
    }

    /// The nearest double, as upstream's `AsApproximateFloat64()`.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }
}

/// A zero takes over the other's format, as upstream does.
impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + Self {
            nanos: -other.nanos,
            ..other
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let split = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(split);
        // No digits at all are a zero to upstream.
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || !suffix_is_shaped(suffix) {
            return Err(QuantityError::Format);
        }
        let (scale, format) = parse_suffix(suffix).ok_or(QuantityError::Suffix)?;
        let most = if format == Format::BinarySi { BINARY_MAX } else { MAX };
        let nanos = scaled(whole, fraction, scale).min(most);
        let format = if format == Format::BinarySi && nanos > 0 && nanos < NANO {
            Format::DecimalSi
        } else {
            format
        };
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// `[eEinumkKMGTP]*[-+]?[0-9]*`
fn suffix_is_shaped(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    rest.bytes().all(|b| b.is_ascii_digit())
}

#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

fn parse_suffix(suffix: &str) -> Option<(Scale, Format)> {
    if let Some(at) = DECIMAL.iter().position(|s| *s == suffix) {
        return Some((Scale::Ten(at as i32 * 3 - 9), Format::DecimalSi));
    }
    if let Some(at) = BINARY.iter().position(|s| *s == suffix) {
        return Some((Scale::Two((at as u32 + 1) * 10), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    Some((Scale::Ten(exponent.clamp(-1000, 1000)), Format::DecimalExponent))
}

/// Suffixes of 10^-9, 10^-6, ...
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Suffixes of 2^10, 2^20, ...
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The amount in nanos, rounded up where finer, saturating far above [`MAX`].
fn scaled(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() && fraction.is_empty() {
        return 0;
    }
    let power = match scale {
        Scale::Ten(e) => e + 9,
        Scale::Two(_) => 9,
    };
    // The decimal point moves `power` places to the right; what is left of it is kept, the rest rounds up.
    // Powers of two are applied before the cut, so that 0.1Ki keeps its fraction.
    let extra = match scale {
        Scale::Two(bits) => bits,
        Scale::Ten(_) => 0,
    };
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    let point = whole.len() as i64 + i64::from(power);
    let mut left: i128 = 0;
    let mut remainder_digits: &[u8] = &[];
    for i in 0..point.max(0) {
        let digit = digits.get(i as usize).copied().unwrap_or(0);
        left = left.saturating_mul(10).saturating_add(i128::from(digit));
        if left > MAX {
            return MAX;
        }
    }
    if point < digits.len() as i64 {
        remainder_digits = &digits[point.max(0) as usize..];
    }
    // Fraction of one nano, times 2^extra: to 18 digits is more than enough to round up right,
    // because anything beyond is only "more than zero".
    let mut part: i128 = 0;
    let mut base: i128 = 1;
    let leading_zeros = (-point).clamp(0, 18) as usize;
    for digit in std::iter::repeat_n(0u8, leading_zeros)
        .chain(remainder_digits.iter().copied())
        .take(18)
    {
        part = part * 10 + i128::from(digit);
        base *= 10;
    }
    let beyond = remainder_digits
        .iter()
        .skip(18usize.saturating_sub(leading_zeros))
        .any(|d| *d != 0);
    if extra > 0 {
        let high = left.saturating_mul(1i128 << extra);
        let low_total = part << extra.min(60);
        let low = low_total / base + i128::from(low_total % base != 0 || beyond);
        high.saturating_add(low)
    } else {
        left + i128::from(part != 0 || beyond)
    }
}

fn round_up(nanos: i128, unit: i128) -> i128 {
    let (quotient, remainder) = (nanos / unit, nanos % unit);
    quotient + remainder.signum()
}

fn clamp(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// The canonical text.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.nanos.unsigned_abs();
        let sign = if self.nanos < 0 { "-" } else { "" };
        let binary = self.format == Format::BinarySi
            && magnitude >= 1024 * NANO as u128
            && magnitude.is_multiple_of(NANO as u128);
        if binary {
            let mut units = magnitude / NANO as u128;
            let mut step = 0;
            while step < BINARY.len() && units.is_multiple_of(1024) {
                units /= 1024;
                step += 1;
            }
            let suffix = if step == 0 { "" } else { BINARY[step - 1] };
            return write!(f, "{sign}{units}{suffix}");
        }
        if magnitude == 0 {
            return f.write_str("0");
        }
        let mut units = magnitude;
        let mut step = 0;
        while step + 1 < DECIMAL.len() && units.is_multiple_of(1000) {
            units /= 1000;
            step += 1;
        }
        match self.format {
            Format::DecimalExponent => {
                let exponent = step as i32 * 3 - 9;
                if exponent == 0 {
                    write!(f, "{sign}{units}")
                } else {
                    write!(f, "{sign}{units}e{exponent}")
                }
            }
            _ => write!(f, "{sign}{units}{}", DECIMAL[step]),
        }
    }
}

/// The canonical form of a quantity's text.
pub fn canonical(text: &str) -> Result<String, QuantityError> {
    let text = text.trim();
    let quantity = text.parse::<Quantity>()?;
    let canonical = quantity.to_string();
    // Upstream keeps a text that differs from its form only by a plus sign, leading zeros,
    // a point with nothing behind it, or the size of the `e`.
    Ok(if !quantity.is_zero() && plainer(text) == canonical {
        text.to_string()
    } else {
        canonical
    })
}

fn plainer(text: &str) -> String {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let rest = rest.trim_start_matches('0');
    let split = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(split);
    let number = number.strip_suffix('.').unwrap_or(number);
    match suffix
        .strip_prefix('E')
        .filter(|exponent| !exponent.is_empty() && *exponent != "i")
    {
        Some(exponent) => format!("{sign}{number}e{exponent}"),
        None if suffix == "e0" => format!("{sign}{number}"),
        None => format!("{sign}{number}{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonicalises_as_upstream() {
        for (text, want) in [
            ("0", "0"),
            ("0m", "0"),
            ("0Ki", "0"),
            ("1000m", "1"),
            ("1", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("0.5Gi", "512Mi"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("1Gi", "1Gi"),
            ("1000", "1k"),
            ("100", "100"),
            ("1023Ki", "1023Ki"),
            ("1Ki", "1Ki"),
            ("512", "512"),
            ("0.1Ki", "102400m"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("1e-3", "1e-3"),
            ("100k", "100k"),
            ("1.1", "1100m"),
            ("-1500m", "-1500m"),
            ("+3", "+3"),
            ("00012", "00012"),
            ("001Ki", "001Ki"),
            ("001024Ki", "1Mi"),
            ("m", "0"),
            ("+0", "0"),
            ("100E", "100E"),
            ("1e19", "10e18"),
            ("10E3", "10E3"),
            ("1e0", "1e0"),
            ("1E1", "10"),
            (".5", "500m"),
            ("5.", "5."),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("1u", "1u"),
            ("9223372036854775807", "9223372036854775807"),
            ("9999999999999999999999999999", "9999999999999999999999999999"),
            ("1000000Mi", "1000000Mi"),
            ("2048Mi", "2Gi"),
            ("100000000", "100M"),
            ("0.25", "250m"),
            ("1E3", "1E3"),
            ("1.000000001", "1000000001n"),
            ("-0", "0"),
            ("16Ei", "9223372036854775807"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn refuses_with_upstreams_words() {
        for (text, want) in [
            ("", QuantityError::Format),
            ("x", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1GiB", QuantityError::Format),
            ("1.1.1", QuantityError::Format),
            ("--1", QuantityError::Suffix),
            ("1Kk", QuantityError::Suffix),
            ("1i", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>().map(|q| q.to_string()), Err(want), "{text}");
        }
    }

    #[test]
    fn compares_and_adds() {
        let q = |t: &str| t.parse::<Quantity>().expect(t);
        assert!(q("1Gi") > q("1G") && q("1000m") == q("1") && q("999m") < q("1"));
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((q("0") + q("512Mi")).to_string(), "512Mi");
        assert_eq!((q("1") - q("250m")).to_string(), "750m");
        assert_eq!(
            (q("100m").value(), q("100m").milli_value(), q("1Gi").value()),
            (1, 100, 1 << 30)
        );
        assert_eq!((q("-100m").value(), q("1n").milli_value()), (-1, 1));
    }
}

/// Random amounts against exact arithmetic on integers.
#[cfg(test)]
mod oracle {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn milli_amounts_are_exact(a in -1_000_000_000_000i64..1_000_000_000_000, b in -1_000_000_000_000i64..1_000_000_000_000) {
            let (x, y) = (format!("{a}m").parse::<Quantity>().expect("a"), format!("{b}m").parse::<Quantity>().expect("b"));
            prop_assert_eq!((x + y).milli_value(), a + b);
            prop_assert_eq!((x - y).milli_value(), a - b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.to_string().parse::<Quantity>().expect("canonical").milli_value(), a);
        }

        #[test]
        fn canonical_form_is_a_fixed_point_and_keeps_the_amount(
            whole in 0u64..100_000, fraction in 0u32..1000, digits in 0usize..4, suffix in 0usize..19,
        ) {
            let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-2", "e0"];
            let text = if digits == 0 { format!("{whole}{}", suffixes[suffix]) } else { format!("{whole}.{fraction:0digits$}{}", suffixes[suffix]) };
            let parsed: Quantity = text.parse().expect("valid");
            let shown = parsed.to_string();
            prop_assert_eq!(canonical(&shown), Ok(shown.clone()), "{}", text);
            prop_assert_eq!(shown.parse::<Quantity>(), Ok(parsed), "{}", text);
        }

        #[test]
        fn any_text_is_a_quantity_or_an_error(text in "[-+0-9.eEinumkKMGTP]{0,40}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
