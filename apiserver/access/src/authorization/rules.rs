//! A policy rule: what it allows, and whether rules cover another one (which
//! decides privilege escalation). Pure.

use crate::contract::Attributes;
use crate::tree::texts;
use serde_json::{Value, json};
use std::collections::HashMap;

/// More single permissions than this in one rule are not compared one by one:
/// escalation checks refuse the rule instead of computing for minutes.
const SINGLE_PERMISSIONS_MAX: usize = 200_000;

/// `PolicyRule` of rbac.authorization.k8s.io.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub urls: Vec<String>,
}

impl Rule {
    pub fn from_value(value: &Value) -> Self {
        Self {
            verbs: texts(value, "/verbs"),
            groups: texts(value, "/apiGroups"),
            resources: texts(value, "/resources"),
            names: texts(value, "/resourceNames"),
            urls: texts(value, "/nonResourceURLs"),
        }
    }

    pub fn to_value(&self) -> Value {
        if !self.urls.is_empty() {
            return json!({"verbs": self.verbs, "nonResourceURLs": self.urls});
        }
        let mut value = json!({"verbs": self.verbs, "apiGroups": self.groups, "resources": self.resources});
        if !self.names.is_empty() {
            value["resourceNames"] = json!(self.names);
        }
        value
    }

    pub fn allows(&self, a: &Attributes) -> bool {
        if !any(&self.verbs, |verb| verb == "*" || verb == a.verb) {
            return false;
        }
        if !a.path.is_empty() {
            return any(&self.urls, |url| url_matches(url, a.path));
        }
        any(&self.groups, |group| group == "*" || group == a.group)
            && any(&self.resources, |resource| {
                resource_matches(resource, a.resource, a.subresource)
            })
            && (self.names.is_empty() || any(&self.names, |name| name == a.name))
    }

    /// As upstream prints a rule that somebody lacks.
    pub fn shown(&self) -> String {
        let list = |name: &str, items: &[String]| {
            (!items.is_empty()).then(|| {
                let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
                format!("{name}:[{}]", quoted.join(" "))
            })
        };
        let parts: Vec<String> = [
            list("APIGroups", &self.groups),
            list("Resources", &self.resources),
            list("NonResourceURLs", &self.urls),
            list("ResourceNames", &self.names),
            list("Verbs", &self.verbs),
        ]
        .into_iter()
        .flatten()
        .collect();
        format!("{{{}}}", parts.join(", "))
    }

    /// The rule as rules of one verb and one group, resource and name (or URL) each.
    /// `None`: too many.
    fn singles(&self) -> Option<Vec<Rule>> {
        let one = |item: &String| vec![item.clone()];
        let mut singles = Vec::new();
        let names: Vec<Vec<String>> = if self.names.is_empty() {
            vec![Vec::new()]
        } else {
            self.names.iter().map(one).collect()
        };
        let count = self.verbs.len().saturating_mul(
            self.groups
                .len()
                .saturating_mul(self.resources.len())
                .saturating_mul(names.len())
                .max(self.urls.len()),
        );
        if count > SINGLE_PERMISSIONS_MAX {
            return None;
        }
        for verb in &self.verbs {
            for url in &self.urls {
                singles.push(Rule {
                    verbs: one(verb),
                    urls: one(url),
                    ..Rule::default()
                });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    for names in &names {
                        let (groups, resources) = (one(group), one(resource));
                        singles.push(Rule {
                            verbs: one(verb),
                            groups,
                            resources,
                            names: names.clone(),
                            urls: Vec::new(),
                        });
                    }
                }
            }
        }
        Some(singles)
    }

    /// Whether this rule allows everything that a single permission allows.
    fn covers_single(&self, wanted: &Rule) -> bool {
        let has = |held: &[String], wanted: &[String]| wanted.iter().all(|w| any(held, |h| h == "*" || h == w));
        if !has(&self.verbs, &wanted.verbs) {
            return false;
        }
        if !wanted.urls.is_empty() {
            return wanted.urls.iter().all(|wanted| {
                any(&self.urls, |held| {
                    held == wanted || held.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix))
                })
            });
        }
        has(&self.groups, &wanted.groups)
            && wanted.resources.iter().all(|wanted| {
                any(&self.resources, |held| {
                    held == "*"
                        || held == wanted
                        || wanted
                            .split_once('/')
                            .is_some_and(|(_, sub)| held == &format!("*/{sub}"))
                })
            })
            && (self.names.is_empty()
                || (!wanted.names.is_empty() && wanted.names.iter().all(|name| self.names.contains(name))))
    }
}

/// Single permissions in `wanted` that no rule of `held` gives.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing = Vec::new();
    for rule in wanted {
        match rule.singles() {
            Some(singles) => missing.extend(
                singles
                    .into_iter()
                    .filter(|single| !held.iter().any(|h| h.covers_single(single))),
            ),
            None => missing.push(rule.clone()),
        }
    }
    missing
}

/// Rules about one group, resource and name taken together, in upstream's order.
pub fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut compacted: Vec<Rule> = Vec::new();
    let mut simple: HashMap<(String, String, Option<String>), usize> = HashMap::new();
    for rule in rules {
        let is_simple =
            rule.groups.len() == 1 && rule.resources.len() == 1 && rule.names.len() <= 1 && rule.urls.is_empty();
        if !is_simple {
            compacted.push(rule);
            continue;
        }
        let key = (
            rule.groups[0].clone(),
            rule.resources[0].clone(),
            rule.names.first().cloned(),
        );
        match simple.get(&key) {
            Some(&at) => {
                for verb in rule.verbs {
                    if !compacted[at].verbs.contains(&verb) {
                        compacted[at].verbs.push(verb);
                    }
                }
            }
            None => {
                simple.insert(key, compacted.len());
                compacted.push(rule);
            }
        }
    }
    let key = |rule: &Rule| {
        [&rule.verbs, &rule.groups, &rule.resources, &rule.names, &rule.urls].map(|items| items.join(" "))
    };
    compacted.sort_by_cached_key(key);
    compacted
}

fn any(items: &[String], test: impl Fn(&String) -> bool) -> bool {
    items.iter().any(test)
}

/// `*`, `pods`, `pods/log`, `*/scale`.
fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

/// `/healthz`, `/healthz/*`, `*`.
fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}
