//! Which paths and methods exist, as upstream's router has them: what is no path
//! is 404, what is no method of a path 405, before any handler looks. Pure.

use crate::request::RequestInfo;
use http::Method;
use skiff_api::ApiError;
use skiff_api::patch::PatchType;
use skiff_kinds::{Kind, Subresource};

/// What the router says of a request for a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    Yes,
    /// No path of the group version.
    NoPath,
    /// The path has other methods.
    NoMethod,
}

/// Whether the path and the method are served for this kind.
pub(super) fn served(kind: &Kind, sub: Option<&Subresource>, info: &RequestInfo, method: &Method) -> Served {
    let in_namespace = !info.namespace.is_empty();
    let is_namespaces = kind.group.is_empty() && kind.plural == "namespaces";
    if !kind.namespaced && in_namespace && !is_namespaces {
        return Served::NoPath;
    }
    let has = |verb: &str| kind.verbs.contains(&verb);
    // A collection across namespaces is only read.
    let across = kind.namespaced && !in_namespace;
    if across && (info.named || !has("list")) {
        return Served::NoPath;
    }
    if let Some(sub) = sub {
        return subresource(sub, info, method);
    }
    if info.watch_path {
        return allowed(has("watch"), &[(method == Method::GET, true)]);
    }
    if info.named {
        let exists = ["get", "update", "patch", "delete"].iter().any(|verb| has(verb));
        return allowed(
            exists,
            &[
                (method == Method::GET, has("get")),
                (method == Method::PUT, has("update")),
                (method == Method::PATCH, has("patch")),
                (method == Method::DELETE, has("delete")),
            ],
        );
    }
    allowed(
        true,
        &[
            (method == Method::GET, has("list")),
            (method == Method::POST, has("create") && !across),
            (method == Method::DELETE, has("deletecollection") && !across),
        ],
    )
}

fn subresource(sub: &Subresource, info: &RequestInfo, method: &Method) -> Served {
    let proxied = sub.name == "proxy";
    if info.watch_path || (!info.rest.is_empty() && !proxied) {
        return Served::NoPath;
    }
    let has = |verb: &str| sub.verbs.contains(&verb);
    allowed(
        true,
        &[
            (method == Method::GET, has("get")),
            (method == Method::PUT, has("update")),
            (method == Method::PATCH, has("patch")),
            (method == Method::POST, has("create")),
            (method == Method::DELETE, has("delete")),
            // What is proxied may know methods that the API does not.
            (proxied, true),
        ],
    )
}

fn allowed(path: bool, methods: &[(bool, bool)]) -> Served {
    if !path {
        Served::NoPath
    } else if methods.iter().any(|(asked, has)| *asked && *has) {
        Served::Yes
    } else {
        Served::NoMethod
    }
}

/// Media types of objects, and of lists also those of watches.
const OBJECTS: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const WATCHES: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// What the router says of the media types of a built-in resource, in its own words;
/// what they ask for in detail is the handler's to see.
pub(super) fn media_types(info: &RequestInfo, accept: &str, content_type: &str) -> Result<(), ApiError> {
    let refused = |code, reason, text: String| {
        let mut error = ApiError::new(code, reason, text);
        error.details = Some(serde_json::json!({}));
        Err(error)
    };
    if info.verb == "patch" && PatchType::of_media_type(content_type).is_none() {
        return refused(415, "UnsupportedMediaType", "415: Unsupported Media Type".into());
    }
    let range = |clause: &str| clause.split(';').next().unwrap_or("").trim().to_string();
    let served = |range: &str| range == "*/*" || range == "application/*" || OBJECTS.contains(&range);
    if accept.trim().is_empty() || accept.split(',').any(|clause| served(&range(clause))) {
        return Ok(());
    }
    let mut known = OBJECTS.to_vec();
    if matches!(info.verb, "list" | "watch") {
        known.extend(WATCHES);
    }
    let text = format!("406: Not Acceptable\n\nAvailable representations: {}", known.join(", "));
    refused(406, "NotAcceptable", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::parse_info;

    #[test]
    fn paths_and_methods_are_those_of_upstream() {
        use Served::{NoMethod, NoPath, Yes};
        let cases = [
            ("GET /api/v1/pods", Yes),
            ("POST /api/v1/pods", NoMethod),
            ("DELETE /api/v1/pods", NoMethod),
            ("GET /api/v1/pods/x", NoPath),
            ("POST /api/v1/namespaces/a/pods", Yes),
            ("DELETE /api/v1/namespaces/a/pods", Yes),
            ("PUT /api/v1/namespaces/a/pods", NoMethod),
            ("HEAD /api/v1/namespaces/a/pods", NoMethod),
            ("POST /api/v1/namespaces/a/pods/x", NoMethod),
            ("OPTIONS /api/v1/namespaces/a/pods/x", NoMethod),
            ("PATCH /api/v1/namespaces/a/pods/x/status", Yes),
            ("POST /api/v1/namespaces/a/pods/x/status", NoMethod),
            ("GET /api/v1/namespaces/a/pods/x/status/more", NoPath),
            ("OPTIONS /api/v1/namespaces/a/pods/x/proxy/more", Yes),
            ("GET /api/v1/watch/namespaces/a/pods/x", Yes),
            ("POST /api/v1/watch/namespaces/a/pods", NoMethod),
            ("GET /api/v1/namespaces/a/nodes", NoPath),
            ("GET /api/v1/namespaces/a", Yes),
            ("DELETE /api/v1/namespaces", NoMethod),
            ("PUT /api/v1/namespaces/a/finalize", Yes),
            ("GET /api/v1/namespaces/a/bindings", NoMethod),
            ("POST /api/v1/bindings", NoPath),
            ("GET /apis/authorization.k8s.io/v1/subjectaccessreviews", NoMethod),
            ("GET /apis/authorization.k8s.io/v1/subjectaccessreviews/x", NoPath),
        ];
        for (line, want) in cases {
            let (method, path) = line.split_once(' ').unwrap();
            let method: Method = method.parse().unwrap();
            let info = parse_info(&method, path, false, None).unwrap();
            let kind = skiff_kinds::find(&info.group, &info.resource).unwrap();
            let sub = kind.subresources.iter().find(|s| s.name == info.subresource);
            assert_eq!(served(kind, sub, &info, &method), want, "{line}");
        }
    }
}
