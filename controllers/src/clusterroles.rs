//! Aggregated ClusterRoles: their rules are the union of the rules of the roles they select.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, name};
use crate::queue::Queue;
use crate::selector;
use crate::worker::work;

/// The union of the selected roles' rules in the order of their names, each once; none where `role` does
/// not aggregate or already has them. Pure.
fn aggregate(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role
        .aggregation_rule
        .as_ref()?
        .cluster_role_selectors
        .as_deref()
        .unwrap_or_default();
    let mut sources: Vec<&Arc<ClusterRole>> = all
        .iter()
        .filter(|source| source.metadata.name != role.metadata.name)
        .filter(|source| {
            selectors
                .iter()
                .any(|wanted| selector::matches(wanted, source.metadata.labels.as_ref()))
        })
        .collect();
    sources.sort_by(|a, b| name(&a.metadata).cmp(name(&b.metadata)));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in sources.iter().flat_map(|source| source.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("ClusterRoleAggregator"));
    let roles = context.shared.cluster_roles.clone();
    roles.on_change({
        let (queue, roles) = (queue.clone(), roles.clone());
        move |_| {
            for role in roles.list().iter().filter(|role| role.aggregation_rule.is_some()) {
                queue.add(Key::of(&role.metadata));
            }
        }
    });
    tasks.spawn(async move {
        roles.synced().await;
        let reconcile = |key: Key| {
            let context = context.clone();
            async move { reconcile(&context, key).await }
        };
        work(context.name, queue, 1, context.shutdown.clone(), reconcile).await;
    });
}

async fn reconcile(context: &Context, key: Key) -> Result<(), Error> {
    let roles = &context.shared.cluster_roles;
    let Some(role) = roles.get(&key) else { return Ok(()) };
    let Some(rules) = aggregate(&role, &roles.list()) else {
        return Ok(());
    };
    let api: Api<ClusterRole> = Api::all(context.client.clone());
    let patch = json!({
        "metadata": {"resourceVersion": role.metadata.resource_version},
        "rules": rules,
    });
    let written = api
        .patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    gone_is_fine(written.doing(|| format!("aggregate cluster role {key}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::rbac::v1::AggregationRule;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    fn role(name: &str, label: Option<&str>, verb: &str) -> Arc<ClusterRole> {
        let mut role = ClusterRole::default();
        role.metadata.name = Some(name.to_string());
        role.metadata.labels = label.map(|label| [(label.to_string(), "true".to_string())].into());
        role.rules = Some(vec![PolicyRule {
            verbs: vec![verb.to_string()],
            ..Default::default()
        }]);
        Arc::new(role)
    }

    #[test]
    fn union_in_order_once() {
        let mut view = ClusterRole::default();
        view.metadata.name = Some("view".to_string());
        view.aggregation_rule = Some(AggregationRule {
            cluster_role_selectors: Some(vec![LabelSelector {
                match_labels: Some([("to-view".to_string(), "true".to_string())].into()),
                match_expressions: None,
            }]),
        });
        let all = [
            role("b", Some("to-view"), "list"),
            role("a", Some("to-view"), "get"),
            role("c", Some("to-view"), "get"),
            role("d", None, "delete"),
        ];
        let rules = aggregate(&view, &all).expect("differs");
        let verbs: Vec<_> = rules.iter().flat_map(|rule| rule.verbs.clone()).collect();
        assert_eq!(verbs, ["get", "list"]);
        view.rules = Some(rules);
        assert_eq!(aggregate(&view, &all), None);
    }
}
