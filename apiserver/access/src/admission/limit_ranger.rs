//! LimitRanger: defaults and bounds of what one container, pod or claim may
//! ask for in a namespace.
//! Source: <https://kubernetes.io/docs/concepts/policy/limit-range/>.

use super::{forbidden, is};
use crate::contract::{AdmissionRequest, Admitted, Objects, Operation};
use crate::tree::{items, map_mut, text};
use serde_json::{Map, Value};
use skiff_api::quantity::Quantity;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

/// The limits of one type (`Container`, `Pod`, `PersistentVolumeClaim`) in a namespace.
fn limits_of<'a>(ranges: &'a [Arc<Value>], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    ranges
        .iter()
        .flat_map(|range| items(range, "/spec/limits"))
        .filter(move |limit| text(limit, "/type") == kind)
}

fn ranges(r: &AdmissionRequest, objects: &dyn Objects) -> Vec<Arc<Value>> {
    let mut ranges = objects.list("", "limitranges", r.namespace);
    ranges.sort_by(|a, b| text(a, "/metadata/name").cmp(text(b, "/metadata/name")));
    ranges
}

pub fn mutate(r: &mut AdmissionRequest, objects: &dyn Objects) -> Admitted {
    if !is(r, Operation::Create, "", "pods") {
        return Ok(());
    }
    let ranges = ranges(r, objects);
    let mut requests = Map::new();
    let mut limits = Map::new();
    for limit in limits_of(&ranges, "Container") {
        let add = |into: &mut Map<String, Value>, key: &str| {
            for (name, quantity) in limit.get(key).and_then(Value::as_object).into_iter().flatten() {
                into.insert(name.clone(), quantity.clone());
            }
        };
        add(&mut requests, "defaultRequest");
        add(&mut limits, "default");
    }
    if requests.is_empty() && limits.is_empty() {
        return Ok(());
    }
    let mut notes = Vec::new();
    let Some(spec) = super::spec_mut(r) else { return Ok(()) };
    for list in CONTAINER_LISTS {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = text(container, "/name").to_string();
            let kind = if list == "containers" {
                "container"
            } else {
                "init container"
            };
            let set_requests = fill(container, "requests", &requests);
            let set_limits = fill(container, "limits", &limits);
            for (set, what) in [(set_requests, "request"), (set_limits, "limit")] {
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {kind} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty()
        && let Some(annotations) = r
            .object
            .get_mut("metadata")
            .and_then(|metadata| map_mut(metadata, "annotations"))
    {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        annotations.insert("kubernetes.io/limit-ranger".into(), note.into());
    }
    Ok(())
}

/// Adds the missing resources; answers their names.
fn fill(container: &mut Value, key: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    if defaults.is_empty() {
        return set;
    }
    let Some(object) = container.as_object_mut() else {
        return set;
    };
    let resources = object.entry("resources").or_insert_with(|| Value::Object(Map::new()));
    let Some(present) = map_mut(resources, key) else {
        return set;
    };
    for (name, quantity) in defaults {
        if !present.contains_key(name) {
            present.insert(name.clone(), quantity.clone());
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

pub fn validate(r: &AdmissionRequest, objects: &dyn Objects) -> Admitted {
    let resized =
        r.operation == Operation::Update && r.group.is_empty() && (r.resource, r.subresource) == ("pods", "resize");
    let pod = resized || is(r, Operation::Create, "", "pods");
    let claim = is(r, Operation::Create, "", "persistentvolumeclaims")
        || is(r, Operation::Update, "", "persistentvolumeclaims");
    if !pod && !claim {
        return Ok(());
    }
    let ranges = ranges(r, objects);
    let mut problems = Vec::new();
    if claim {
        let asked = Asked::of(r.object.pointer("/spec/resources").unwrap_or(&Value::Null));
        for limit in limits_of(&ranges, "PersistentVolumeClaim") {
            bounds(
                limit,
                "PersistentVolumeClaim",
                &Asked {
                    limits: BTreeMap::new(),
                    ..asked.clone()
                },
                false,
                &mut problems,
            );
        }
    } else {
        for limit in limits_of(&ranges, "Container") {
            for container in CONTAINER_LISTS
                .iter()
                .flat_map(|list| items(r.object, &format!("/spec/{list}")))
            {
                let asked = Asked::of(container.get("resources").unwrap_or(&Value::Null));
                bounds(limit, "Container", &asked, true, &mut problems);
            }
        }
        for limit in limits_of(&ranges, "Pod") {
            bounds(limit, "Pod", &Asked::of_pod(r.object), true, &mut problems);
        }
    }
    let mut seen = BTreeSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(forbidden(r, one)),
        many => Err(forbidden(r, &format!("[{}]", many.join(", ")))),
    }
}

#[derive(Clone, Default)]
struct Asked {
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

impl Asked {
    fn of(resources: &Value) -> Self {
        let read = |key: &str| {
            let given = resources.get(key).and_then(Value::as_object).into_iter().flatten();
            given
                .filter_map(|(name, quantity)| Some((name.clone(), super::quantity(quantity)?)))
                .collect()
        };
        Self {
            requests: read("requests"),
            limits: read("limits"),
        }
    }

    /// Sum of the containers, and of those init containers that go on beside them;
    /// the others run one after the other, so each only lifts the sum to its own
    /// size and that of those that were started before it.
    fn of_pod(pod: &Value) -> Self {
        let of = |container: &Value| Self::of(container.get("resources").unwrap_or(&Value::Null));
        let mut total = Self::default();
        for container in items(pod, "/spec/containers") {
            total.add(&of(container));
        }
        let (mut beside, mut most) = (Self::default(), Self::default());
        for container in items(pod, "/spec/initContainers") {
            let mut asked = of(container);
            if text(container, "/restartPolicy") == "Always" {
                total.add(&asked);
                beside.add(&asked);
                asked = beside.clone();
            } else {
                asked.add(&beside);
            }
            most.lift(&asked);
        }
        total.lift(&most);
        total
    }

    fn add(&mut self, other: &Self) {
        for (into, from) in [(&mut self.requests, &other.requests), (&mut self.limits, &other.limits)] {
            for (name, quantity) in from {
                let sum = into.entry(name.clone()).or_insert(Quantity::ZERO);
                *sum = *sum + *quantity;
            }
        }
    }

    /// To the larger of both.
    fn lift(&mut self, other: &Self) {
        for (into, from) in [(&mut self.requests, &other.requests), (&mut self.limits, &other.limits)] {
            for (name, quantity) in from {
                let most = into.entry(name.clone()).or_insert(Quantity::ZERO);
                *most = (*most).max(*quantity);
            }
        }
    }
}

/// `need_limit`: an upper bound also demands that a limit is given.
fn bounds(limit: &Value, kind: &str, asked: &Asked, need_limit: bool, problems: &mut Vec<String>) {
    let of = |key: &str, name: &str| limit.get(key).and_then(|map| map.get(name)).and_then(Value::as_str);
    let names: BTreeSet<&String> = ["min", "max", "maxLimitRequestRatio"]
        .iter()
        .filter_map(|key| limit.get(*key)?.as_object())
        .flat_map(Map::keys)
        .collect();
    for name in names {
        let (request, top) = (asked.requests.get(name), asked.limits.get(name));
        if let Some((shown, min)) = of("min", name).and_then(|text| Some((text, text.parse::<Quantity>().ok()?))) {
            let rule = format!("minimum {name} usage per {kind} is {shown}");
            match (request, top) {
                (None, _) => problems.push(format!("{rule}.  No request is specified")),
                (Some(request), _) if *request < min => problems.push(format!("{rule}, but request is {request}")),
                (_, Some(top)) if *top < min => problems.push(format!("{rule}, but limit is {top}")),
                _ => {}
            }
        }
        if let Some((shown, max)) = of("max", name).and_then(|text| Some((text, text.parse::<Quantity>().ok()?))) {
            let rule = format!("maximum {name} usage per {kind} is {shown}");
            match (request, top) {
                (_, None) if need_limit => problems.push(format!("{rule}.  No limit is specified")),
                (_, Some(top)) if *top > max => problems.push(format!("{rule}, but limit is {top}")),
                (Some(request), _) if *request > max => problems.push(format!("{rule}, but request is {request}")),
                _ => {}
            }
        }
        if let Some((shown, ratio)) =
            of("maxLimitRequestRatio", name).and_then(|text| Some((text, text.parse::<Quantity>().ok()?)))
        {
            let rule = format!("{name} max limit to request ratio per {kind} is {shown}");
            match (request, top) {
                (Some(request), _) if request.is_zero() => {
                    problems.push(format!("{rule}, but no request is specified or request is 0"))
                }
                (None, _) => problems.push(format!("{rule}, but no request is specified or request is 0")),
                (_, None) => problems.push(format!("{rule}, but no limit is specified or limit is 0")),
                (Some(request), Some(top)) => {
                    let actual = top.as_f64() / request.as_f64();
                    if actual > ratio.as_f64() {
                        problems.push(format!("{rule}, but provided ratio is {actual:.6}"));
                    }
                }
            }
        }
    }
}
