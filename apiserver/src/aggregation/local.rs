//! The APIServices of what this server answers itself: one per group version of
//! the catalog, kept as upstream's auto-registration keeps them. Pure.

use super::merge::RemoteVersion;
use crate::registry::{Catalog, text_at};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Says that, and how, an APIService is kept by the server.
pub const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Of built-in group versions.
const ON_START: &str = "onstart";
/// Of group versions of custom resources: goes when they go.
const ALWAYS: &str = "true";

/// Group versions of custom resources, as upstream.
const CUSTOM: Rank = Rank {
    group: 1000,
    version: 100,
};

/// Of what other servers answer in most clusters, and this one where none does.
pub struct OwnGroup {
    pub group: &'static str,
    pub version: &'static str,
    rank: Rank,
}

/// With the ranks that metrics servers give themselves.
pub const METRICS: OwnGroup = OwnGroup {
    group: crate::resource_metrics::GROUP,
    version: crate::resource_metrics::VERSION,
    rank: Rank {
        group: 100,
        version: 100,
    },
};

/// As discovery shows resource metrics.
pub fn resource_metrics() -> RemoteVersion {
    RemoteVersion {
        group: METRICS.group.to_string(),
        version: METRICS.version.to_string(),
        rank: METRICS.rank,
        resources: Some(Arc::new(crate::resource_metrics::resources())),
        available: true,
    }
}

/// Where a group stands among groups, and a version in its group; higher is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    pub group: i64,
    pub version: i64,
}

/// Upstream's order of the built-in groups.
const GROUPS: [(&str, i64); 22] = [
    ("", 18000),
    // Has no APIService of its own; its group is shown first.
    ("apiregistration.k8s.io", 20000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("resource.k8s.io", 15900),
    ("storagemigration.k8s.io", 15800),
];

/// The rank of a group version that this server answers itself.
pub fn rank(group: &str, version: &str) -> Rank {
    let Some((_, of_group)) = GROUPS.iter().find(|(name, _)| *name == group) else {
        return CUSTOM;
    };
    let of_version = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io", "v1") => 21,
        (_, v) if v.contains("alpha") => 9,
        (_, v) if v.contains("beta") => 12,
        _ => 15,
    };
    Rank {
        group: *of_group,
        version: of_version,
    }
}

/// What is to be done about one APIService.
#[derive(Debug, PartialEq)]
pub enum Registration {
    Create(Value),
    /// Its spec or label is not what the server gave it.
    Update(Value),
    Delete {
        name: String,
        /// It was made for a built-in group version, of another release.
        built_in: bool,
    },
}

/// The steps from the APIServices that are there to those that should be. One that
/// somebody else wrote is left alone.
pub fn plan(existing: &[Arc<Value>], catalog: &Catalog) -> Vec<Registration> {
    let mut wanted: BTreeMap<String, Value> = wanted(catalog)
        .into_iter()
        .map(|object| (text_at(&object, &["metadata", "name"]).to_string(), object))
        .collect();
    let mut steps = Vec::new();
    for found in existing {
        let name = text_at(found, &["metadata", "name"]);
        let managed = text_at(found, &["metadata", "labels", AUTOMANAGED]);
        let ours = matches!(managed, ON_START | ALWAYS);
        match wanted.remove(name) {
            // A metrics server of the user's own has taken its place.
            Some(_) if is_metrics(found) && !found["spec"]["service"].is_null() => {}
            Some(object) if ours => {
                let label = text_at(&object, &["metadata", "labels", AUTOMANAGED]);
                if found["spec"] != object["spec"] || managed != label {
                    let mut updated = (**found).clone();
                    updated["spec"] = object["spec"].clone();
                    updated["metadata"]["labels"][AUTOMANAGED] = label.into();
                    steps.push(Registration::Update(updated));
                }
            }
            None if ours => steps.push(Registration::Delete {
                name: name.to_string(),
                built_in: managed == ON_START,
            }),
            _ => {}
        }
    }
    steps.extend(wanted.into_values().map(Registration::Create));
    steps
}

fn is_metrics(object: &Value) -> bool {
    let spec = &object["spec"];
    (text_at(spec, &["group"]), text_at(spec, &["version"])) == (METRICS.group, METRICS.version)
}

