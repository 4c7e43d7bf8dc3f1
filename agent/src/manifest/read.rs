//! A manifest's text as the pod that the node runs. Pure.

use super::{HASH, SEEN, SOURCE};
use k8s_openapi::api::core::v1::{Container, Pod, Probe, Toleration};
use serde_json::Value;
use std::fmt::Write as _;

/// `path` and `node` make the pod's identity together with what the text says.
pub fn pod(text: &str, path: &str, node: &str, now: &str) -> Result<Pod, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err("it is no Pod of apiVersion v1".into());
    }
    let uid = hash(&format!("host:{node}\nfile:{path}\n{value}"));
    let mut pod: Pod = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let metadata = &mut pod.metadata;
    let name = metadata.name.take().filter(|n| !n.is_empty()).ok_or("it has no name")?;
    metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    metadata.namespace = metadata
        .namespace
        .take()
        .filter(|n| !n.is_empty())
        .or(Some("default".into()));
    metadata.uid = Some(uid.clone());
    (
        metadata.resource_version,
        metadata.deletion_timestamp,
        metadata.owner_references,
    ) = (None, None, None);
    let annotations = metadata.annotations.get_or_insert_default();
    for (name, value) in [(HASH, uid.as_str()), (SOURCE, "file"), (SEEN, now)] {
        annotations.insert(name.to_owned(), value.to_owned());
    }
    pod.status = None;
    let spec = pod.spec.as_mut().ok_or("it has no spec")?;
    if spec.containers.is_empty() {
        return Err("it has no containers".into());
    }
    spec.node_name = Some(node.to_owned());
    // The node's own pods are not driven from it.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    });
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.scheduler_name.get_or_insert_with(|| "default-scheduler".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    let host = spec.host_network == Some(true);
    let all = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in all {
        complete(container, host)?;
    }
    Ok(pod)
}

/// What the API server would have filled in.
fn complete(container: &mut Container, host: bool) -> Result<(), String> {
    if container.name.is_empty() || container.image.as_deref().is_none_or(str::is_empty) {
        return Err("a container has no name or no image".into());
    }
    let image = container.image.clone().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    let policy = if latest { "Always" } else { "IfNotPresent" };
    container.image_pull_policy.get_or_insert_with(|| policy.into());
    container
        .termination_message_path
        .get_or_insert_with(|| "/dev/termination-log".into());
    container
        .termination_message_policy
        .get_or_insert_with(|| "File".into());
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".into());
        if host && port.host_port.is_none() {
            port.host_port = Some(port.container_port);
        }
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    for probe in probes.into_iter().flatten() {
        periods(probe);
    }
    Ok(())
}

fn periods(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
}

/// 32 digits, as long as kubelet's.
fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut hex = String::new();
    for byte in &digest.as_ref()[..16] {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  hostNetwork: true\n  containers:\n  \
        - {name: a, image: 'r.io:5000/x', ports: [{containerPort: 80}]}\n  - {name: b, image: 'x:1'}\n";

    #[test]
    fn a_manifest_becomes_a_whole_pod() {
        let found = pod(TEXT, "/m/web.yaml", "Node1", "now").expect("valid");
        assert_eq!(
            crate::pod::spec::key(&found),
            ("default".to_owned(), "web-node1".to_owned())
        );
        let annotations = found.metadata.annotations.clone().expect("some");
        assert_eq!(annotations[HASH], crate::pod::spec::uid(&found));
        assert_eq!(
            (annotations[SOURCE].as_str(), annotations[SEEN].as_str()),
            ("file", "now")
        );
        assert!(super::super::is_static(&found));
        let spec = found.spec.expect("there");
        assert_eq!(spec.node_name.as_deref(), Some("Node1"));
        let policies: Vec<_> = spec
            .containers
            .iter()
            .filter_map(|c| c.image_pull_policy.as_deref())
            .collect();
        assert_eq!(policies, ["Always", "IfNotPresent"]);
        assert_eq!(spec.containers[0].ports.as_ref().expect("one")[0].host_port, Some(80));
    }

    #[test]
    fn another_text_is_another_pod_but_a_later_look_is_not() {
        let uid = |text: &str, path: &str, now: &str| pod(text, path, "n", now).expect("valid").metadata.uid;
        assert_eq!(uid(TEXT, "/a", "1"), uid(TEXT, "/a", "2"));
        assert_ne!(uid(TEXT, "/a", "1"), uid(TEXT, "/b", "1"));
        assert_ne!(uid(TEXT, "/a", "1"), uid(&TEXT.replace("x:1", "x:2"), "/a", "1"));
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for wrong in [
            "",
            "kind: Pod",
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}",
            "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: i}]}",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a}]}",
            "{{{",
        ] {
            assert!(pod(wrong, "/m", "n", "now").is_err(), "{wrong}");
        }
    }
}
