//! Durations as people type them: `90s`, `30m`, `24h`, `7d`, `1h30m`, `0`.

use anyhow::{Result, bail};
use std::time::Duration;

pub fn parse(text: &str) -> Result<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0u64;
    let mut digits = String::new();
    let mut units = 0;
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        let seconds = match character {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => bail!("{text:?} is no duration; write 90s, 30m, 24h or 7d"),
        };
        let Some(part) = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(seconds)) else {
            bail!("{text:?} is no duration; write 90s, 30m, 24h or 7d");
        };
        total = total.saturating_add(part);
        digits.clear();
        units += 1;
    }
    if units == 0 || !digits.is_empty() {
        bail!("{text:?} is no duration; write 90s, 30m, 24h or 7d");
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        let seconds = |text| parse(text).expect("a duration").as_secs();
        assert_eq!(
            [seconds("0"), seconds("90s"), seconds("1h30m"), seconds("7d")],
            [0, 90, 5_400, 604_800]
        );
        for wrong in ["", "5", "5x", "m", "h5", "-1h", "99999999999999999999h"] {
            assert!(parse(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
