//! Time as the API writes it: RFC 3339 in UTC, whole seconds for `Time`, six
//! digits for `MicroTime`. Reading the clock is the caller's business.

use jiff::Timestamp;

/// Parses RFC 3339 (any offset, any fraction).
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    // Shorter than `2006-01-02T15:04:05Z`, or a laxer ISO 8601 shape that Go refuses.
    if bytes.len() < 20 || bytes[10] != b'T' || !bytes[..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.parse().ok()
}

/// `2006-01-02T15:04:05Z`.
pub fn format_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2006-01-02T15:04:05.000000Z`.
pub fn format_micro(at: Timestamp) -> String {
    format!(
        "{}.{:06}Z",
        at.strftime("%Y-%m-%dT%H:%M:%S"),
        at.subsec_nanosecond().max(0) / 1000
    )
}

/// Go's message for a text that is no time.
pub fn parse_error(text: &str, micro: bool) -> String {
    let layout = if micro {
        "2006-01-02T15:04:05.000000Z07:00"
    } else {
        "2006-01-02T15:04:05Z07:00"
    };
    let marks = [
        (4, "2006"),
        (5, "-"),
        (7, "01"),
        (8, "-"),
        (10, "02"),
        (11, "T"),
        (13, "15"),
        (14, ":"),
        (16, "04"),
        (17, ":"),
        (19, "05"),
    ];
    let bytes = text.as_bytes();
    let mut start = 0;
    for (end, want) in marks {
        let part = bytes.get(start..end);
        let fits = part.is_some_and(|p| {
            if want.len() == 1 {
                p == want.as_bytes()
            } else {
                p.iter().all(u8::is_ascii_digit)
            }
        });
        if !fits {
            let rest = String::from_utf8_lossy(&bytes[start..]);
            return format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {want:?}");
        }
        start = end;
    }
    let rest = String::from_utf8_lossy(&bytes[start..]);
    format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as \"Z07:00\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_in_utc() {
        for (text, seconds, micro) in [
            (
                "2024-05-01T10:00:00Z",
                "2024-05-01T10:00:00Z",
                "2024-05-01T10:00:00.000000Z",
            ),
            (
                "2024-05-01T12:00:00.123456789+02:00",
                "2024-05-01T10:00:00Z",
                "2024-05-01T10:00:00.123456Z",
            ),
            (
                "1969-12-31T23:59:58Z",
                "1969-12-31T23:59:58Z",
                "1969-12-31T23:59:58.000000Z",
            ),
        ] {
            let at = parse(text).expect(text);
            assert_eq!(format_seconds(at), seconds);
            assert_eq!(format_micro(at), micro);
        }
        for bad in [
            "",
            "yesterday",
            "2024-05-01",
            "2024-05-01 10:00:00Z",
            "2024-05-01T10:00:00",
            "2024-13-01T10:00:00Z",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert_eq!(
            parse_error("tomorrow", false),
            r#"parsing time "tomorrow" as "2006-01-02T15:04:05Z07:00": cannot parse "tomorrow" as "2006""#
        );
    }
}
