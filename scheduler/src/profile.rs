//! How pods of one `spec.schedulerName` are scheduled: the part of upstream's
//! KubeSchedulerConfiguration that changes decisions. Pure.

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// As many as anybody runs side by side.
const PROFILES_MAX: usize = 100;
/// Upstream's bounds.
const RESOURCE_WEIGHT_MAX: i64 = 100;
const SHAPE_SCORE_MAX: i64 = 10;

/// What cannot be used of a configuration, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    pub path: String,
    pub problem: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Pods with this `spec.schedulerName`.
    pub name: String,
    pub scoring: ScoringStrategy,
    /// Of NodeResourcesBalancedAllocation.
    pub balanced: Vec<WeightedResource>,
    /// Resources that NodeResourcesFit does not look at: names, and groups (`example.com`).
    pub ignored_resources: Vec<String>,
    pub ignored_resource_groups: Vec<String>,
    /// On top of what pods ask for.
    pub added_affinity: Option<NodeAffinity>,
    pub spread: SpreadDefaults,
    /// What a required affinity of a placed pod counts for when nodes are scored.
    pub hard_pod_affinity_weight: i32,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

/// Constraints of pods that have none themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum SpreadDefaults {
    /// Upstream's: over hosts and zones, preferred.
    System,
    List(Vec<TopologySpreadConstraint>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ScoringStrategy {
    pub kind: ScoringKind,
    pub resources: Vec<WeightedResource>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ScoringKind {
    LeastAllocated,
    MostAllocated,
    /// Points of use in percent, ascending, and their score from 0 to 10.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedResource {
    pub name: String,
    #[serde(default = "one")]
    pub weight: i64,
}

fn one() -> i64 {
    1
}

fn cpu_and_memory() -> Vec<WeightedResource> {
    ["cpu", "memory"]
        .map(|name| WeightedResource {
            name: name.into(),
            weight: 1,
        })
        .into()
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "default-scheduler".into(),
            scoring: ScoringStrategy {
                kind: ScoringKind::LeastAllocated,
                resources: cpu_and_memory(),
            },
            balanced: cpu_and_memory(),
            ignored_resources: Vec::new(),
            ignored_resource_groups: Vec::new(),
            added_affinity: None,
            spread: SpreadDefaults::System,
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
        }
    }
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// By `spec.schedulerName`; at least one.
    pub profiles: BTreeMap<String, Arc<Profile>>,
    pub backoff_initial: Duration,
    pub backoff_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let profile = Profile::default();
        Self {
            profiles: [(profile.name.clone(), Arc::new(profile))].into(),
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// From a KubeSchedulerConfiguration. What would change decisions and is not
    /// known here is refused, never passed over.
    pub fn parse(document: &Value) -> Result<Self, ConfigError> {
        let top: Document = read("", document)?;
        for (path, have, want) in [("apiVersion", &top.api_version, API_VERSION), ("kind", &top.kind, KIND)] {
            if have != want {
                return Err(problem(path, format!("must be {want}, not {have:?}")));
            }
        }
        let mut out = Self::default();
        out.backoff_initial = seconds("podInitialBackoffSeconds", top.initial_backoff, out.backoff_initial)?;
        out.backoff_max = seconds("podMaxBackoffSeconds", top.max_backoff, out.backoff_max)?;
        if out.backoff_max < out.backoff_initial {
            return Err(problem(
                "podMaxBackoffSeconds",
                "must not be less than podInitialBackoffSeconds",
            ));
        }
        if top.profiles.len() > PROFILES_MAX {
            return Err(problem("profiles", format!("more than {PROFILES_MAX}")));
        }
        if top.profiles.is_empty() {
            return Ok(out);
        }
        out.profiles.clear();
        for (at, profile) in top.profiles.iter().enumerate() {
            let path = format!("profiles[{at}]");
            let profile = parse_profile(&path, profile)?;
            let name = profile.name.clone();
            if out.profiles.insert(name.clone(), Arc::new(profile)).is_some() {
                return Err(problem(
                    &format!("{path}.schedulerName"),
                    format!("{name:?} is the name of two profiles"),
                ));
            }
        }
        Ok(out)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "podInitialBackoffSeconds")]
    initial_backoff: Option<i64>,
    #[serde(default, rename = "podMaxBackoffSeconds")]
    max_backoff: Option<i64>,
    #[serde(default)]
    profiles: Vec<Value>,
    /// How fast upstream decides, not what: here all nodes are always looked at, by one thread.
    #[serde(default, rename = "parallelism")]
    _parallelism: Option<i64>,
    #[serde(default, rename = "percentageOfNodesToScore")]
    _percentage: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ProfileDocument {
    #[serde(default)]
    scheduler_name: Option<String>,
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
    #[serde(default, rename = "percentageOfNodesToScore")]
    _percentage: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    args: Map<String, Value>,
}

fn parse_profile(path: &str, document: &Value) -> Result<Profile, ConfigError> {
    if document.get("plugins").is_some() {
        return Err(problem(
            &format!("{path}.plugins"),
            "the plugins of a profile cannot be chosen: all default plugins run, with their default weights",
        ));
    }
    let document: ProfileDocument = read(path, document)?;
    let mut profile = Profile::default();
    if let Some(name) = document.scheduler_name {
        if name.is_empty() {
            return Err(problem(&format!("{path}.schedulerName"), "must not be empty"));
        }
        profile.name = name;
    }
    for (at, config) in document.plugin_config.into_iter().enumerate() {
        let path = format!("{path}.pluginConfig[{at}]");
        check_kind(&config, &path)?;
        apply(&mut profile, &config, &format!("{path}.args"))?;
    }
    Ok(profile)
}

/// The arguments' own kind must be the plugin's.
fn check_kind(config: &PluginConfig, path: &str) -> Result<(), ConfigError> {
    for (field, want) in [
        ("apiVersion", API_VERSION.to_string()),
        ("kind", format!("{}Args", config.name)),
    ] {
        match config.args.get(field).and_then(Value::as_str) {
            Some(have) if have != want => {
                return Err(problem(
                    &format!("{path}.args.{field}"),
                    format!("must be {want}, not {have:?}"),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn apply(profile: &mut Profile, config: &PluginConfig, path: &str) -> Result<(), ConfigError> {
    let mut args = config.args.clone();
    args.retain(|field, _| field != "apiVersion" && field != "kind");
    let args = Value::Object(args);
    match config.name.as_str() {
        "NodeResourcesFit" => {
            let args: FitArgs = read(path, &args)?;
            profile.ignored_resources = args.ignored_resources;
            profile.ignored_resource_groups = args.ignored_resource_groups;
            if let Some(strategy) = args.scoring_strategy {
                profile.scoring = scoring(&format!("{path}.scoringStrategy"), strategy)?;
            }
        }
        "NodeResourcesBalancedAllocation" => {
            let args: BalancedArgs = read(path, &args)?;
            if !args.resources.is_empty() {
                weights(&format!("{path}.resources"), &args.resources, 1)?;
                profile.balanced = args.resources;
            }
        }
        "NodeAffinity" => profile.added_affinity = read::<AffinityArgs>(path, &args)?.added_affinity,
        "PodTopologySpread" => profile.spread = spread(path, read(path, &args)?)?,
        "InterPodAffinity" => {
            let args: InterPodArgs = read(path, &args)?;
            let weight = args.hard_pod_affinity_weight.unwrap_or(1);
            if !(0..=100).contains(&weight) {
                return Err(problem(
                    &format!("{path}.hardPodAffinityWeight"),
                    "must be from 0 to 100",
                ));
            }
            profile.hard_pod_affinity_weight = weight;
            profile.ignore_preferred_terms_of_existing_pods = args.ignore_preferred_terms_of_existing_pods;
        }
        other => {
            let known =
                "NodeResourcesFit, NodeResourcesBalancedAllocation, NodeAffinity, PodTopologySpread, InterPodAffinity";
            return Err(problem(
                path,
                format!("{other:?} takes no arguments here; only {known} do"),
            ));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[derive(Default)]
struct FitArgs {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<StrategyArgs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StrategyArgs {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    resources: Vec<WeightedResource>,
    #[serde(default)]
    requested_to_capacity_ratio: Option<RatioArgs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RatioArgs {
    shape: Vec<Point>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    utilization: i64,
    score: i64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct BalancedArgs {
    resources: Vec<WeightedResource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AffinityArgs {
    #[serde(default)]
    added_affinity: Option<NodeAffinity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SpreadArgs {
    #[serde(default)]
    default_constraints: Vec<TopologySpreadConstraint>,
    #[serde(default)]
    defaulting_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct InterPodArgs {
    #[serde(default)]
    hard_pod_affinity_weight: Option<i32>,
    #[serde(default)]
    ignore_preferred_terms_of_existing_pods: bool,
}

fn scoring(path: &str, args: StrategyArgs) -> Result<ScoringStrategy, ConfigError> {
    let resources = match args.resources.is_empty() {
        true => cpu_and_memory(),
        false => args.resources,
    };
    weights(&format!("{path}.resources"), &resources, RESOURCE_WEIGHT_MAX)?;
    let kind = match args.kind.as_deref().unwrap_or("LeastAllocated") {
        "LeastAllocated" => ScoringKind::LeastAllocated,
        "MostAllocated" => ScoringKind::MostAllocated,
        "RequestedToCapacityRatio" => {
            let path = format!("{path}.requestedToCapacityRatio.shape");
            ScoringKind::RequestedToCapacityRatio(shape(&path, args.requested_to_capacity_ratio)?)
        }
        other => {
            let known = "LeastAllocated, MostAllocated, RequestedToCapacityRatio";
            return Err(problem(
                &format!("{path}.type"),
                format!("{other:?} is none of {known}"),
            ));
        }
    };
    Ok(ScoringStrategy { kind, resources })
}

fn weights(path: &str, resources: &[WeightedResource], most: i64) -> Result<(), ConfigError> {
    for (at, resource) in resources.iter().enumerate() {
        if !(1..=most).contains(&resource.weight) {
            let path = format!("{path}[{at}].weight");
            return Err(problem(&path, format!("must be from 1 to {most}")));
        }
        if resources[..at].iter().any(|other| other.name == resource.name) {
            return Err(problem(
                &format!("{path}[{at}].name"),
                format!("{:?} is there twice", resource.name),
            ));
        }
    }
    Ok(())
}

fn shape(path: &str, args: Option<RatioArgs>) -> Result<Vec<(i64, i64)>, ConfigError> {
    let points: Vec<(i64, i64)> = args
        .into_iter()
        .flat_map(|args| args.shape)
        .map(|point| (point.utilization, point.score))
        .collect();
    if points.is_empty() {
        return Err(problem(path, "at least one point is needed"));
    }
    for (at, (utilization, score)) in points.iter().enumerate() {
        if !(0..=100).contains(utilization) || !(0..=SHAPE_SCORE_MAX).contains(score) {
            let why = format!("utilization goes from 0 to 100, score from 0 to {SHAPE_SCORE_MAX}");
            return Err(problem(&format!("{path}[{at}]"), why));
        }
        if at > 0 && points[at - 1].0 >= *utilization {
            return Err(problem(
                &format!("{path}[{at}].utilization"),
                "must be more than the one before",
            ));
        }
    }
    Ok(points)
}

fn spread(path: &str, args: SpreadArgs) -> Result<SpreadDefaults, ConfigError> {
    let kind = args.defaulting_type.as_deref().unwrap_or("System");
    let path = format!("{path}.defaultConstraints");
    match kind {
        "System" if args.default_constraints.is_empty() => Ok(SpreadDefaults::System),
        "System" => Err(problem(&path, "needs defaultingType: List")),
        "List" => {
            for (at, constraint) in args.default_constraints.iter().enumerate() {
                let path = format!("{path}[{at}]");
                if constraint.label_selector.is_some() {
                    let why = "must not be set: it comes from the pod's Service or owner";
                    return Err(problem(&format!("{path}.labelSelector"), why));
                }
                if constraint.max_skew < 1 {
                    return Err(problem(&format!("{path}.maxSkew"), "must be greater than zero"));
                }
                if constraint.topology_key.is_empty() {
                    return Err(problem(&format!("{path}.topologyKey"), "must not be empty"));
                }
                if !["DoNotSchedule", "ScheduleAnyway"].contains(&constraint.when_unsatisfiable.as_str()) {
                    let why = "must be DoNotSchedule or ScheduleAnyway";
                    return Err(problem(&format!("{path}.whenUnsatisfiable"), why));
                }
            }
            Ok(SpreadDefaults::List(args.default_constraints))
        }
        other => Err(problem(
            &path,
            format!("defaultingType is System or List, not {other:?}"),
        )),
    }
}

fn seconds(path: &str, given: Option<i64>, default: Duration) -> Result<Duration, ConfigError> {
    match given {
        None => Ok(default),
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.unsigned_abs())),
        Some(_) => Err(problem(path, "must be greater than 0")),
    }
}

fn read<T: DeserializeOwned>(path: &str, value: &Value) -> Result<T, ConfigError> {
    let path = if path.is_empty() { KIND } else { path };
    if !value.is_object() {
        // Derived readers would take a list for the fields in their order.
        return Err(problem(path, "must be a mapping"));
    }
    T::deserialize(value).map_err(|error| problem(path, error.to_string()))
}

fn problem(path: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError {
        path: path.into(),
        problem: problem.into(),
    }
}

#[cfg(test)]
#[path = "profile_test.rs"]
mod tests;
