use super::*;
use serde_json::json;

fn with(profile: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": KIND, "profiles": [profile]})
}

fn args(plugin: &str, args: &Value) -> Value {
    with(&json!({"schedulerName": "mine", "pluginConfig": [{"name": plugin, "args": args}]}))
}

#[test]
fn what_is_not_said_is_as_upstream_has_it() {
    let empty = Settings::parse(&json!({"apiVersion": API_VERSION, "kind": KIND})).expect("settings");
    assert_eq!(empty, Settings::default());
    let nameless = Settings::parse(&with(&json!({}))).expect("settings");
    assert_eq!(nameless, Settings::default());
}

#[test]
fn arguments_reach_the_profile() {
    let document = json!({"apiVersion": API_VERSION, "kind": KIND, "podInitialBackoffSeconds": 2, "podMaxBackoffSeconds": 20,
    "parallelism": 16, "percentageOfNodesToScore": 0, "profiles": [
        {"schedulerName": "pack", "pluginConfig": [
            {"name": "NodeResourcesFit", "args": {"apiVersion": API_VERSION, "kind": "NodeResourcesFitArgs",
                "ignoredResourceGroups": ["example.com"],
                "scoringStrategy": {"type": "RequestedToCapacityRatio", "resources": [{"name": "cpu", "weight": 3}],
                    "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}}}},
            {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 5}},
            {"name": "PodTopologySpread", "args": {"defaultingType": "List", "defaultConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}},
            {"name": "NodeAffinity", "args": {"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}},
        ]},
        {"schedulerName": "default-scheduler"},
    ]});
    let settings = Settings::parse(&document).expect("settings");
    assert_eq!(
        settings.profiles.keys().collect::<Vec<_>>(),
        ["default-scheduler", "pack"]
    );
    assert_eq!(
        (settings.backoff_initial.as_secs(), settings.backoff_max.as_secs()),
        (2, 20)
    );
    let pack = &settings.profiles["pack"];
    assert_eq!(
        pack.scoring.kind,
        ScoringKind::RequestedToCapacityRatio(vec![(0, 0), (100, 10)])
    );
    assert_eq!(
        (pack.scoring.resources[0].weight, pack.hard_pod_affinity_weight),
        (3, 5)
    );
    assert_eq!(pack.ignored_resource_groups, ["example.com"]);
    assert!(matches!(&pack.spread, SpreadDefaults::List(list) if list.len() == 1));
    assert!(pack.added_affinity.is_some());
}

#[test]
fn mistakes_are_named_with_their_place() {
    let strategy = |strategy: Value| args("NodeResourcesFit", &json!({"scoringStrategy": strategy}));
    for (document, path, word) in [
        (json!([]), "KubeSchedulerConfiguration", "a mapping"),
        (json!({"kind": KIND}), "apiVersion", API_VERSION),
        (json!({"apiVersion": API_VERSION, "kind": "Pod"}), "kind", KIND),
        (
            json!({"apiVersion": API_VERSION, "kind": KIND, "extenders": []}),
            "KubeSchedulerConfiguration",
            "extenders",
        ),
        (
            json!({"apiVersion": API_VERSION, "kind": KIND, "podMaxBackoffSeconds": 0}),
            "podMaxBackoffSeconds",
            "greater than 0",
        ),
        (
            json!({"apiVersion": API_VERSION, "kind": KIND, "podInitialBackoffSeconds": 30}),
            "podMaxBackoffSeconds",
            "less",
        ),
        (
            json!({"apiVersion": API_VERSION, "kind": KIND, "profiles": [{}, {}]}),
            "profiles[1].schedulerName",
            "two profiles",
        ),
        (
            with(&json!({"schedulerName": ""})),
            "profiles[0].schedulerName",
            "empty",
        ),
        (with(&json!({"plugins": {}})), "profiles[0].plugins", "cannot be chosen"),
        (
            with(&json!({"pluginConfig": [{"name": "Mine"}]})),
            "profiles[0]",
            "args",
        ),
        (args("Mine", &json!({})), "profiles[0].pluginConfig[0].args", "Mine"),
        (
            args("NodeAffinity", &json!({"kind": "OtherArgs"})),
            "profiles[0].pluginConfig[0].args.kind",
            "NodeAffinityArgs",
        ),
        (
            strategy(json!({"type": "Best"})),
            "profiles[0].pluginConfig[0].args.scoringStrategy.type",
            "LeastAllocated",
        ),
        (
            strategy(json!({"type": "RequestedToCapacityRatio"})),
            "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio.shape",
            "at least one",
        ),
        (
            strategy(json!({"resources": [{"name": "cpu", "weight": 101}]})),
            "profiles[0].pluginConfig[0].args.scoringStrategy.resources[0].weight",
            "from 1 to 100",
        ),
        (
            args("InterPodAffinity", &json!({"hardPodAffinityWeight": 101})),
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight",
            "100",
        ),
        (
            args(
                "PodTopologySpread",
                &json!({"defaultConstraints": [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]}),
            ),
            "profiles[0].pluginConfig[0].args.defaultConstraints",
            "List",
        ),
    ] {
        let error = Settings::parse(&document).expect_err("a mistake");
        assert_eq!(error.path, path, "{error}");
        assert!(error.problem.contains(word), "{error}");
    }
}
