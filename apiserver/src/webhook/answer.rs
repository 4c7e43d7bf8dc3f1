//! What an error that a webhook's server answered with means, in the words of
//! Kubernetes' client. Pure.

use serde_json::Value;

/// As much of a body as is shown.
const SHOWN_BYTES_MAX: usize = 2048;

/// The text of the error that a response other than 2xx stands for.
pub(super) fn refusal(code: u16, body: &[u8]) -> String {
    if let Ok(status) = serde_json::from_slice::<Value>(body)
        && status["kind"] == "Status"
        && status["apiVersion"] == "v1"
        && let Some(message) = status["message"].as_str().filter(|m| !m.is_empty())
    {
        return message.to_string();
    }
    let text = match code {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        403 => return or_shown(body, "forbidden"),
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        406 => {
            return or_shown(
                body,
                "the server was unable to respond with a content type that the client supports",
            );
        }
        409 => "the server reported a conflict",
        413 => {
            return or_shown(
                body,
                "the server responded with the status code 413 but did not return more information",
            );
        }
        415 => {
            return or_shown(
                body,
                "the server was unable to respond with a content type that the client supports",
            );
        }
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        500.. => {
            return format!(
                "an error on the server ({:?}) has prevented the request from succeeding",
                or_shown(body, "unknown")
            );
        }
        code => return format!("the server responded with the status code {code} but did not return more information"),
    };
    text.to_string()
}

fn or_shown(body: &[u8], otherwise: &str) -> String {
    let cut = &body[..body.len().min(SHOWN_BYTES_MAX)];
    let text = String::from_utf8_lossy(cut);
    let text = text.trim();
    if text.is_empty() {
        otherwise.to_string()
    } else {
        text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_in_the_words_of_the_client() {
        let cases: [(u16, &str, &str); 6] = [
            (
                404,
                "404 page not found",
                "the server could not find the requested resource",
            ),
            (
                500,
                "boom\n",
                "an error on the server (\"boom\") has prevented the request from succeeding",
            ),
            (
                502,
                "",
                "an error on the server (\"unknown\") has prevented the request from succeeding",
            ),
            (403, "no", "no"),
            (
                302,
                "",
                "the server responded with the status code 302 but did not return more information",
            ),
            (409, r#"{"kind":"Status","apiVersion":"v1","message":"mine"}"#, "mine"),
        ];
        for (code, body, want) in cases {
            assert_eq!(refusal(code, body.as_bytes()), want, "{code}");
        }
    }
}
