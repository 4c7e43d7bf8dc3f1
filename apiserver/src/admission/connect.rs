//! CONNECT: exec, attach, port-forward and proxying are admitted by their
//! options, which are the query of the request. Pure but for the asking.

use super::Asked;
use crate::handler::{ServerCall, Target};
use crate::server::ApiServer;
use serde_json::{Value, json};
use skiff_access::{Admitted, Operation};
use skiff_kinds::Subresource;
use url::form_urlencoded;

impl ApiServer {
    pub(crate) async fn admit_connection(&self, call: &ServerCall, target: &Target, sub: &Subresource) -> Admitted {
        let objects = self.objects(self.read_snapshot("").await?);
        let gvk = (sub.group, sub.version, sub.kind);
        let mut options = options_of(sub.kind, &call.query, &call.info.rest);
        let asked = Asked {
            operation: Operation::Connect,
            user: &call.user,
            kind: &target.kind,
            version: target.version,
            subresource: sub.name,
            body: Some(gvk),
            namespace: &call.info.namespace,
            name: &call.info.name,
            dry_run: false,
            options: &Value::Null,
        };
        // There is no header to warn in: the connection is the answer.
        self.admit(&asked, &mut options, None, &objects, &mut Vec::new()).await
    }
}

/// `PodExecOptions` and the like, as the query says.
fn options_of(kind: &str, query: &str, path: &str) -> Value {
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    if kind.ends_with("ProxyOptions") {
        if !path.is_empty() {
            options["path"] = path.into();
        }
        return options;
    }
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "stdin" | "stdout" | "stderr" | "tty" => {
                if matches!(value.as_ref(), "" | "1" | "t" | "T" | "true" | "TRUE" | "True") {
                    options[key.as_ref()] = true.into();
                }
            }
            "container" => options["container"] = value.as_ref().into(),
            "command" => push(&mut options, "command", value.as_ref().into()),
            "ports" => {
                for port in value.split(',').filter_map(|port| port.parse::<u16>().ok()) {
                    push(&mut options, "ports", port.into());
                }
            }
            _ => {}
        }
    }
    options
}

fn push(options: &mut Value, key: &str, value: Value) {
    match options[key].as_array_mut() {
        Some(list) => list.push(value),
        None => options[key] = json!([value]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_query() {
        assert_eq!(
            options_of(
                "PodExecOptions",
                "command=sh&command=-c&stdin=true&tty=false&container=c",
                ""
            ),
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh", "-c"], "stdin": true, "container": "c"})
        );
        assert_eq!(
            options_of("PodPortForwardOptions", "ports=80,x,443", ""),
            json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80, 443]})
        );
        assert_eq!(
            options_of("ServiceProxyOptions", "stdin=1", "a/b"),
            json!({"kind": "ServiceProxyOptions", "apiVersion": "v1", "path": "a/b"})
        );
    }
}
