//! Which kinds the server has, asked from its discovery API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, OwnerReference};
use kube::Client;
use kube::core::ApiResource;

use crate::context::{Doing, Error};

/// A kind that can be listed, in its group's preferred version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    pub resource: ApiResource,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Kind {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// Whether an owner reference names this kind; any version of its group does.
    pub fn is_meant_by(&self, owner: &OwnerReference) -> bool {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        self.resource.group == group && self.resource.kind == owner.kind
    }

    /// `deployments.apps`, as messages name a kind.
    pub fn display(&self) -> String {
        if self.resource.group.is_empty() {
            format!("{}.", self.resource.plural)
        } else {
            format!("{}.{}", self.resource.plural, self.resource.group)
        }
    }
}

#[derive(Debug, Default)]
pub struct Discovered {
    pub kinds: Vec<Kind>,
    /// Groups that did not answer (an API service that is down, say), with the reason.
    pub failed: Vec<String>,
}

fn kinds(group: &str, version: &str, resources: Vec<APIResource>) -> impl Iterator<Item = Kind> {
    resources
        .into_iter()
        .filter(|resource| !resource.name.contains('/'))
        .map(move |resource| {
            let group = resource
                .group
                .clone()
                .filter(|group| !group.is_empty())
                .unwrap_or_else(|| group.to_string());
            let version = resource
                .version
                .clone()
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| version.to_string());
            let api_version = if group.is_empty() {
                version.clone()
            } else {
                format!("{group}/{version}")
            };
            Kind {
                resource: ApiResource {
                    group,
                    version,
                    api_version,
                    kind: resource.kind,
                    plural: resource.name,
                },
                namespaced: resource.namespaced,
                verbs: resource.verbs,
            }
        })
}

/// Every kind once, in the version that its group prefers.
pub async fn discover(client: &Client) -> Result<Discovered, Error> {
    let mut found = Discovered::default();
    let core = client
        .list_core_api_resources("v1")
        .await
        .doing(|| "discover the core API".to_string())?;
    found.kinds.extend(kinds("", "v1", core.resources));
    let groups = client
        .list_api_groups()
        .await
        .doing(|| "discover the API groups".to_string())?;
    for group in groups.groups {
        let preferred = group.preferred_version.or_else(|| group.versions.first().cloned());
        let Some(version) = preferred else { continue };
        match client.list_api_group_resources(&version.group_version).await {
            Ok(list) => found.kinds.extend(kinds(&group.name, &version.version, list.resources)),
            Err(kube::Error::Api(status)) if status.code == 503 => {
                // As clients say that are told by the server itself that it cannot know.
                let version = version.group_version;
                found
                    .failed
                    .push(format!("{version}: stale GroupVersion discovery: {version}"));
            }
            Err(error) => found.failed.push(format!("{}: {error}", version.group_version)),
        }
        // Kinds that only an older version of the group has.
        for older in group.versions.iter().filter(|older| older.version != version.version) {
            if let Ok(list) = client.list_api_group_resources(&older.group_version).await {
                for kind in kinds(&group.name, &older.version, list.resources) {
                    let known = found.kinds.iter().any(|known| {
                        known.resource.group == kind.resource.group && known.resource.plural == kind.resource.plural
                    });
                    if !known {
                        found.kinds.push(kind);
                    }
                }
            }
        }
    }
    Ok(found)
}
