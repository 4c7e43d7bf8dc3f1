//! ControllerRevisions: the history of a DaemonSet's or StatefulSet's template.

use std::sync::Arc;

use crate::slim::Pod;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::deployment::template_hash;
use crate::key::{controller_of, name, namespace};

/// The pod label that names its revision: the hash alone for DaemonSets, the revision's whole name for
/// StatefulSets.
pub const REVISION_HASH: &str = "controller-revision-hash";
/// The label with the hash on a StatefulSet's revisions; on a DaemonSet's it is [`REVISION_HASH`].
pub const STATEFUL_HASH: &str = "controller.kubernetes.io/hash";

/// The patch that brings an owner back to this template, as `kubectl rollout undo` applies it.
fn data(template: &PodTemplateSpec) -> serde_json::Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// What the history needs. Pure.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// Created when it does not exist, renumbered when an old template came back.
    pub current: ControllerRevision,
    pub create: bool,
    pub renumber: bool,
}

/// `label`: under which the hash is noted. `collisions`: how often a name was taken before.
pub fn plan(
    owner: &ObjectMeta,
    reference: OwnerReference,
    template: &PodTemplateSpec,
    history: &[Arc<ControllerRevision>],
    label: &str,
    collisions: Option<i32>,
) -> Plan {
    let data = data(template);
    let newest = history.iter().map(|revision| revision.revision).max().unwrap_or(0);
    let same = history
        .iter()
        .filter(|known| known.data.as_ref().is_some_and(|known| known.0 == data));
    if let Some(known) = same.max_by_key(|known| known.revision) {
        let mut current = ControllerRevision::clone(known);
        let renumber = current.revision < newest;
        if renumber {
            current.revision = newest + 1;
        }
        return Plan {
            current,
            create: false,
            renumber,
        };
    }
    let hash = template_hash(template, collisions);
    let mut labels = template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    labels.insert(label.to_string(), hash.clone());
    let current = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", name(owner))),
            namespace: Some(namespace(owner).to_string()),
            labels: Some(labels),
            annotations: owner.annotations.clone(),
            owner_references: Some(vec![reference]),
            ..Default::default()
        },
        data: Some(RawExtension(data)),
        revision: newest + 1,
    };
    Plan {
        current,
        create: true,
        renumber: false,
    }
}

/// The template that a revision remembers.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The hash part of a DaemonSet's revision's name, as its pods carry it.
pub fn hash_of(revision: &ControllerRevision) -> String {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(REVISION_HASH))
        .cloned()
        .unwrap_or_default()
}

pub fn pod_hash(pod: &Pod) -> Option<&str> {
    pod.labels.as_deref()?.get(REVISION_HASH).map(String::as_str)
}

/// Carries out the plan; returns the current revision, or none where its name is taken by another one: then
/// the owner's collision count is to be raised.
pub async fn sync(context: &Context, plan: Plan) -> Result<Option<ControllerRevision>, Error> {
    let namespace = namespace(&plan.current.metadata);
    let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), namespace);
    let own_name = name(&plan.current.metadata);
    if plan.create {
        let made = api.create(&PostParams::default(), &plan.current).await;
        return match made.doing(|| format!("create revision {own_name}")) {
            Err(error) if error.is_already_exists() => {
                let known = api.get(own_name).await.doing(|| format!("read revision {own_name}"))?;
                let owner = |meta: &ObjectMeta| controller_of(meta).map(|owner| owner.uid.clone());
                let same = owner(&known.metadata) == owner(&plan.current.metadata) && known.data == plan.current.data;
                Ok(same.then_some(known))
            }
            other => other.map(Some),
        };
    }
    if plan.renumber {
        let written = api.replace(own_name, &PostParams::default(), &plan.current).await;
        return written.doing(|| format!("renumber revision {own_name}")).map(Some);
    }
    Ok(Some(plan.current))
}

/// Deletes the oldest revisions that are not in use, beyond the limit.
pub async fn truncate(
    context: &Context,
    history: &[Arc<ControllerRevision>],
    in_use: impl Fn(&ControllerRevision) -> bool,
    limit: i32,
) -> Result<(), Error> {
    let mut unused: Vec<_> = history.iter().filter(|known| !in_use(known)).collect();
    unused.sort_by_key(|known| known.revision);
    let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for known in unused.into_iter().take(surplus) {
        let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), namespace(&known.metadata));
        let own_name = name(&known.metadata);
        let deleted = api.delete(own_name, &DeleteParams::default()).await;
        gone_is_fine(deleted.doing(|| format!("delete revision {own_name}")))?;
    }
    Ok(())
}
