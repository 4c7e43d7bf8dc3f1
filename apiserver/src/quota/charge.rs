//! What a write does to the quotas of its namespace: refused, or booked. Pure.

use super::scope;
use super::usage::{self, Amounts};
use serde_json::{Value, json};
use skiff_api::quantity::Quantity;
use std::collections::BTreeSet;

/// A write of one object: `old` is what is stored, `new` what will be.
pub(crate) struct Write<'a> {
    pub group: &'a str,
    pub plural: &'a str,
    pub old: Option<&'a Value>,
    pub new: Option<&'a Value>,
}

impl Write<'_> {
    fn used(&self, quota: &Value, object: Option<&Value>, hard: &Amounts) -> Amounts {
        let Some(object) = object.filter(|o| scope::matches(quota, self.group, self.plural, o)) else {
            return Amounts::new();
        };
        let mut used = usage::usage(self.group, self.plural, object);
        used.retain(|name, _| hard.contains_key(name));
        used
    }
}

/// The quota's new status, `None` if the write does not touch it, or why the
/// quota forbids the write.
pub(crate) fn charge(quota: &Value, write: &Write<'_>) -> Result<Option<Value>, String> {
    // A status that nobody has counted yet is counted when the quota is.
    let hard = usage::amounts(&quota["status"]["hard"]);
    let name = quota["metadata"]["name"].as_str().unwrap_or("");
    let before = write.used(quota, write.old, &hard);
    let after = write.used(quota, write.new, &hard);
    if write.old.is_none()
        && (write.group, write.plural) == ("", "pods")
        && let Some(pod) = write.new.filter(|pod| scope::matches(quota, "", "pods", pod))
        && let Some(missing) = usage::unstated(pod, &hard)
    {
        return Err(format!("failed quota: {name}: {missing}"));
    }
    let mut used = usage::amounts(&quota["status"]["used"]);
    let (mut requested, mut present, mut limited) = (Vec::new(), Vec::new(), Vec::new());
    let mut changed = false;
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for resource in names {
        let of = |amounts: &Amounts| amounts.get(resource).copied().unwrap_or(Quantity::ZERO);
        let delta = of(&after) - of(&before);
        if delta.is_zero() {
            continue;
        }
        let now = of(&used);
        let next = (now + delta).max(Quantity::ZERO);
        if delta > Quantity::ZERO && next > of(&hard) {
            requested.push(format!("{resource}={delta}"));
            present.push(format!("{resource}={now}"));
            limited.push(format!("{resource}={}", of(&hard)));
        }
        used.insert(resource.clone(), next);
        changed = true;
    }
    if !requested.is_empty() {
        return Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            requested.join(","),
            present.join(","),
            limited.join(",")
        ));
    }
    let status = || json!({"hard": quota["status"]["hard"], "used": usage::to_value(&used)});
    Ok(changed.then(status))
}

/// The status of a quota counted anew: `objects_of` lists the namespace's
/// objects of a kind.
pub(crate) fn recount<F, O>(quota: &Value, mut objects_of: F) -> Value
where
    F: FnMut(&str, &str) -> Vec<O>,
    O: AsRef<Value>,
{
    let hard = usage::amounts(&quota["spec"]["hard"]);
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
    let kinds: BTreeSet<(&str, &str)> = hard.keys().map(|name| usage::counted_kind(name)).collect();
    for (group, plural) in kinds {
        for object in objects_of(group, plural) {
            let object = object.as_ref();
            if !scope::matches(quota, group, plural, object) {
                continue;
            }
            for (name, amount) in usage::usage(group, plural, object) {
                if hard.contains_key(&name) {
                    usage::add(&mut used, &name, amount);
                }
            }
        }
    }
    json!({"hard": usage::to_value(&hard), "used": usage::to_value(&used)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn write<'a>(plural: &'a str, old: Option<&'a Value>, new: Option<&'a Value>) -> Write<'a> {
        Write {
            group: "",
            plural,
            old,
            new,
        }
    }

    #[test]
    fn a_quota_books_and_refuses() {
        let quota = json!({"metadata": {"name": "q"}, "spec": {},
            "status": {"hard": {"pods": "2", "requests.cpu": "1"}, "used": {"pods": "1", "requests.cpu": "600m"}}});
        let pod = |cpu: &str, phase: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}, "status": {"phase": phase}});
        let small = pod("400m", "Pending");
        let status = charge(&quota, &write("pods", None, Some(&small))).unwrap().unwrap();
        assert_eq!(status["used"], json!({"pods": "2", "requests.cpu": "1"}));
        assert_eq!(
            charge(&quota, &write("pods", None, Some(&pod("500m", "")))).unwrap_err(),
            "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
        );
        let done = pod("400m", "Succeeded");
        let status = charge(&quota, &write("pods", Some(&small), Some(&done)))
            .unwrap()
            .unwrap();
        assert_eq!(status["used"], json!({"pods": "0", "requests.cpu": "200m"}));
        assert_eq!(charge(&quota, &write("secrets", None, Some(&json!({})))).unwrap(), None);
        let bare = json!({"spec": {"containers": [{"name": "c"}]}});
        assert_eq!(
            charge(&quota, &write("pods", None, Some(&bare))).unwrap_err(),
            "failed quota: q: must specify requests.cpu for: c"
        );
        // Also where it counts nothing else of the pod.
        let mut only = quota.clone();
        only["status"] = json!({"hard": {"requests.cpu": "1"}, "used": {"requests.cpu": "0"}});
        assert!(charge(&only, &write("pods", None, Some(&bare))).is_err());
        only["spec"]["scopes"] = json!(["Terminating"]);
        assert_eq!(charge(&only, &write("pods", None, Some(&bare))).unwrap(), None);
    }

    #[test]
    fn a_recount_starts_from_nothing() {
        let quota = json!({"spec": {"hard": {"pods": "5", "count/deployments.apps": "1"}}});
        let status = recount(&quota, |_, plural| match plural {
            "pods" => vec![Arc::new(json!({"spec": {}})), Arc::new(json!({"spec": {}}))],
            _ => Vec::new(),
        });
        assert_eq!(status["used"], json!({"count/deployments.apps": "0", "pods": "2"}));
        assert_eq!(status["hard"], json!({"count/deployments.apps": "1", "pods": "5"}));
    }
}
