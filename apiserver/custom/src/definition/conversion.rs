//! How objects get from one version to another: not at all, or through a webhook.

use crate::check::json::Json;
use crate::path::Path;
use serde_json::Value;
use skiff_api::{FieldError, names};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const STRATEGIES: [&str; 2] = ["None", "Webhook"];

pub(super) fn check(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(conversion) = spec.node("conversion") else {
        return;
    };
    let strategy = conversion.text("strategy");
    if strategy.is_empty() {
        errors.push(FieldError::required(path.of("strategy").field(), ""));
    } else if !STRATEGIES.contains(&strategy) {
        let at = path.of("strategy").field();
        errors.push(FieldError::not_supported(at, &strategy.into(), &STRATEGIES));
    }
    let webhook = &conversion["webhook"];
    let client = webhook.node("clientConfig");
    let client_path = path.of("webhookClientConfig");
    let versions_path = path.of("conversionReviewVersions");
    let versions = webhook.items("conversionReviewVersions");
    if strategy != "Webhook" {
        const WHY: &str = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(FieldError::forbidden(client_path.field(), WHY));
        }
        if !versions.is_empty() {
            errors.push(FieldError::forbidden(versions_path.field(), WHY));
        }
        return;
    }
    match client {
        None => errors.push(FieldError::required(
            client_path.field(),
            "required when strategy is set to Webhook",
        )),
        Some(client) => client_config(client, &client_path, errors),
    }
    let before = old.map_or(&[][..], |old| {
        old["conversion"]["webhook"].items("conversionReviewVersions")
    });
    let recognised = before.is_empty() || before.iter().any(is_review_version);
    review_versions(versions, recognised, &versions_path, errors);
}

fn is_review_version(version: &Value) -> bool {
    version.as_str().is_some_and(|v| REVIEW_VERSIONS.contains(&v))
}

fn review_versions(versions: &[Value], recognised: bool, path: &Path, errors: &mut Vec<FieldError>) {
    if versions.is_empty() {
        return errors.push(FieldError::required(path.field(), ""));
    }
    for (i, version) in versions.iter().enumerate() {
        if versions[..i].contains(version) {
            errors.push(FieldError::invalid(path.at(i).field(), version, "duplicate version"));
            continue;
        }
        for why in names::dns1035_label(version.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(path.at(i).field(), version, &why));
        }
    }
    if recognised && !versions.iter().any(is_review_version) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(FieldError::invalid(path.field(), &versions.to_vec().into(), &why));
    }
}

/// Where a webhook is: a URL, or a service.
fn client_config(client: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if client.has("url") == client.has("service") {
        return errors.push(FieldError::required(
            path.field(),
            "exactly one of url or service is required",
        ));
    }
    if client.has("url") {
        url(client.text("url"), &path.of("url"), errors);
        return;
    }
    let (service, path) = (&client["service"], path.of("service"));
    let required = |key: &str, what: &str, errors: &mut Vec<FieldError>| {
        if service.text(key).is_empty() {
            errors.push(FieldError::required(path.of(key).field(), what));
        }
    };
    required("name", "service name is required", errors);
    required("namespace", "service namespace is required", errors);
    if let Some(port) = service.get("port").and_then(Value::as_i64)
        && !(1..=65535).contains(&port)
    {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(path.of("port").field(), &port.into(), why));
    }
    if let Some(text) = service.get("path").and_then(Value::as_str) {
        service_path(text, &path.of("path"), errors);
    }
}

fn service_path(text: &str, at: &Path, errors: &mut Vec<FieldError>) {
    let mut invalid = |why: &str| errors.push(FieldError::invalid(at.field(), &text.into(), why));
    match text {
        "/" => {}
        text if !text.starts_with('/') => invalid("must start with a '/'"),
        "//" => invalid("segment[0] may not be empty"),
        text => {
            let steps: Vec<&str> = text[1..].trim_end_matches('/').split('/').collect();
            for (i, step) in steps.iter().enumerate() {
                if step.is_empty() {
                    invalid(&format!("segment[{i}] may not be empty"));
                    continue;
                }
                for why in names::dns1123_subdomain(step) {
                    invalid(&format!("segment[{i}]: {why}"));
                }
            }
        }
    }
}

fn url(text: &str, at: &Path, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    if !crate::format::is("uri", text) && !text.is_empty() {
        let why = format!("url must be a valid URL: parse {text:?}: invalid URI for request{FORM}");
        return errors.push(FieldError::required(at.field(), &why));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (before_fragment, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (before_query, query) = before_fragment.split_once('?').unwrap_or((before_fragment, ""));
    let authority = before_query.split('/').next().unwrap_or_default();
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(u, h)| (Some(u), h));
    let mut invalid = |value: &str, why: &str| errors.push(FieldError::invalid(at.field(), &value.into(), why));
    if scheme != "https" {
        invalid(scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if scheme.is_empty() || host.is_empty() {
        invalid("", &format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        invalid(user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        invalid(fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        invalid(query, "query parameters are not permitted in the URL");
    }
}
