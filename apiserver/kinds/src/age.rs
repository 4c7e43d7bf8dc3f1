//! How long ago something was, in kubectl's short form: `45s`, `3m12s`, `5d`, `2y11d`.

use jiff::Timestamp;
use serde_json::Value;
pub(crate) use skiff_api::duration::human as duration;

/// The age of a metav1.Time text; `<unknown>` where there is none.
pub fn age(time: &Value, now: Timestamp) -> String {
    match time.as_str().and_then(|t| t.parse::<Timestamp>().ok()) {
        Some(then) => duration(now.as_second() - then.as_second()),
        None => "<unknown>".to_string(),
    }
}
