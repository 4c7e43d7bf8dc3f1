//! How long ago something was, in kubectl's short form: `45s`, `3m12s`, `5d`, `2y11d`.

use jiff::Timestamp;
use serde_json::Value;

/// The age of a metav1.Time text; `<unknown>` where there is none.
pub fn age(time: &Value, now: Timestamp) -> String {
    match time.as_str().and_then(|t| t.parse::<Timestamp>().ok()) {
        Some(then) => duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_string(),
    }
}

/// Upstream's `HumanDuration`: at most three significant characters or so.
pub(crate) fn duration(seconds: i64) -> String {
    // Clocks differ by a little between writers: just now.
    if seconds < -1 {
        return "<invalid>".to_string();
    }
    if seconds < 0 {
        return "0s".to_string();
    }
    if seconds < 120 {
        return format!("{seconds}s");
    }
    let minutes = seconds / 60;
    if minutes < 10 {
        return pair(minutes, 'm', seconds % 60, 's');
    }
    if minutes < 180 {
        return format!("{minutes}m");
    }
    let hours = minutes / 60;
    if hours < 8 {
        return pair(hours, 'h', minutes % 60, 'm');
    }
    if hours < 48 {
        return format!("{hours}h");
    }
    let days = hours / 24;
    if hours < 192 {
        return pair(days, 'd', hours % 24, 'h');
    }
    if days < 365 * 2 {
        return format!("{days}d");
    }
    let years = days / 365;
    if days < 365 * 8 {
        return pair(years, 'y', days % 365, 'd');
    }
    format!("{years}y")
}

fn pair(large: i64, large_unit: char, small: i64, small_unit: char) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}
