//! Ranges of service addresses: which of the ServiceCIDRs can be taken from, and
//! what each of them needs (a finalizer, a condition, or to go).
//! Source: <https://kubernetes.io/docs/tasks/network/extend-service-ip-ranges/>.
//!
//! ```text
//! changes of ServiceCIDRs and IPAddresses ──> next() per ServiceCIDR ──> one write
//! ```

use crate::handler::Change;
use crate::registry::{built_in, deletion_timestamp, prefix_of, text_at};
use crate::respond;
use crate::server::ApiServer;
use ipnet::IpNet;
use serde_json::{Value, json};
use skiff_access::Objects;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) const GROUP: &str = "networking.k8s.io";
/// The range of the configuration.
pub(super) const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// How long after a failure to look again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

fn cidrs(range: &Value) -> impl Iterator<Item = IpNet> {
    let texts = range["spec"]["cidrs"].as_array().into_iter().flatten();
    texts.filter_map(|cidr| cidr.as_str()?.parse().ok())
}

/// Ready unless it says otherwise, and not on its way out.
fn is_usable(range: &Value) -> bool {
    let mut conditions = range["status"]["conditions"].as_array().into_iter().flatten();
    let unready = conditions.any(|c| c["type"] == "Ready" && c["status"] != "True");
    !unready && deletion_timestamp(range).is_none()
}

/// What addresses can be taken from now: the configured ranges first.
pub(super) fn usable(configured: &[IpNet], ranges: &[Arc<Value>]) -> Vec<IpNet> {
    let all: Vec<IpNet> = ranges.iter().filter(|r| is_usable(r)).flat_map(|r| cidrs(r)).collect();
    let mut usable: Vec<IpNet> = configured.to_vec();
    usable.extend(all.iter().filter(|net| !configured.contains(net)));
    usable
}

/// Whether no address of the range would be left without one.
fn may_go(range: &Value, others: &[&Value], addresses: &[IpAddr]) -> bool {
    let stays: Vec<IpNet> = others
        .iter()
        .filter(|o| deletion_timestamp(o).is_none())
        .flat_map(|o| cidrs(o))
        .collect();
    cidrs(range)
        .filter(|net| !stays.iter().any(|s| s.contains(net)))
        .all(|net| {
            let mut inside = addresses.iter().filter(|ip| net.contains(*ip));
            inside.all(|ip| stays.iter().any(|s| s.contains(ip)))
        })
}

