//! The node's book of what is granted to whom: who is admitted, whose resize fits, and
//! who waits for room. Decides and remembers; reads nothing.

use crate::pod::resources::quantity::of_milli;
use crate::pod::resources::sums::{self, Sums};
use crate::pod::resources::{Qos, qos};
use crate::pod::spec;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Granted,
    /// Tried again when another pod gives room.
    Deferred(String),
    /// This node will never be able to.
    Infeasible(String),
}

/// Why a pod may not run here: reason and message.
pub type Refusal = (String, String);

/// What wakes the worker of a pod whose resize waits.
pub type Wake = Box<dyn Fn() + Send>;

struct Waiting {
    /// Higher priority first, then Guaranteed before others, then who waits longest.
    rank: (std::cmp::Reverse<i32>, bool, u64),
    wake: Wake,
}

#[derive(Default)]
struct Book {
    allocatable: Sums,
    granted: BTreeMap<String, Sums>,
    burstable: BTreeMap<String, i128>,
    waiting: BTreeMap<String, Waiting>,
    turn: u64,
}

#[derive(Default)]
pub struct Ledger {
    book: Mutex<Book>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Book {
    fn used(&self, name: &str, but: &str) -> i128 {
        let others = self.granted.iter().filter(|(uid, _)| *uid != but);
        others.filter_map(|(_, sums)| sums.get(name)).sum()
    }

    /// The first resource that this pod's requests do not fit into.
    fn short(&self, uid: &str, wanted: &Sums) -> Option<Refusal> {
        let count = self.granted.keys().filter(|other| *other != uid).count();
        let room = self.allocatable.get("pods").map_or(i64::MAX, |milli| of_milli(*milli));
        if i64::try_from(count).unwrap_or(i64::MAX) >= room {
            return Some(refusal("pods", 1, i64::try_from(count).unwrap_or(i64::MAX), room));
        }
        for (name, wanted) in wanted.iter().filter(|(_, wanted)| **wanted > 0) {
            // What nobody has told the node of is not the node's to refuse.
            let Some(capacity) = self.allocatable.get(name) else {
                continue;
            };
            let used = self.used(name, uid);
            if used + wanted > *capacity {
                let (unit, used, capacity) = (in_unit(name, *wanted), in_unit(name, used), in_unit(name, *capacity));
                return Some(refusal(name, unit, used, capacity));
            }
        }
        None
    }

    fn write(&mut self, uid: &str, spec: &PodSpec, requests: Sums) {
        self.burstable.remove(uid);
        if qos(spec) == Qos::Burstable {
            let cpu = requests.get("cpu").copied().unwrap_or(0);
            self.burstable.insert(uid.to_owned(), cpu);
        }
        self.granted.insert(uid.to_owned(), requests);
    }

    fn wake(&self) {
        let mut all: Vec<&Waiting> = self.waiting.values().collect();
        all.sort_by_key(|w| w.rank);
        for waiting in all {
            (waiting.wake)();
        }
    }
}

/// From thousandths to what is told: CPU stays, all else is whole.
pub fn in_unit(name: &str, milli: i128) -> i64 {
    match name {
        "cpu" => i64::try_from(milli).unwrap_or(i64::MAX),
        _ => of_milli(milli),
    }
}

fn refusal(name: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    let message =
        format!("Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}");
    (format!("OutOf{name}"), message)
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Book> {
        // A panic while holding it left maps that are still whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What pods may have of this node. Wakes who waits.
    pub fn set_allocatable(&self, allocatable: Sums) {
        let mut book = self.lock();
        if book.allocatable != allocatable {
            book.allocatable = allocatable;
            book.wake();
        }
    }

    /// What pods may have of one resource, whole or, of CPU, in thousandths.
    pub fn allocatable(&self, name: &str) -> Option<i64> {
        let book = self.lock();
        book.allocatable.get(name).map(|milli| in_unit(name, *milli))
    }

    /// Enters a pod that runs already.
    pub fn enter(&self, pod: &Pod) {
        if let Some(spec) = &pod.spec {
            self.lock().write(spec::uid(pod), spec, sums::requests(spec));
        }
    }

    /// Enters a pod that is new here, if it fits.
    pub fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let mut book = self.lock();
        let wanted = sums::requests(spec);
        match book.short(spec::uid(pod), &wanted) {
            Some(refusal) => Err(refusal),
            None => {
                book.write(spec::uid(pod), spec, wanted);
                Ok(())
            }
        }
    }

    /// What a pod that does not fit asks for more than there is, in thousandths by resource.
    pub fn missing(&self, pod: &Pod) -> Sums {
        let Some(spec) = &pod.spec else { return Sums::new() };
        let (book, uid) = (self.lock(), spec::uid(pod));
        let mut wanted = sums::requests(spec);
        wanted.retain(|_, milli| *milli > 0);
        let others = book.granted.keys().filter(|other| *other != uid).count();
        let over = |name: &String, wanted: i128| {
            let used = match name.as_str() {
                "pods" => i128::try_from(others).unwrap_or(i128::MAX / 1_000) * 1_000,
                name => book.used(name, uid),
            };
            Some(used + wanted - book.allocatable.get(name)?)
        };
        wanted.insert("pods".to_owned(), 1_000);
        let each = wanted
            .iter()
            .filter_map(|(name, milli)| Some((name.clone(), over(name, *milli)?)));
        each.filter(|(_, missing)| *missing > 0).collect()
    }

    /// What the pod was granted, if it is in the book.
    pub fn granted(&self, uid: &str) -> Option<Sums> {
        self.lock().granted.get(uid).cloned()
    }

    /// Grants the pod what its specification asks for, if that fits beside the others.
    pub fn resize(&self, pod: &Pod) -> Verdict {
        let Some(spec) = &pod.spec else {
            return Verdict::Granted;
        };
        let uid = spec::uid(pod);
        let wanted = sums::requests(spec);
        let mut book = self.lock();
        for name in ["memory", "cpu"] {
            let asked = wanted.get(name).copied().unwrap_or(0);
            let Some(capacity) = book.allocatable.get(name).filter(|capacity| asked > **capacity) else {
                continue;
            };
            let (asked, capacity) = (in_unit(name, asked), in_unit(name, *capacity));
            return Verdict::Infeasible(format!(
                "Node didn't have enough capacity: {name}, requested: {asked}, capacity: {capacity}"
            ));
        }
        if let Some((_, message)) = book.short(uid, &wanted) {
            return Verdict::Deferred(message);
        }
        let gives = |name: &str| {
            let old = book.granted.get(uid).and_then(|sums| sums.get(name)).copied();
            wanted.get(name).copied().unwrap_or(0) < old.unwrap_or(0)
        };
        let gives = gives("cpu") || gives("memory");
        book.write(uid, spec, wanted);
        book.waiting.remove(uid);
        if gives {
            book.wake();
        }
        Verdict::Granted
    }

    /// Wakes this pod when another gives room.
    pub fn wait(&self, pod: &Pod, wake: Wake) {
        let Some(spec) = &pod.spec else { return };
        let mut book = self.lock();
        book.turn += 1;
        let turn = book.waiting.get(spec::uid(pod)).map_or(book.turn, |w| w.rank.2);
        let rank = (
            std::cmp::Reverse(spec.priority.unwrap_or(0)),
            qos(spec) != Qos::Guaranteed,
            turn,
        );
        book.waiting.insert(spec::uid(pod).to_owned(), Waiting { rank, wake });
    }

    pub fn stop_waiting(&self, uid: &str) {
        self.lock().waiting.remove(uid);
    }

    /// The pod uses nothing any more. Wakes who waits.
    pub fn release(&self, uid: &str) {
        let mut book = self.lock();
        book.waiting.remove(uid);
        book.burstable.remove(uid);
        if book.granted.remove(uid).is_some() {
            book.wake();
        }
    }

    /// Whether the pod is in the book.
    pub fn holds(&self, uid: &str) -> bool {
        self.lock().granted.contains_key(uid)
    }

    /// The CPU that all Burstable pods ask for, in thousandths.
    pub fn burstable_cpu_milli(&self) -> i64 {
        i64::try_from(self.lock().burstable.values().sum::<i128>()).unwrap_or(i64::MAX / 1_024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn pod(uid: &str, cpu: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": cpu, "example.com/gpu": "1"}}}]}}))
        .expect("valid")
    }

    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        let milli = |text: &str| crate::pod::resources::milli(text).expect("a quantity");
        ledger.set_allocatable(Sums::from([
            ("cpu".into(), milli("2")),
            ("memory".into(), milli("1Gi")),
            ("pods".into(), milli("3")),
        ]));
        ledger
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ledger = ledger();
        assert_eq!(
            ledger.admit(&pod("a", "1500m")),
            Ok(()),
            "unknown resources are not refused"
        );
        let message = "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000";
        assert_eq!(
            ledger.admit(&pod("b", "600m")),
            Err(("OutOfcpu".into(), message.into()))
        );
        assert_eq!(
            ledger.admit(&pod("a", "1500m")),
            Ok(()),
            "a pod does not stand in its own way"
        );
        assert_eq!(ledger.burstable_cpu_milli(), 1_500);
        for uid in ["c", "d"] {
            assert_eq!(ledger.admit(&pod(uid, "1m")), Ok(()));
        }
        let message = "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3";
        assert_eq!(ledger.admit(&pod("e", "1m")), Err(("OutOfpods".into(), message.into())));
        assert_eq!(
            ledger.missing(&pod("e", "700m")),
            Sums::from([("cpu".into(), 202), ("pods".into(), 1_000)])
        );
        ledger.release("c");
        assert_eq!(ledger.admit(&pod("e", "1m")), Ok(()));
    }

    #[test]
    fn a_resize_waits_for_room() {
        let ledger = ledger();
        let woken = Arc::new(AtomicU32::new(0));
        assert_eq!(
            (ledger.admit(&pod("a", "1")), ledger.admit(&pod("b", "500m"))),
            (Ok(()), Ok(()))
        );
        let message = "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000";
        assert_eq!(ledger.resize(&pod("b", "3")), Verdict::Infeasible(message.into()));
        let message = "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000";
        assert_eq!(ledger.resize(&pod("b", "1500m")), Verdict::Deferred(message.into()));
        let count = woken.clone();
        let wake = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        ledger.wait(&pod("b", "1500m"), Box::new(wake));
        assert_eq!(ledger.resize(&pod("a", "1")), Verdict::Granted);
        assert_eq!(woken.load(Ordering::SeqCst), 0, "no room was given");
        assert_eq!(ledger.resize(&pod("a", "250m")), Verdict::Granted);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(ledger.resize(&pod("b", "1500m")), Verdict::Granted);
        ledger.release("a");
        assert_eq!(woken.load(Ordering::SeqCst), 1, "who was granted waits no more");
    }

    #[test]
    fn the_most_important_is_woken_first() {
        let ledger = ledger();
        let order = Arc::new(Mutex::new(Vec::new()));
        for (uid, priority) in [("low", 1), ("first", 5), ("second", 5)] {
            let mut pod = pod(uid, "1");
            pod.spec.as_mut().expect("given").priority = Some(priority);
            let order = order.clone();
            ledger.wait(&pod, Box::new(move || order.lock().expect("whole").push(uid)));
        }
        assert_eq!(ledger.admit(&pod("x", "1")), Ok(()));
        ledger.release("x");
        assert_eq!(*order.lock().expect("whole"), ["first", "second", "low"]);
    }
}
