//! How long a request may take before it is answered in its stead.

use crate::flow::is_long_running;
use crate::request::RequestInfo;
use skiff_api::ApiError;
use std::future::Future;
use std::task::Poll;
use std::time::Duration;

/// Upstream's `--request-timeout`; `timeout=` in the query asks for less.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The time that a request has; `None`: as long as the client wants.
pub(super) fn of(info: &RequestInfo, query: &str) -> Result<Option<Duration>, ApiError> {
    if is_long_running(info) {
        return Ok(None);
    }
    if !query.contains("timeout=") {
        return Ok(Some(REQUEST_TIMEOUT));
    }
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "timeout");
    let asked = match asked {
        Some((_, text)) if !text.is_empty() => go_duration(&text).ok_or_else(|| {
            ApiError::bad_request(format!(
                "invalid timeout specified in the request URL - time: invalid duration {text:?}"
            ))
        })?,
        _ => Duration::ZERO,
    };
    // Zero is none of one's own.
    Ok(Some(if asked.is_zero() {
        REQUEST_TIMEOUT
    } else {
        asked.min(REQUEST_TIMEOUT)
    }))
}

/// A duration as Go writes it: `1m30s`, `500ms`, `1.5h`; negative ones count as none.
fn go_duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    if negative {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Ends the work when its time is over. A timer is set up only for work that has to wait.
pub(super) async fn within<T, F>(limit: Option<Duration>, mut work: F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>> + Unpin,
{
    let Some(limit) = limit else { return work.await };
    let first = std::future::poll_fn(|cx| {
        Poll::Ready(match std::pin::Pin::new(&mut work).poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    });
    if let Some(done) = first.await {
        return done;
    }
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let text = "Timeout: request did not complete within the allotted timeout";
        Err(ApiError::new(504, "Timeout", text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::parse_info;

    #[test]
    fn durations() {
        let ms = |text: &str| go_duration(text).map(|d| d.as_millis());
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("1.5h"), Some(5_400_000));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("-3s"), Some(0));
        for bad in [
            "",
            "5",
            "s",
            "5x",
            "1s5",
            "..s",
            "1e999h",
            "99999999999999999999999999999999h",
        ] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_has_how_long() {
        let of = |path: &str, watch, query: &str| {
            let info = parse_info(&http::Method::GET, path, watch, None).unwrap();
            of(&info, query).map_err(|e| e.message)
        };
        let seconds = |s| Ok(Some(Duration::from_secs(s)));
        assert_eq!(of("/api/v1/pods", false, ""), seconds(60));
        assert_eq!(of("/api/v1/pods", false, "timeout=5s"), seconds(5));
        assert_eq!(of("/api/v1/pods", false, "timeout=2h"), seconds(60));
        assert_eq!(of("/api/v1/pods", false, "timeout=0s"), seconds(60));
        assert_eq!(of("/api/v1/pods", true, "timeout=5s"), Ok(None));
        assert_eq!(of("/api/v1/namespaces/a/pods/b/log", false, ""), Ok(None));
        assert!(
            of("/api/v1/pods", false, "timeout=soon")
                .unwrap_err()
                .starts_with("invalid timeout")
        );
    }

    #[tokio::test]
    async fn work_that_does_not_end_is_answered() {
        let endless = Box::pin(std::future::pending::<Result<(), ApiError>>());
        let error = within(Some(Duration::from_millis(1)), endless).await.unwrap_err();
        assert_eq!((error.code, &*error.reason), (504, "Timeout"));
        let quick = Box::pin(std::future::ready(Ok(7)));
        assert_eq!(within(Some(Duration::ZERO), quick).await.unwrap(), 7);
    }
}
