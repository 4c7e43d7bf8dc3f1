//! pods/binding and pods/eviction.

use super::{body_of, budget};
use crate::body::ApiBody;
use crate::handler::{Change, DeleteOptions, ServerCall, Target};
use crate::registry::{Filter, StoreObjects, built_in, check_preconditions, deletion_timestamp, text_at};
use crate::respond;
use crate::server::ApiServer;
use http::Response;
use serde_json::{Value, json};
use skiff_access::Objects;
use skiff_api::ApiError;

impl ApiServer {
    /// Assigns a pod to a node; `name` is empty for the old `bindings` resource.
    pub(super) async fn bind_pod(
        &self,
        call: &ServerCall,
        target: &Target,
        name: &str,
    ) -> Result<Response<ApiBody>, ApiError> {
        let gvk = ("", "v1", "Binding");
        let mut binding = body_of(call, gvk)?;
        let given = text_at(&binding, &["metadata", "name"]);
        let name = if name.is_empty() { given } else { name };
        if !given.is_empty() && given != name {
            return Err(ApiError::bad_request(format!(
                "name in URL does not match name in Binding object: {name} {given}"
            )));
        }
        let name = name.to_string();
        let name = name.as_str();
        let kind = built_in("", "pods")?;
        let mut warnings = Vec::new();
        let objects = self.objects(self.read_snapshot("").await?);
        self.admit_body(call, target, gvk, name, &mut binding, &objects, &mut warnings)
            .await?;
        let now = respond::now_text();
        let meta = &binding["metadata"];
        let mut writing = self.modification(kind, &call.info.namespace, name, call.options.dry_run);
        loop {
            let pod = writing.take().await?;
            check_preconditions(kind, name, &pod, meta["uid"].as_str(), meta["resourceVersion"].as_str())?;
            let bound = bound(pod, &binding, &now)?;
            if writing.write(Change::Write(bound)).await?.is_some() {
                break;
            }
        }
        respond::plain_warned(201, call.header(http::header::ACCEPT), &success(), &warnings)
    }

    /// Deletes a pod unless a disruption budget forbids it.
    pub(super) async fn evict_pod(&self, call: &ServerCall, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let gvk = ("policy", "v1", "Eviction");
        let mut eviction = body_of(call, gvk)?;
        let mut warnings = Vec::new();
        let snapshot = self.read_snapshot("").await?;
        let objects = self.objects(snapshot.clone());
        self.admit_body(
            call,
            target,
            gvk,
            &call.info.name,
            &mut eviction,
            &objects,
            &mut warnings,
        )
        .await?;
        let mut options = DeleteOptions::of_body(&eviction["deleteOptions"])?;
        options.dry_run |= call.options.dry_run;
        options.admitted = true;
        let given = text_at(&eviction, &["metadata", "name"]);
        if !given.is_empty() && given != call.info.name {
            return Err(ApiError::bad_request(format!(
                "name in URL does not match name in Eviction object: {} {given}",
                call.info.name
            )));
        }
        let entry = self.entry(target, &*snapshot, &call.info.namespace, &call.info.name)?;
        let pod = crate::codec::stored(&entry)?;
        let budget = self.budget_of(&pod, &entry, &call.info.namespace, &objects)?;
        if let Some(name) = budget {
            self.spend_budget(&call.info.namespace, &name, &pod, options.dry_run)
                .await?;
        }
        if !options.dry_run {
            let marked = self
                .mark_evicted(&call.info.namespace, &call.info.name, &options)
                .await?;
            if options.resource_version.is_some() {
                options.resource_version = Some(marked);
            }
        }
        self.delete_object(
            call,
            target,
            &call.info.namespace,
            &call.info.name,
            &options,
            &mut warnings,
        )
        .await?;
        respond::plain_warned(201, call.header(http::header::ACCEPT), &success(), &warnings)
    }

