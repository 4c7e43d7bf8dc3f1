//! Which options of lists and watches go together, as upstream's
//! `ValidateListOptions`; and the tokens that pages are continued with. Pure.

use super::fault::OptionKind;
use super::options::{QueryOptions, RvMatch};
use base64::Engine;
use serde_json::json;
use skiff_api::{ApiError, FieldError};

const MATCH: &str = "resourceVersionMatch";

impl QueryOptions {
    pub fn check_list(&self) -> Result<(), ApiError> {
        self.check(OptionKind::List)?;
        let mut errors = Vec::new();
        let mut forbid = |why: &str| errors.push(FieldError::forbidden(MATCH, why));
        if !self.match_text.is_empty() {
            if self.resource_version.is_empty() {
                forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !self.continue_token.is_empty() {
                forbid("resourceVersionMatch is forbidden when continue is provided");
            }
            if self.resource_version_match.is_none() {
                errors.push(self.unknown_match(&["Exact", "NotOlderThan", ""]));
            } else if self.resource_version_match == Some(RvMatch::Exact) && self.resource_version == "0" {
                forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
        }
        if self.send_initial_events.is_some() {
            errors.push(FieldError::forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        OptionKind::List.invalid(&errors)
    }

    pub fn check_watch(&self) -> Result<(), ApiError> {
        self.check(OptionKind::List)?;
        let mut errors = Vec::new();
        let fits = self.resource_version_match == Some(RvMatch::NotOlderThan);
        if self.send_initial_events.is_some() && !fits {
            errors.push(FieldError::forbidden(
                MATCH,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if !self.match_text.is_empty() {
            if self.send_initial_events.is_none() {
                errors.push(FieldError::forbidden(
                    MATCH,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            if !fits {
                errors.push(self.unknown_match(&["NotOlderThan"]));
            }
            if !self.continue_token.is_empty() {
                errors.push(FieldError::forbidden(
                    MATCH,
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
        }
        OptionKind::List.invalid(&errors)
    }

    fn unknown_match(&self, known: &[&str]) -> FieldError {
        FieldError::not_supported(MATCH, &self.match_text.as_str().into(), known)
    }
}

/// A resourceVersion that a client sent.
pub fn parse_revision(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}

/// What a continue token says: the revision of the first page and the last key
/// it showed, relative to the kind's prefix.
#[derive(Debug, PartialEq, Eq)]
pub struct Continue {
    /// `None`: the first page's revision is gone, go on with whatever is newest.
    pub revision: Option<u64>,
    pub after: String,
}

impl Continue {
    /// The form of upstream's tokens, which some clients look into.
    pub fn encode(&self) -> String {
        let revision = self.revision.and_then(|r| i64::try_from(r).ok()).unwrap_or(-1);
        let text = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": format!("{}\0", self.after)}).to_string();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    }

    pub fn decode(text: &str) -> Result<Self, ApiError> {
        let bad = |why: &str| {
            let colon = if why.is_empty() { "" } else { ": " };
            ApiError::bad_request(format!("invalid continue token: continue key is not valid{colon}{why}"))
        };
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) => at,
                    _ => text.len() - text.len() % 4,
                };
                bad(&format!("illegal base64 data at input byte {at}"))
            })?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
        if value["v"] != "meta.k8s.io/v1" {
            let version = value["v"].as_str().unwrap_or("");
            return Err(bad(&format!(
                "server does not recognize this encoded version {version:?}"
            )));
        }
        let revision = match value["rv"].as_i64() {
            None | Some(0) => {
                return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
            }
            Some(revision) => u64::try_from(revision).ok(),
        };
        let start = value["start"].as_str().unwrap_or("");
        if start.is_empty() {
            return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
        }
        if start.starts_with('/') || start.split('/').any(|part| part == "..") {
            return Err(bad(start));
        }
        Ok(Self {
            revision,
            after: start.strip_suffix('\0').unwrap_or(start).to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens_survive_and_garbage_is_refused() {
        for revision in [Some(7), None] {
            let token = Continue {
                revision,
                after: "default/a".into(),
            };
            assert_eq!(Continue::decode(&token.encode()).unwrap(), token);
        }
        let token = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let cases = [
            ("a!".to_string(), "illegal base64 data at input byte 1"),
            ("x".to_string(), "illegal base64 data at input byte 0"),
            (
                token(r#"{"v":"v9","rv":1,"start":"a"}"#),
                "server does not recognize this encoded version \"v9\"",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
                "encoded start key empty (version meta.k8s.io/v1)",
            ),
            (token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../a"}"#), "../a"),
        ];
        for (text, why) in cases {
            let error = Continue::decode(&text).unwrap_err();
            let want = format!("invalid continue token: continue key is not valid: {why}");
            assert_eq!((error.code, error.message), (400, want), "{text}");
        }
    }
}
