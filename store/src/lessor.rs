//! When leases end. Every server keeps these books, so that whoever leads next can
//! act on them; only the leader does. Deadlines are not replicated: a new leader, and
//! a server that starts, gives each lease its whole time again, as etcd does.
//!
//! Pure but for the wake-up: the time comes from the caller.

use crate::contract::{Lease, LeaseId};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

#[derive(Debug, Clone, Copy)]
struct Term {
    ttl: Duration,
    ends: Instant,
}

#[derive(Debug, Default)]
struct Books {
    terms: HashMap<LeaseId, Term>,
    /// No deadline is missing; one that was put off is found too early, and put back.
    queue: BinaryHeap<Reverse<(Instant, LeaseId)>>,
}

impl Books {
    fn begin(&mut self, lease: Lease, now: Instant) {
        let ttl = Duration::from_secs(u64::from(lease.ttl_s));
        let ends = now + ttl;
        self.terms.insert(lease.id, Term { ttl, ends });
        self.queue.push(Reverse((ends, lease.id)));
    }
}

/// A lease's time as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeToLive {
    pub granted: Duration,
    pub left: Duration,
}

#[derive(Debug, Default)]
pub struct Lessor {
    books: Mutex<Books>,
    /// The next deadline may be an earlier one.
    pub earlier: Notify,
}

impl Lessor {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew with these leases, each with its whole time.
    pub fn reset(&self, leases: impl Iterator<Item = Lease>, now: Instant) {
        let mut books = self.books();
        *books = Books::default();
        leases.for_each(|lease| books.begin(lease, now));
        self.earlier.notify_one();
    }

    pub fn granted(&self, lease: Lease, now: Instant) {
        self.books().begin(lease, now);
        self.earlier.notify_one();
    }

    pub fn revoked(&self, id: LeaseId) {
        self.books().terms.remove(&id);
    }

    /// Gives a lease its whole time again, and tells how long that is; `None` if it is not there.
    pub fn keep_alive(&self, id: LeaseId, now: Instant) -> Option<Duration> {
        let mut books = self.books();
        let term = books.terms.get_mut(&id)?;
        term.ends = now + term.ttl;
        Some(term.ttl)
    }

    pub fn time_to_live(&self, id: LeaseId, now: Instant) -> Option<TimeToLive> {
        let books = self.books();
        let term = books.terms.get(&id)?;
        Some(TimeToLive {
            granted: term.ttl,
            left: term.ends.saturating_duration_since(now),
        })
    }

    /// Leases whose time is over, and when the next one's is. Those returned stay in the
    /// books until they are revoked, and are returned again after `retry`.
    pub fn due(&self, now: Instant, retry: Duration) -> (Vec<LeaseId>, Option<Instant>) {
        let mut books = self.books();
        let mut due = Vec::new();
        while let Some(&Reverse((at, id))) = books.queue.peek() {
            if at > now {
                return (due, Some(at));
            }
            books.queue.pop();
            match books.terms.get(&id).map(|term| term.ends) {
                Some(ends) if ends > now => books.queue.push(Reverse((ends, id))),
                Some(_) => {
                    due.push(id);
                    books.queue.push(Reverse((now + retry, id)));
                }
                None => {}
            }
        }
        (due, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(1);

    fn lease(id: LeaseId, ttl_s: u32) -> Lease {
        Lease { id, ttl_s }
    }

    #[test]
    fn a_lease_ends_when_its_time_is_over_unless_kept_alive() {
        let (lessor, start) = (Lessor::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        lessor.granted(lease(1, 5), start);
        lessor.granted(lease(2, 3), start);
        assert_eq!(lessor.due(at(2), RETRY), (vec![], Some(at(3))));
        assert_eq!(lessor.keep_alive(2, at(2)), Some(Duration::from_secs(3)));
        assert_eq!(lessor.due(at(3), RETRY), (vec![], Some(at(5))));
        let left = lessor.time_to_live(2, at(3)).map(|t| t.left);
        assert_eq!(left, Some(Duration::from_secs(2)));
        assert_eq!(lessor.due(at(5), RETRY).0, [1, 2]);
        lessor.revoked(1);
        assert_eq!(lessor.keep_alive(1, at(5)), None);
        // Whoever could not be revoked is due again, until it is.
        assert_eq!(lessor.due(at(6), RETRY), (vec![2], Some(at(7))));
        lessor.revoked(2);
        assert_eq!(lessor.due(at(9), RETRY), (vec![], None));
    }

    #[test]
    fn a_new_leader_gives_each_its_whole_time() {
        let (lessor, start) = (Lessor::default(), Instant::now());
        lessor.granted(lease(1, 5), start);
        let later = start + Duration::from_secs(4);
        lessor.reset([lease(1, 5)].into_iter(), later);
        assert_eq!(lessor.due(start + Duration::from_secs(6), RETRY).0, []);
        assert_eq!(lessor.due(start + Duration::from_secs(9), RETRY).0, [1]);
    }
}
