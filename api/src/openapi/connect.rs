//! Subresources that lead to something running: exec, attach, port forwarding, proxies.

use super::names::{camel, operation_id, scoped};
use super::operations::{ANYTHING, Operation, Parameter};
use super::{Resource, Subresource};
use serde_json::json;

pub(super) const LOG: [Parameter; 9] = [
    ("container", "string"),
    ("follow", "boolean"),
    ("insecureSkipTLSVerifyBackend", "boolean"),
    ("limitBytes", "integer"),
    ("previous", "boolean"),
    ("sinceSeconds", "integer"),
    ("stream", "string"),
    ("tailLines", "integer"),
    ("timestamps", "boolean"),
];
pub(super) const LOG_ANSWERS: [&str; 4] = [
    "text/plain",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const ATTACH: [Parameter; 5] = [
    ("container", "string"),
    ("stderr", "boolean"),
    ("stdin", "boolean"),
    ("stdout", "boolean"),
    ("tty", "boolean"),
];
const EXEC: [Parameter; 6] = [
    ("command", "string"),
    ATTACH[0],
    ATTACH[1],
    ATTACH[2],
    ATTACH[3],
    ATTACH[4],
];
const FORWARD: [Parameter; 1] = [("ports", "integer")];
const PROXY: [Parameter; 1] = [("path", "string")];
const STREAM_METHODS: [&str; 2] = ["get", "post"];
const PROXY_METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

type ByTail<'a> = Vec<(&'static str, Vec<Operation<'a>>)>;

/// The operations at the subresource, and for a proxy below it; `None` for what is no
/// connection.
pub(super) fn operations<'a>(
    resource: &'a Resource,
    sub: &'a Subresource,
) -> Option<(ByTail<'a>, &'static [Parameter])> {
    let (shared, options): (&[Parameter], &str) = match sub.name.as_str() {
        "attach" => (&ATTACH, "PodAttachOptions"),
        "exec" => (&EXEC, "PodExecOptions"),
        "portforward" => (&FORWARD, "PodPortForwardOptions"),
        "proxy" => (&PROXY, ""),
        _ => return None,
    };
    let proxy = sub.name == "proxy";
    let options = match (options, resource.kind.as_str()) {
        ("", "Node") => "NodeProxyOptions",
        ("", "Service") => "ServiceProxyOptions",
        ("", _) => "PodProxyOptions",
        (options, _) => options,
    };
    let connects = |tail: &str| {
        let methods: &[&'static str] = if proxy { &PROXY_METHODS } else { &STREAM_METHODS };
        let made = methods.iter().map(|method| {
            let what = format!("{}{}{tail}", resource.kind, camel(&sub.name, true));
            Operation {
                method,
                id: operation_id(resource, "connect", &camel(method, true), &scoped(resource, &what)),
                action: "connect",
                description: format!(
                    "connect {} requests to {} of {}",
                    method.to_uppercase(),
                    sub.name,
                    resource.kind
                ),
                query: Vec::new(),
                body: None,
                answer: json!({"type": "string"}),
                answers: &ANYTHING,
                codes: &[200],
                gvk: Some(["", "v1", options]),
            }
        });
        made.collect::<Vec<_>>()
    };
    let mut found = vec![("", connects(""))];
    if proxy {
        found.push(("/{path}", connects("WithPath")));
    }
    Some((found, shared))
}
