//! The Node authorizer: a node reads what its pods refer to, and writes what is
//! its own. Pure over the objects at one revision; the edges node -> pod ->
//! secret, config map, claim, volume, ... are followed on demand.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/node/>.

use super::rules::Rule;
use crate::contract::{Attributes, Objects, UserInfo};
use crate::tree::{items, text};
use serde_json::Value;
use std::sync::Arc;

pub const USER_PREFIX: &str = "system:node:";
pub const GROUP: &str = "system:nodes";

/// The node whose agent this user is.
pub fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(USER_PREFIX)?;
    (!name.is_empty() && user.groups.iter().any(|group| group == GROUP)).then_some(name)
}

/// `Err`: no opinion, with the reason.
pub fn authorize(node: &str, a: &Attributes, objects: &dyn Objects, rules: &[Rule]) -> Result<(), String> {
    let read = matches!(a.verb, "get" | "list" | "watch");
    match (a.group, a.resource) {
        _ if !a.path.is_empty() => {}
        ("", "secrets" | "configmaps") => {
            if !read {
                return Err("can only read resources of this type".into());
            }
            return related(node, a, objects);
        }
        ("", "persistentvolumeclaims") => {
            match a.subresource {
                "" if a.verb == "get" => {}
                "status" if matches!(a.verb, "get" | "update" | "patch") => {}
                _ => return Err("can only get individual resources of this type, and update their status".into()),
            }
            return related(node, a, objects);
        }
        ("", "persistentvolumes") | ("storage.k8s.io", "volumeattachments") => {
            if a.verb != "get" || !a.subresource.is_empty() {
                return Err("can only get individual resources of this type".into());
            }
            return related(node, a, objects);
        }
        ("resource.k8s.io", "resourceclaims") => {
            if a.verb != "get" || !a.subresource.is_empty() {
                return Err("can only get individual resources of this type".into());
            }
            return related(node, a, objects);
        }
        ("", "serviceaccounts") if a.subresource == "token" => {
            if a.verb != "create" {
                return Err("can only create tokens for individual service accounts".into());
            }
            return related(node, a, objects);
        }
        ("", "serviceaccounts") => {
            if a.verb != "get" || !a.subresource.is_empty() {
                return Err("can only get individual resources of this type".into());
            }
            return related(node, a, objects);
        }
        ("", "pods") if read => return read_pods(node, a, objects),
        ("", "nodes") if read && a.subresource.is_empty() => return read_nodes(node, a),
        ("coordination.k8s.io", "leases") => return own_lease(node, a),
        ("storage.k8s.io", "csinodes") => {
            if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
                return Err("can only get, create, update, patch, or delete a CSINode".into());
            }
            if !a.subresource.is_empty() {
                return Err("cannot authorize CSINode subresources".into());
            }
            // A create carries no name: NodeRestriction looks at the object.
            if a.verb != "create" && a.name != node {
                return Err(format!(
                    "can only access CSINode with the same name as the requesting node, {node}"
                ));
            }
            return Ok(());
        }
        ("resource.k8s.io", "resourceslices") => return resource_slices(node, a, objects),
        _ => {}
    }
    if rules.iter().any(|rule| rule.allows(a)) {
        Ok(())
    } else {
        Err(String::new())
    }
}

fn read_pods(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    if !a.subresource.is_empty() {
        return Err(format!("node '{node}' cannot read pods/{}", a.subresource));
    }
    if a.verb == "get" {
        return match objects.get("", "pods", a.namespace, a.name) {
            // A pod that does not exist is the server's to say: the agent must be
            // able to learn that its pod is gone.
            None => Ok(()),
            Some(pod) if text(&pod, "/spec/nodeName") == node => Ok(()),
            Some(_) => Err(unrelated(node)),
        };
    }
    if field_equals(a.field_selector, "spec.nodeName") == Some(node) {
        Ok(())
    } else {
        Err("can only list/watch pods with spec.nodeName field selector".into())
    }
}