    /// The budget that has a say in the eviction of this pod.
    fn budget_of(
        &self,
        pod: &Value,
        entry: &skiff_store::Entry,
        namespace: &str,
        objects: &StoreObjects<'_>,
    ) -> Result<Option<String>, ApiError> {
        let finished = matches!(text_at(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending");
        if finished || deletion_timestamp(pod).is_some() {
            return Ok(None);
        }
        let mut found = None;
        for budget in objects.list("policy", "poddisruptionbudgets", namespace) {
            let Some(selector) = selector_text(&budget["spec"]["selector"]) else {
                continue;
            };
            if !Filter::parse(&built_in("", "pods")?.into(), &selector, "")?.matches(entry) {
                continue;
            }
            let name = text_at(&budget, &["metadata", "name"]).to_string();
            if found.replace(name).is_some() {
                return Err(ApiError::new(
                    500,
                    "",
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
        Ok(found)
    }

    /// Whoever looks at the pod while it goes, and its Job, learns why it goes. Answers its new resourceVersion.
    async fn mark_evicted(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Result<String, ApiError> {
        let kind = built_in("", "pods")?;
        let now = respond::now_text();
        let marked = self.modify(kind, namespace, name, false, |pod, _| {
            options.check(kind, pod)?;
            Ok(Change::Write(evicted(pod, &now)))
        });
        Ok(marked.await?.entry.mod_revision().to_string())
    }

    /// Takes one disruption off the budget before the pod goes, so that the next
    /// eviction sees it although the controller has not counted yet.
    async fn spend_budget(&self, namespace: &str, name: &str, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
        let kind = built_in("policy", "poddisruptionbudgets")?;
        let now = respond::now_text();
        self.modify(kind, namespace, name, dry_run, |budget, _| {
            Ok(match budget::spend(budget, pod, &now)? {
                Some(spent) => Change::Write(spent),
                None => Change::Keep,
            })
        })
        .await?;
        Ok(())
    }
}

/// The pod with the condition that says that an eviction ends it.
fn evicted(pod: &Value, now: &str) -> Value {
    let mut pod = pod.clone();
    let generation = pod["metadata"]["generation"].clone();
    let mut condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now});
    if !generation.is_null() {
        condition["observedGeneration"] = generation;
    }
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let known = conditions.as_array_mut().into_iter().flatten();
    match known.into_iter().find(|known| known["type"] == "DisruptionTarget") {
        Some(known) => {
            if known["status"] == "True" {
                condition["lastTransitionTime"] = known["lastTransitionTime"].take();
            }
            *known = condition;
        }
        None => {
            if let Some(conditions) = conditions.as_array_mut() {
                conditions.push(condition);
            }
        }
    }
    pod
}

/// A LabelSelector as the text of a `labelSelector` parameter; `None` selects nothing.
pub(super) fn selector_text(selector: &Value) -> Option<String> {
    let map = selector.as_object()?;
    let mut terms: Vec<String> = map
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect();
    for expression in map
        .get("matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        terms.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_string(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    Some(terms.join(","))
}

/// The pod as bound, or why it cannot be.
fn bound(mut pod: Value, binding: &Value, now: &str) -> Result<Value, ApiError> {
    let name = text_at(&pod, &["metadata", "name"]);
    let node = text_at(binding, &["target", "name"]);
    let refuse = |why: &str| Err(ApiError::conflict("", "pods/binding", name, why));
    if node.is_empty() {
        return Err(ApiError::bad_request("target.name of the binding must name a node"));
    }
    if !matches!(text_at(binding, &["target", "kind"]), "" | "Node") {
        return Err(ApiError::bad_request("target.kind of the binding must be Node"));
    }
    if deletion_timestamp(&pod).is_some() {
        return refuse(&format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let current = text_at(&pod, &["spec", "nodeName"]);
    if !current.is_empty() {
        return refuse(&format!("pod {name} is already assigned to node {current:?}"));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        return refuse(&format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = node.into();
    // It has what it was promised, or better.
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    for key in ["annotations", "labels"] {
        for (name, value) in binding["metadata"][key].as_object().into_iter().flatten() {
            pod["metadata"][key][name] = value.clone();
        }
    }
    let mut condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    if let Some(generation) = pod["metadata"]["generation"].as_i64() {
        condition["observedGeneration"] = generation.into();
    }
    let conditions = match pod["status"].get_mut("conditions").and_then(Value::as_array_mut) {
        Some(conditions) => conditions,
        None => {
            pod["status"]["conditions"] = json!([]);
            pod["status"]["conditions"]
                .as_array_mut()
                .ok_or_else(|| ApiError::internal("conditions is no list"))?
        }
    };
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(old) if old["status"] == "True" => {}
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
    Ok(pod)
}

pub(super) fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}});
        let binding =
            json!({"metadata": {"name": "p", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n"}});
        let done = bound(pod.clone(), &binding, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(done["spec"]["nodeName"], "n");
        assert_eq!(done["metadata"]["annotations"]["a"], "b");
        assert_eq!(done["status"]["conditions"][0]["status"], "True");
        assert_eq!(bound(done.clone(), &binding, "x").unwrap_err().code, 409);
    }
}