/// The ServiceCIDR as it should be; `None` if it is. Pure.
fn next(range: &Value, others: &[&Value], addresses: &[IpAddr], now: &str) -> Option<Value> {
    let mut new = range.clone();
    let finalizers = new["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let held = finalizers.iter().any(|f| f == FINALIZER);
    if deletion_timestamp(range).is_none() {
        if !held {
            let mut finalizers = finalizers;
            finalizers.push(FINALIZER.into());
            new["metadata"]["finalizers"] = finalizers.into();
        }
        let message = match text_at(range, &["metadata", "name"]) {
            DEFAULT => "Kubernetes default Service CIDR is ready",
            _ => "Kubernetes Service CIDR is ready",
        };
        ready(&mut new, "True", "", message, now);
    } else if held && may_go(range, others, addresses) {
        let rest: Vec<Value> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
        new["metadata"]["finalizers"] = rest.into();
    } else if held {
        let why =
            "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        ready(&mut new, "False", "Terminating", why, now);
    }
    (new != *range).then_some(new)
}

/// Sets the condition unless it says so already.
fn ready(range: &mut Value, status: &str, reason: &str, message: &str, now: &str) {
    let condition =
        json!({"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    if !range["status"]["conditions"].is_array() {
        range["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = range["status"]["conditions"].as_array_mut() else {
        return;
    };
    match conditions.iter_mut().find(|c| c["type"] == "Ready") {
        Some(old) if old["status"] == status => {}
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

impl ApiServer {
    /// Looks after the ServiceCIDRs whenever one of them or an address changes.
    pub(crate) fn start_keeping_ranges(self: &Arc<Self>) {
        let (Ok(ranges), Ok(addresses)) = (built_in(GROUP, "servicecidrs"), built_in(GROUP, "ipaddresses")) else {
            return;
        };
        let (server, closing) = (Arc::downgrade(self), self.closing.clone());
        tokio::spawn(async move {
            loop {
                let Some(this) = server.upgrade() else { return };
                let revision = this.store.snapshot().revision();
                let done = this.keep_ranges().await;
                let watches = [ranges, addresses].map(|kind| this.store.watch(prefix_of(kind, ""), revision));
                drop(this);
                let changed = async {
                    match (done, watches) {
                        (true, [Ok(mut ranges), Ok(mut addresses)]) => {
                            tokio::select! {
                                _ = ranges.next() => {}
                                _ = addresses.next() => {}
                            }
                        }
                        _ => tokio::time::sleep(RETRY_AFTER).await,
                    }
                };
                tokio::select! {
                    () = closing.cancelled() => return,
                    () = changed => {}
                }
            }
        });
    }

    /// Whether all went well.
    async fn keep_ranges(&self) -> bool {
        let Ok(kind) = built_in(GROUP, "servicecidrs") else {
            return true;
        };
        let names: Vec<String> = {
            let objects = self.objects(self.store.snapshot());
            let pending = pending(&objects, &respond::now_text());
            pending
                .iter()
                .map(|range| text_at(range, &["metadata", "name"]).to_string())
                .collect()
        };
        let mut fine = true;
        for name in names {
            let written = self
                .modify(kind, "", &name, false, |_, objects| {
                    let mut pending = pending(objects, &respond::now_text());
                    pending.retain(|range| text_at(range, &["metadata", "name"]) == name);
                    Ok(match pending.pop() {
                        Some(new) if is_over(&new) => Change::Remove(new, Vec::new(), Vec::new()),
                        Some(new) => Change::Write(new),
                        None => Change::Keep,
                    })
                })
                .await;
            if let Err(error) = written
                .map(drop)
                .or_else(|e| if e.reason == "NotFound" { Ok(()) } else { Err(e) })
            {
                tracing::warn!(name, %error, "could not look after a ServiceCIDR; trying again");
                fine = false;
            }
        }
        fine
    }
}

/// Every ServiceCIDR that needs something, as it should be.
fn pending(objects: &dyn Objects, now: &str) -> Vec<Value> {
    let ranges = objects.list(GROUP, "servicecidrs", "");
    let addresses: Vec<IpAddr> = objects
        .list(GROUP, "ipaddresses", "")
        .iter()
        .filter(|a| a["metadata"]["labels"][MANAGED_BY] == "ipallocator.k8s.io")
        .filter_map(|a| text_at(a, &["metadata", "name"]).parse().ok())
        .collect();
    let needs = ranges.iter().enumerate().filter_map(|(i, range)| {
        let others = ranges.iter().enumerate().filter(|(j, _)| i != *j);
        let others: Vec<&Value> = others.map(|(_, other)| other.as_ref()).collect();
        next(range, &others, &addresses, now)
    });
    needs.collect()
}

/// Deleted, and nothing holds it any more.
fn is_over(object: &Value) -> bool {
    deletion_timestamp(object).is_some() && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidr: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}})
    }

    #[test]
    fn new_ranges_become_ready_once() {
        let new = next(&range("a", "10.0.0.0/24"), &[], &[], "t").unwrap();
        assert_eq!(new["metadata"]["finalizers"], json!([FINALIZER]));
        assert_eq!(
            new["status"]["conditions"],
            json!([{"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": "t"}])
        );
        assert_eq!(next(&new, &[], &[], "u"), None);
    }

    #[test]
    fn ranges_in_use_stay() {
        let mut going = next(&range("a", "10.0.0.0/24"), &[], &[], "t").unwrap();
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let used: [IpAddr; 1] = ["10.0.0.7".parse().unwrap()];
        let kept = next(&going, &[], &used, "u").unwrap();
        assert_eq!(kept["status"]["conditions"][0]["reason"], "Terminating");
        assert_eq!(next(&kept, &[], &used, "v"), None);
        assert!(!is_over(&kept));
        let wider = range("b", "10.0.0.0/16");
        let free = [
            next(&kept, &[], &[], "v").unwrap(),
            next(&kept, &[&wider], &used, "v").unwrap(),
            next(&kept, &[&range("c", "10.0.0.0/29")], &used, "v").unwrap(),
        ];
        assert!(free.iter().all(is_over), "{free:?}");
        let mut leaving = wider.clone();
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(
            next(&kept, &[&leaving], &used, "v"),
            None,
            "both would leave it without a range"
        );
    }

    #[test]
    fn only_ready_ranges_give_addresses() {
        let configured: Vec<IpNet> = vec!["10.96.0.0/16".parse().unwrap()];
        let mut unready = range("b", "10.2.0.0/24");
        unready["status"] = json!({"conditions": [{"type": "Ready", "status": "False"}]});
        let ranges = [range("kubernetes", "10.96.0.0/16"), range("a", "10.1.0.0/24"), unready].map(Arc::new);
        let shown: Vec<String> = usable(&configured, &ranges).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.96.0.0/16", "10.1.0.0/24"]);
    }
}
