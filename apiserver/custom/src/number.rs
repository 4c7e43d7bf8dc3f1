//! Numbers as Go sees and prints them: whole ones are int64, all others float64.

use serde_json::Value;

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
