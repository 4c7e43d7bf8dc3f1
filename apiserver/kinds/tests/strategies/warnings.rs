//! What is accepted and warned of.

use crate::{kind, template};
use serde_json::{Value, json};

fn warned(name: &str, mut object: Value) -> Vec<String> {
    let strategy = kind(name).strategy;
    strategy.default(&mut object);
    strategy.warnings(&object)
}

#[track_caller]
fn warns(name: &str, object: Value, want: &[&str]) {
    let got = warned(name, object.clone());
    assert_eq!(got, want, "of {object}");
}

fn pod(spec: Value) -> Value {
    let mut pod = crate::pod(json!({"containers": [{"name": "c", "image": "i:1"}]}));
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

#[test]
fn containers() {
    let with = |rest: Value| {
        let mut container = json!({"name": "c", "image": "i:1"});
        for (key, value) in rest.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        pod(json!({"containers": [container]}))
    };
    let rows: Vec<(Value, &[&str])> = vec![
        (
            with(json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]})),
            &["spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply"],
        ),
        (
            with(json!({"resources": {"limits": {"memory": "1.5"}, "requests": {"memory": "1.5", "cpu": "100m"}}})),
            &[
                "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.containers[0].resources.requests[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
            ],
        ),
        (
            with(json!({"ports": [{"containerPort": 80}, {"containerPort": 80}]})),
            &["spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"],
        ),
        (
            with(json!({"ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]})),
            &[],
        ),
    ];
    for (object, want) in rows {
        warns("pods", object, want);
    }
}

#[test]
fn pods() {
    let rows: Vec<(Value, &[&str])> = vec![
        (
            pod(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}})),
            &["spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead"],
        ),
        (
            pod(
                json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]}),
            ),
            &["spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"],
        ),
        (
            pod(
                json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}}),
            ),
            &[
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
        (
            pod(json!({"volumes": [{"name": "v", "gitRepo": {"repository": "r"}}]})),
            &["spec.volumes[0].gitRepo: deprecated in v1.11"],
        ),
        (
            pod(json!({"terminationGracePeriodSeconds": -2})),
            &["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"],
        ),
        (
            pod(json!({"imagePullSecrets": [{"name": ""}]})),
            &["spec.imagePullSecrets[0].name: invalid empty name \"\""],
        ),
        (
            pod(json!({"hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]})),
            &["spec.hostAliases[1].ip: duplicate ip \"1.1.1.1\""],
        ),
    ];
    for (object, want) in rows {
        warns("pods", object, want);
    }
}

#[test]
fn a_template_is_warned_of_at_its_place() {
    let mut spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template()});
    spec["template"]["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/arch": "arm64"});
    let why = "deprecated since v1.14; use \"kubernetes.io/arch\" instead";
    for name in [
        "deployments.apps",
        "daemonsets.apps",
        "statefulsets.apps",
        "replicasets.apps",
        "jobs.batch",
    ] {
        let object = json!({"metadata": {"name": "x"}, "spec": spec});
        warns(
            name,
            object,
            &[&format!(
                "spec.template.spec.nodeSelector[beta.kubernetes.io/arch]: {why}"
            )],
        );
    }
    let cron =
        json!({"metadata": {"name": "x"}, "spec": {"schedule": "TZ=UTC * * * * *", "jobTemplate": {"spec": spec}}});
    let got = warned("cronjobs.batch", cron);
    assert!(
        got[0].starts_with("spec.jobTemplate.spec.template.spec.nodeSelector[beta."),
        "{got:?}"
    );
    assert!(
        got[1].starts_with("CRON_TZ or TZ used in spec.schedule is not officially supported"),
        "{got:?}"
    );
}

#[test]
fn other_kinds() {
    let claim = json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "0.5"}}}});
    warns(
        "persistentvolumeclaims",
        claim,
        &["spec.resources.requests[storage]: fractional byte value \"500m\" is invalid, must be an integer"],
    );
    let volume = json!({"metadata": {"name": "v"}, "spec": {"persistentVolumeReclaimPolicy": "Recycle"}});
    let got = warned("persistentvolumes", volume);
    assert!(got.iter().any(|w| w.contains("Recycle")), "{got:?}");
    let node = json!({"metadata": {"name": "n"}, "spec": {"configSource": {}}});
    let got = warned("nodes", node);
    assert!(got.iter().any(|w| w.starts_with("spec.configSource: ")), "{got:?}");
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None", "externalIPs": ["1.2.3.4"], "loadBalancerIP": "1.2.3.4"}});
    let got = warned("services", service);
    assert!(!got.is_empty());
    let account =
        json!({"metadata": {"name": "s", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}});
    let got = warned("serviceaccounts", account);
    assert!(
        got.iter()
            .any(|w| w.contains("kubernetes.io/enforce-mountable-secrets")),
        "{got:?}"
    );
}
