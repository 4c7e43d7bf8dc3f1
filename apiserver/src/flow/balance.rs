//! Seats lent and borrowed between levels. Nothing runs while nobody lacks seats:
//! the division is made anew when a request finds its level full, and while some wait.

use super::level::Level;
use super::shares::{Bounds, divide};
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

/// While requests wait, seats are divided anew no more often than this.
const EVERY: Duration = Duration::from_millis(20);

/// A level and the bounds of its seats.
pub struct Row {
    pub level: Arc<Level>,
    pub bounds: Bounds,
}

pub struct Balance {
    total: u32,
    /// How long a request waits for a seat.
    pub wait_max: Duration,
    pub rows: ArcSwap<Vec<Row>>,
    last: Mutex<Option<Instant>>,
}

impl Balance {
    pub fn total(&self) -> u32 {
        self.total
    }

    pub fn new(total: u32, wait_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            total,
            wait_max,
            rows: ArcSwap::default(),
            last: Mutex::new(None),
        })
    }

    /// For a level that lacks seats: at once if it lacks what is its own, else now and then.
    pub fn divide(&self, level: &Level) {
        let rows = self.rows.load();
        let own = rows.iter().find(|row| std::ptr::eq(&*row.level, level));
        match own {
            Some(row) if level.limit() < row.bounds.nominal => self.run(&rows, true),
            _ => self.run(&rows, false),
        }
    }

    pub fn divide_now_and_then(&self) {
        self.run(&self.rows.load(), false);
    }

    /// The configuration changed.
    pub fn reset(&self, rows: Vec<Row>) {
        for row in &rows {
            row.level.set_limit(row.bounds.nominal);
        }
        self.rows.store(Arc::new(rows));
    }

    fn run(&self, rows: &[Row], now: bool) {
        let mut last = match self.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(last)) => last.into_inner(),
            // Somebody is at it.
            Err(TryLockError::WouldBlock) => return,
        };
        if !now && last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        let limited: Vec<&Row> = rows.iter().filter(|row| !row.level.exempt).collect();
        let bounds: Vec<Bounds> = limited.iter().map(|row| row.bounds).collect();
        // One more than is known of: whoever asks for a division lacks a seat.
        let demands: Vec<u32> = limited
            .iter()
            .map(|row| match row.level.demand() {
                0 => 0,
                demand => demand.saturating_add(1),
            })
            .collect();
        for (row, seats) in limited.iter().zip(divide(&bounds, &demands, self.total)) {
            row.level.set_limit(seats);
        }
        *last = Some(Instant::now());
    }
}
