//! `IntOrString` values: a number, or a percentage or name in a string.

use crate::Value;

/// The number, or the percentage of `total` (rounded up or down), as Deployments
/// and disruption budgets use them.
pub fn scaled(value: &Value, total: i64, round_up: bool) -> Result<i64, String> {
    if let Some(n) = value.as_i64() {
        return Ok(n);
    }
    let text = value.as_str().unwrap_or_default();
    let percent: i64 = text
        .strip_suffix('%')
        .ok_or("invalid type: string is not a percentage")?
        .parse()
        .map_err(|_| format!("invalid value {text:?}: not a percentage"))?;
    let product = percent.saturating_mul(total);
    Ok(if round_up {
        product.saturating_add(99).div_euclid(100)
    } else {
        product.div_euclid(100)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales() {
        for (value, total, up, want) in [
            (Value::from(3), 10, true, Ok(3)),
            ("25%".into(), 10, true, Ok(3)),
            ("25%".into(), 10, false, Ok(2)),
            ("0%".into(), 10, true, Ok(0)),
            ("100%".into(), 7, false, Ok(7)),
            (
                "5".into(),
                7,
                false,
                Err("invalid type: string is not a percentage".to_string()),
            ),
        ] {
            assert_eq!(scaled(&value, total, up), want);
        }
    }
}
