//! Numbers as Go sees and prints them: whole ones are int64, all others float64.

use serde_json::{Number, Value};

/// As `%v` prints a float64: the shortest text that reads back, with an exponent
/// where it is below -4 or above 20.
pub fn go_float(x: f64) -> String {
    if x == 0.0 {
        return "0".to_string();
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return format!("{x}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// A float64 that JSON Schema takes for an integer.
pub fn is_whole(x: f64) -> bool {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    x.is_finite() && x.abs() <= EXACT && x.fract() == 0.0
}

/// The numeric formats that are enforced, each for the type that it belongs to.
/// Source: the release notes of v1.36 (custom resources' int32, int64, float and double).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    Int32,
    Int64,
    Float,
    Double,
}

impl Width {
    pub fn of(kind: &str, format: &str) -> Option<Self> {
        Some(match (kind, format) {
            ("integer", "int32") => Self::Int32,
            ("integer", "int64") => Self::Int64,
            ("number", "float") => Self::Float,
            ("number", "double") => Self::Double,
            _ => return None,
        })
    }

    /// Type and format, as schemas name them.
    pub fn shown(self) -> (&'static str, &'static str) {
        match self {
            Self::Int32 => ("integer", "int32"),
            Self::Int64 => ("integer", "int64"),
            Self::Float => ("number", "float"),
            Self::Double => ("number", "double"),
        }
    }

    pub fn holds(self, n: &Number) -> bool {
        const INT64_END: f64 = 9_223_372_036_854_775_808.0;
        let real = n.as_f64().unwrap_or(f64::INFINITY);
        match (self, n.as_i64()) {
            (Self::Int32, Some(whole)) => i32::try_from(whole).is_ok(),
            (Self::Int64, Some(_)) => true,
            (Self::Int32, None) => real.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&real),
            // 2^63 itself is a float64, and no int64.
            (Self::Int64, None) => real.fract() == 0.0 && (-INT64_END..INT64_END).contains(&real),
            (Self::Float, _) => real.abs() <= f64::from(f32::MAX),
            (Self::Double, _) => real.is_finite(),
        }
    }
}

/// Equal as numbers, whatever they are written as; as Go compares enum values: an
/// int64 is converted to what the enum has.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x == y,
            _ => x.as_f64() == y.as_f64(),
        },
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_go() {
        let table = [
            (10.0, "10"),
            (0.5, "0.5"),
            (-3.25, "-3.25"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (1.5e300, "1.5e+300"),
        ];
        for (number, text) in table {
            assert_eq!(go_float(number), text);
        }
        assert!(is_whole(3.0) && !is_whole(3.5) && !is_whole(1e300));
    }
}