fn wanted(catalog: &Catalog) -> Vec<Value> {
    let mut objects = vec![json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {
            "name": format!("{}.{}", METRICS.version, METRICS.group), "labels": {AUTOMANAGED: ON_START},
        },
        "spec": {
            "group": METRICS.group, "version": METRICS.version,
            "groupPriorityMinimum": METRICS.rank.group, "versionPriority": METRICS.rank.version,
        },
    })];
    for (group, versions) in catalog.groups() {
        if *group == "apiregistration.k8s.io" {
            continue;
        }
        for version in versions {
            let rank = rank(group, version);
            let built_in = GROUPS.iter().any(|(name, _)| name == group);
            objects.push(json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {
                    "name": format!("{version}.{group}"),
                    "labels": {AUTOMANAGED: if built_in { ON_START } else { ALWAYS }},
                },
                "spec": {
                    "group": group, "version": version,
                    "groupPriorityMinimum": rank.group, "versionPriority": rank.version,
                },
            }));
        }
    }
    // The core group is `v1.` and has no `group` in its spec.
    for object in &mut objects {
        if object["spec"]["group"] == ""
            && let Some(spec) = object["spec"].as_object_mut()
        {
            spec.remove("group");
        }
    }
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        Catalog::new(skiff_kinds::kinds(), &[])
    }

    fn created() -> Vec<Arc<Value>> {
        plan(&[], &catalog())
            .into_iter()
            .map(|step| match step {
                Registration::Create(object) => Arc::new(object),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn every_group_version_has_one() {
        let made = created();
        let spec = |name: &str| {
            let found = made.iter().find(|o| text_at(o, &["metadata", "name"]) == name);
            found.unwrap_or_else(|| panic!("{name} is missing"))["spec"].clone()
        };
        assert_eq!(
            spec("v1."),
            json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})
        );
        assert_eq!(
            spec("v2.autoscaling"),
            json!({"group": "autoscaling", "version": "v2", "groupPriorityMinimum": 17500, "versionPriority": 30})
        );
        assert_eq!(spec("v1.flowcontrol.apiserver.k8s.io")["versionPriority"], 21);
        assert!(!made.iter().any(|o| o["spec"]["group"] == "apiregistration.k8s.io"));
        assert!(made.iter().all(|o| o["metadata"]["labels"][AUTOMANAGED] == "onstart"));
        // Every built-in group has a rank of its own.
        for (group, versions) in catalog().groups() {
            assert_ne!(rank(group, versions[0]).group, 1000, "{group} has no rank");
        }
    }

    #[test]
    fn what_is_right_stays_and_what_is_others_too() {
        let made = created();
        assert_eq!(plan(&made, &catalog()), []);
        let name = |o: &Value| text_at(o, &["metadata", "name"]).to_string();

        let mut changed = made.clone();
        Arc::make_mut(&mut changed[0])["spec"]["versionPriority"] = 7.into();
        let steps = plan(&changed, &catalog());
        assert!(
            matches!(&steps[..], [Registration::Update(o)] if o["spec"] == made[0]["spec"]),
            "{steps:?}"
        );

        // An administrator's own object stands in its place.
        Arc::make_mut(&mut changed[0])["metadata"]["labels"] = json!({});
        assert_eq!(plan(&changed, &catalog()), []);

        // A metrics server of their own takes over, and what it wrote stays.
        let at = made.iter().position(|o| is_metrics(o)).expect("it is made");
        let mut taken = made.clone();
        Arc::make_mut(&mut taken[at])["spec"]["service"] =
            json!({"namespace": "kube-system", "name": "metrics-server"});
        assert_eq!(plan(&taken, &catalog()), []);

        let gone = Arc::new(json!({"metadata": {"name": "v1.gone.io", "labels": {AUTOMANAGED: "true"}}, "spec": {}}));
        let remote = Arc::new(json!({"metadata": {"name": "v1.remote.io"}, "spec": {"service": {}}}));
        let mut more = made.clone();
        more.extend([gone, remote]);
        let deletion = Registration::Delete {
            name: "v1.gone.io".into(),
            built_in: false,
        };
        assert_eq!(plan(&more, &catalog()), [deletion]);
        let less: Vec<_> = made[1..].to_vec();
        assert!(matches!(&plan(&less, &catalog())[..], [Registration::Create(o)] if name(o) == name(&made[0])));
    }
}
