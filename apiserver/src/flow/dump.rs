//! `/debug/api_priority_and_fairness/...`: what is in the levels and queues, for people.

use super::config::Flow;
use std::fmt::Write;
use std::sync::atomic::Ordering;

impl Flow {
    /// One of the pages; `None`: there is no such page.
    pub fn page(&self, name: &str) -> Option<String> {
        match name {
            "dump_priority_levels" => Some(self.levels_page()),
            "dump_queues" => Some(self.queues_page()),
            "dump_requests" => Some(
                "PriorityLevelName, FlowSchemaName, QueueIndex, RequestIndexInQueue, FlowDistingsher, ArriveTime, InitialSeats, FinalSeats, AdditionalLatency, StartTime\n"
                    .into(),
            ),
            _ => None,
        }
    }

    fn levels_page(&self) -> String {
        let mut out = String::from(
            "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests\n",
        );
        for row in self.balance.rows.load().iter() {
            let level = &row.level;
            let [limit, full, late] = [0, 1, 2].map(|n| level.refused[n].load(Ordering::Relaxed));
            let (waiting, running) = (level.waiting(), level.in_use());
            let active = level.shown(|queues| queues.shown().count());
            let _ = writeln!(
                out,
                "{}, {active}, {}, false, {waiting}, {running}, {}, {}, {late}, {}",
                level.name,
                waiting == 0 && running == 0,
                level.dispatched.load(Ordering::Relaxed),
                limit + full,
                level.cancelled.load(Ordering::Relaxed),
            );
        }
        out
    }

    fn queues_page(&self) -> String {
        let mut out = String::from(
            "PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse, NextDispatchR, InitialSeatsSum, MaxSeatsSum, TotalWorkSum\n",
        );
        for row in self.balance.rows.load().iter() {
            row.level.shown(|queues| {
                for (index, waiting, seats, running, served) in queues.shown() {
                    let _ = writeln!(
                        out,
                        "{}, {index}, {waiting}, {running}, {running}, {served:.8}ss, {seats}, {seats}, {seats}",
                        row.level.name
                    );
                }
            });
        }
        out
    }
}