fn read_nodes(node: &str, a: &Attributes) -> Result<(), String> {
    let name = if a.name.is_empty() {
        field_equals(a.field_selector, "metadata.name")
    } else {
        Some(a.name)
    };
    match name {
        Some(name) if name == node => Ok(()),
        Some(name) => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
        None => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
    }
}

fn own_lease(node: &str, a: &Attributes) -> Result<(), String> {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a node lease".into());
    }
    if a.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    if a.verb != "create" && a.name != node {
        return Err(format!(
            "can only access node lease with the same name as the requesting node, {node}"
        ));
    }
    Ok(())
}

fn resource_slices(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    if !a.subresource.is_empty() {
        return Err("cannot authorize ResourceSlice subresources".into());
    }
    let own = |slice: &Value| text(slice, "/spec/nodeName") == node;
    match a.verb {
        // NodeRestriction looks at the new object.
        "create" => Ok(()),
        "get" | "update" | "patch" | "delete" => match objects.get(a.group, a.resource, "", a.name) {
            Some(slice) if own(&slice) => Ok(()),
            _ => Err(unrelated(node)),
        },
        "list" | "watch" | "deletecollection" if field_equals(a.field_selector, "spec.nodeName") == Some(node) => {
            Ok(())
        }
        _ => Err("can only access ResourceSlices with spec.nodeName field selector".into()),
    }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// Whether some pod of the node leads to the object asked for.
fn related(node: &str, a: &Attributes, objects: &dyn Objects) -> Result<(), String> {
    let name = if a.name.is_empty() {
        field_equals(a.field_selector, "metadata.name")
    } else {
        Some(a.name)
    };
    let Some(name) = name else {
        return Err("no Object name found".into());
    };
    let found = match a.resource {
        "secrets" => {
            own_pods(node, a.namespace, objects).any(|pod| refers_to(&pod, name, &SECRET_REFERENCES))
                || secret_of_a_volume(node, a.namespace, name, objects)
        }
        "configmaps" => {
            own_pods(node, a.namespace, objects).any(|pod| refers_to(&pod, name, &CONFIG_MAP_REFERENCES))
                || uses_config_source(node, a.namespace, name, objects)
        }
        "persistentvolumeclaims" => own_pods(node, a.namespace, objects).any(|pod| uses_claim(&pod, name)),
        "serviceaccounts" => {
            own_pods(node, a.namespace, objects).any(|pod| text(&pod, "/spec/serviceAccountName") == name)
        }
        "resourceclaims" => own_pods(node, a.namespace, objects).any(|pod| uses_resource_claim(&pod, name)),
        "persistentvolumes" => volume_is_used(node, name, objects),
        "volumeattachments" => objects
            .get(a.group, a.resource, "", name)
            .is_some_and(|attachment| text(&attachment, "/spec/nodeName") == node),
        _ => false,
    };
    if found { Ok(()) } else { Err(unrelated(node)) }
}

fn own_pods(node: &str, namespace: &str, objects: &dyn Objects) -> impl Iterator<Item = Arc<Value>> {
    // A cluster-wide read of a namespaced object has no namespace: no pod leads there.
    let pods = if namespace.is_empty() {
        Vec::new()
    } else {
        objects.list("", "pods", namespace)
    };
    pods.into_iter().filter(move |pod| text(pod, "/spec/nodeName") == node)
}

/// Where a pod names objects of one kind.
struct References {
    /// Under each container.
    env_value: &'static str,
    env_from: &'static str,
    /// Under each volume: pointer to the name.
    volume: &'static [&'static str],
    /// Under each source of a projected volume.
    projected: &'static str,
    image_pull: bool,
}

const SECRET_REFERENCES: References = References {
    env_value: "/valueFrom/secretKeyRef/name",
    env_from: "/secretRef/name",
    volume: &[
        "/secret/secretName",
        "/csi/nodePublishSecretRef/name",
        "/flexVolume/secretRef/name",
        "/iscsi/secretRef/name",
        "/rbd/secretRef/name",
        "/cephfs/secretRef/name",
        "/azureFile/secretName",
        "/scaleIO/secretRef/name",
        "/storageos/secretRef/name",
    ],
    projected: "/secret/name",
    image_pull: true,
};

