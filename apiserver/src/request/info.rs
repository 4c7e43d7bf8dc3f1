//! The path of a request, as upstream's RequestInfo reads it
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris>).

use http::Method;

/// What a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    /// `get`, `list`, `watch`, ... for resources, the lower-case method otherwise.
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// The name is part of the path, not of a field selector.
    pub named: bool,
    /// The path asks for a watch in the old way: `/api/v1/watch/pods`.
    pub watch_path: bool,
    /// Path behind the subresource (`.../proxy/<rest>`), without the leading slash.
    pub rest: String,
    pub path: String,
}

/// Longest path that is looked at; longer ones have nothing to name.
const PATH_BYTES_MAX: usize = 8 * 1024;

/// Subresources of a namespace; everything else behind its name is a resource in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// Reads a request's path. `watch` says that the query asks for a watch, and
/// `name_selected` is the name that a field selector fixes, if any. `None`:
/// the path cannot be read (too long, bad percent-encoding).
pub fn parse_info(method: &Method, path: &str, watch: bool, name_selected: Option<&str>) -> Option<RequestInfo> {
    if path.len() > PATH_BYTES_MAX {
        return None;
    }
    let mut info = RequestInfo {
        verb: lower_method(method),
        path: path.to_string(),
        ..RequestInfo::default()
    };
    let mut parts = Vec::new();
    for part in path.split('/').filter(|p| !p.is_empty()) {
        parts.push(
            percent_encoding::percent_decode_str(part)
                .decode_utf8()
                .ok()?
                .into_owned(),
        );
    }
    let skip = match parts.first().map(String::as_str) {
        Some("api") if parts.len() >= 3 => {
            info.version = parts[1].clone();
            2
        }
        Some("apis") if parts.len() >= 4 => {
            info.group = parts[1].clone();
            info.version = parts[2].clone();
            3
        }
        _ => return Some(info),
    };
    let rest_raw = nth_rest(path, skip);
    let mut parts = &parts[skip..];
    let mut consumed = 0;
    info.is_resource = true;
    let mut verb = resource_verb(method);
    if parts[0] == "watch" && parts.len() > 1 {
        info.watch_path = true;
        verb = "watch";
        parts = &parts[1..];
        consumed += 1;
    }
    if parts[0] == "namespaces" && parts.len() > 1 {
        info.namespace = parts[1].clone();
        if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_str()) {
            parts = &parts[2..];
            consumed += 2;
        }
    }
    info.resource = parts[0].clone();
    if parts.len() > 1 {
        info.name = parts[1].clone();
        info.named = true;
    }
    if parts.len() > 2 {
        info.subresource = parts[2].clone();
    }
    if parts.len() > 3 {
        info.rest = nth_rest(rest_raw, consumed + 3).to_string();
    }
    // Names are parts of keys and of rules: a slash in one would be another place.
    if info.name.contains('/') || info.namespace.contains('/') {
        return None;
    }
    if info.name.is_empty() {
        verb = match verb {
            "get" if watch => "watch",
            "get" => "list",
            "delete" => "deletecollection",
            other => other,
        };
        if let (Some(name), "list" | "watch" | "deletecollection") = (name_selected, verb)
            && bad_segment(name).is_none()
        {
            info.name = name.to_string();
        }
    }
    info.verb = verb;
    Some(info)
}

/// Why this cannot be a name in a path, in upstream's words.
pub fn bad_segment(name: &str) -> Option<String> {
    if matches!(name, "." | "..") {
        return Some(format!("may not be '{name}'"));
    }
    let bad: Vec<String> = ['/', '%']
        .iter()
        .filter(|c| name.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect();
    (!bad.is_empty()).then(|| bad.join(";"))
}

/// The path behind its first `n` segments, undecoded.
fn nth_rest(path: &str, n: usize) -> &str {
    let mut rest = path;
    for _ in 0..n {
        rest = rest.trim_start_matches('/');
        rest = rest.find('/').map_or("", |i| &rest[i..]);
    }
    rest.strip_prefix('/').unwrap_or(rest)
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn lower_method(method: &Method) -> &'static str {
    match *method {
        Method::POST => "post",
        Method::GET => "get",
        Method::HEAD => "head",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cases = [
            ("GET", "/api/v1/pods", false, "list  v1 pods . . "),
            ("GET", "/api/v1/namespaces/a/pods", true, "watch  v1 pods a . "),
            ("GET", "/api/v1/namespaces/a/pods/x", false, "get  v1 pods a x "),
            ("GET", "/api/v1/namespaces/a/pods/x/log", false, "get  v1 pods a x log"),
            (
                "PUT",
                "/api/v1/namespaces/a/status",
                false,
                "update  v1 namespaces a a status",
            ),
            ("PUT", "/api/v1/namespaces/a", false, "update  v1 namespaces a a "),
            ("GET", "/api/v1/namespaces", false, "list  v1 namespaces . . "),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/b/deployments",
                false,
                "deletecollection apps v1 deployments b . ",
            ),
            (
                "POST",
                "/apis/apps/v1/namespaces/b/deployments",
                false,
                "create apps v1 deployments b . ",
            ),
            ("GET", "/api/v1/watch/namespaces/a/pods", false, "watch  v1 pods a . "),
            ("GET", "/api/v1/watch/namespaces/a/pods/p", false, "watch  v1 pods a p "),
            ("GET", "/api/v1/watch/namespaces/a", false, "watch  v1 namespaces a a "),
            // Only a collection is watched by the query.
            ("GET", "/api/v1/namespaces/a/pods/p", true, "get  v1 pods a p "),
        ];
        for (method, path, watch, want) in cases {
            let i = parse_info(&method.parse().unwrap(), path, watch, None).unwrap();
            let dot = |s: &str| if s.is_empty() { ".".to_string() } else { s.to_string() };
            let got = format!(
                "{} {} {} {} {} {} {}",
                i.verb,
                i.group,
                i.version,
                i.resource,
                dot(&i.namespace),
                dot(&i.name),
                i.subresource
            );
            assert_eq!(got, want, "{method} {path}");
        }
        assert!(
            !parse_info(&Method::GET, "/apis/apps/v1", false, None)
                .unwrap()
                .is_resource
        );
        assert!(!parse_info(&Method::GET, "/api/v1", false, None).unwrap().is_resource);
        assert_eq!(
            parse_info(&Method::GET, "/api/v1/namespaces/a/pods/x/proxy/q/%20r/", false, None)
                .unwrap()
                .rest,
            "q/%20r/"
        );
        assert!(parse_info(&Method::GET, "/api/v1/namespaces/a%2Fb/pods", false, None).is_none());
        assert!(parse_info(&Method::GET, "/api/v1/namespaces/%ff/pods", false, None).is_none());
    }
}
