//! Which options a log may be asked for with, in upstream's words. Pure.

use jiff::Timestamp;
use serde_json::json;
use skiff_api::{ApiError, FieldError};
use url::form_urlencoded;

/// Refuses what no log can be cut by, before anybody asks whether the pod is there.
pub(super) fn check(pod: &str, query: &str) -> Result<(), ApiError> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let first = |name: &str| pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let number = |name: &str| first(name).map(go_integer).transpose();
    let (seconds, lines, bytes) = (number("sinceSeconds")?, number("tailLines")?, number("limitBytes")?);
    let time = first("sinceTime").filter(|text| !text.is_empty());
    if let Some(text) = time
        && text.parse::<Timestamp>().is_err()
    {
        return Err(ApiError::bad_request(format!(
            "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
        )));
    }
    let mut errors = Vec::new();
    if let Some(lines) = lines.filter(|n| *n < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("tailLines", &json!(lines), why));
    }
    if let Some(bytes) = bytes.filter(|n| *n < 1) {
        errors.push(FieldError::invalid(
            "limitBytes",
            &json!(bytes),
            "must be greater than 0",
        ));
    }
    match (seconds, time) {
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(
            "",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        )),
        (Some(seconds), None) if seconds < 1 => errors.push(FieldError::invalid(
            "sinceSeconds",
            &json!(seconds),
            "must be greater than 0",
        )),
        _ => {}
    }
    if let Some(stream) = first("stream").filter(|text| !text.is_empty()) {
        const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];
        if !STREAMS.contains(&stream) {
            errors.push(FieldError::not_supported("stream", &json!(stream), &STREAMS));
        }
        if stream != "All" && lines.is_some() {
            let why = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.push(FieldError::forbidden("", why));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("", "PodLogOptions", pod, &errors))
    }
}

fn go_integer(text: &str) -> Result<i64, ApiError> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_logs() {
        const INVALID: &str = "PodLogOptions \"p\" is invalid: ";
        for (query, code, message) in [
            ("tailLines=0&limitBytes=1&sinceSeconds=1&follow=x&other=y", 0, ""),
            ("sinceTime=2020-01-01T00:00:00Z&stream=All&tailLines=3", 0, ""),
            ("stream=Stderr", 0, ""),
            ("sinceTime=", 0, ""),
            ("tailLines=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("tailLines=", 400, "strconv.ParseInt: parsing \"\": invalid syntax"),
            (
                "limitBytes=9223372036854775808",
                400,
                "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
            ),
            (
                "sinceTime=bad",
                400,
                "parsing time \"bad\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"bad\" as \"2006\"",
            ),
            (
                "tailLines=-1",
                422,
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "limitBytes=0",
                422,
                "limitBytes: Invalid value: 0: must be greater than 0",
            ),
            (
                "sinceSeconds=0",
                422,
                "sinceSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                "sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z",
                422,
                ": Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            (
                "stream=Bad",
                422,
                "stream: Unsupported value: \"Bad\": supported values: \"All\", \"Stderr\", \"Stdout\"",
            ),
            (
                "stream=Stdout&tailLines=1",
                422,
                ": Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
            ),
        ] {
            let found = check("p", query).map_or_else(|e| (e.code, e.message), |()| (0, String::new()));
            let expected = if code == 422 {
                format!("{INVALID}{message}")
            } else {
                message.to_owned()
            };
            assert_eq!(found, (code, expected), "{query}");
        }
    }
}