const CONFIG_MAP_REFERENCES: References = References {
    env_value: "/valueFrom/configMapKeyRef/name",
    env_from: "/configMapRef/name",
    volume: &["/configMap/name"],
    projected: "/configMap/name",
    image_pull: false,
};

fn refers_to(pod: &Value, name: &str, references: &References) -> bool {
    let containers = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
    let in_containers = containers.iter().flat_map(|list| items(pod, list)).any(|container| {
        items(container, "/env")
            .iter()
            .any(|env| text(env, references.env_value) == name)
            || items(container, "/envFrom")
                .iter()
                .any(|source| text(source, references.env_from) == name)
    });
    in_containers
        || items(pod, "/spec/volumes").iter().any(|volume| {
            references.volume.iter().any(|pointer| text(volume, pointer) == name)
                || items(volume, "/projected/sources")
                    .iter()
                    .any(|source| text(source, references.projected) == name)
        })
        || (references.image_pull
            && items(pod, "/spec/imagePullSecrets")
                .iter()
                .any(|secret| text(secret, "/name") == name))
}

fn uses_config_source(node: &str, namespace: &str, name: &str, objects: &dyn Objects) -> bool {
    objects.get("", "nodes", "", node).is_some_and(|node| {
        text(&node, "/spec/configSource/configMap/name") == name
            && text(&node, "/spec/configSource/configMap/namespace") == namespace
    })
}

/// By name, or by the generated name of an ephemeral volume's claim.
fn uses_claim(pod: &Value, claim: &str) -> bool {
    items(pod, "/spec/volumes").iter().any(|volume| {
        text(volume, "/persistentVolumeClaim/claimName") == claim
            || (volume.get("ephemeral").is_some()
                && claim
                    .strip_prefix(text(pod, "/metadata/name"))
                    .and_then(|rest| rest.strip_prefix('-'))
                    == Some(text(volume, "/name")))
    })
}

fn uses_resource_claim(pod: &Value, claim: &str) -> bool {
    items(pod, "/spec/resourceClaims")
        .iter()
        .any(|used| text(used, "/resourceClaimName") == claim)
        || items(pod, "/status/resourceClaimStatuses")
            .iter()
            .any(|used| text(used, "/resourceClaimName") == claim)
        || text(pod, "/status/extendedResourceClaimStatus/resourceClaimName") == claim
}

/// A volume is reached through the claim it is bound to.
fn volume_is_used(node: &str, volume: &str, objects: &dyn Objects) -> bool {
    let Some(volume) = objects.get("", "persistentvolumes", "", volume) else {
        return false;
    };
    let (namespace, claim) = (
        text(&volume, "/spec/claimRef/namespace"),
        text(&volume, "/spec/claimRef/name"),
    );
    !claim.is_empty() && own_pods(node, namespace, objects).any(|pod| uses_claim(&pod, claim))
}

/// Secrets that volumes of the node's pods need to be mounted.
fn secret_of_a_volume(node: &str, namespace: &str, secret: &str, objects: &dyn Objects) -> bool {
    const CSI: [&str; 3] = ["nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
    objects.list("", "persistentvolumes", "").iter().any(|volume| {
        CSI.iter().any(|reference| {
            text(volume, &format!("/spec/csi/{reference}/name")) == secret
                && text(volume, &format!("/spec/csi/{reference}/namespace")) == namespace
        }) && volume_is_used(node, text(volume, "/metadata/name"), objects)
    })
}

/// The value that a field selector demands of a field (`a=b` or `a==b`).
pub fn field_equals<'a>(selector: &'a str, field: &str) -> Option<&'a str> {
    selector.split(',').find_map(|requirement| {
        let rest = requirement.trim().strip_prefix(field)?;
        let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
        Some(value.trim())
    })
}
