//! Figures that are not on every request's way: by name and labels, made when they
//! are first counted.

use super::text::{Histogram, Page};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of one family; labels that clients choose must not fill the memory.
const ROWS_MAX: usize = 5_000;

/// One family of figures.
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    /// In the order of their names.
    pub labels: &'static [&'static str],
    /// Of a histogram; empty: a counter, or a gauge where it is set.
    pub buckets: &'static [f64],
}

#[derive(Clone)]
enum Cell {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicI64>),
    Histogram(Arc<Histogram>),
}

struct Rows {
    family: &'static Family,
    cells: BTreeMap<Vec<String>, Cell>,
}

#[derive(Default)]
pub struct Families {
    by_name: Mutex<BTreeMap<&'static str, Rows>>,
}

impl Families {
    /// Counts one more.
    pub fn count(&self, family: &'static Family, labels: &[&str]) {
        self.add(family, labels, 1);
    }

    /// Counts so many more.
    pub fn add(&self, family: &'static Family, labels: &[&str], more: u64) {
        let new = || Cell::Counter(Arc::default());
        if let Some(Cell::Counter(count)) = self.cell(family, labels, new) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Says how many there are now.
    pub fn set(&self, family: &'static Family, labels: &[&str], value: i64) {
        let new = || Cell::Gauge(Arc::default());
        if let Some(Cell::Gauge(gauge)) = self.cell(family, labels, new) {
            gauge.store(value, Ordering::Relaxed);
        }
    }

    /// The row is not shown any more: what it was about is gone.
    pub fn forget(&self, family: &'static Family, labels: &[&str]) {
        let mut all = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = all.get_mut(family.name) {
            let key: Vec<String> = labels.iter().map(ToString::to_string).collect();
            rows.cells.remove(&key);
        }
    }

    /// Takes note of a duration (or another amount).
    pub fn observe(&self, family: &'static Family, labels: &[&str], value: f64) {
        let new = || Cell::Histogram(Arc::new(Histogram::new(family.buckets, 1e6)));
        if let Some(Cell::Histogram(histogram)) = self.cell(family, labels, new) {
            histogram.observe(value);
        }
    }

    /// The row itself, for those who count often; beyond the limit of rows, one that is not shown.
    pub fn counter(&self, family: &'static Family, labels: &[&str]) -> Arc<AtomicU64> {
        match self.cell(family, labels, || Cell::Counter(Arc::default())) {
            Some(Cell::Counter(count)) => count,
            _ => Arc::default(),
        }
    }

    /// As [`Families::counter`].
    pub fn gauge(&self, family: &'static Family, labels: &[&str]) -> Arc<AtomicI64> {
        match self.cell(family, labels, || Cell::Gauge(Arc::default())) {
            Some(Cell::Gauge(gauge)) => gauge,
            _ => Arc::default(),
        }
    }

    /// As [`Families::counter`].
    pub fn histogram(&self, family: &'static Family, labels: &[&str]) -> Arc<Histogram> {
        let new = || Arc::new(Histogram::new(family.buckets, 1e6));
        match self.cell(family, labels, || Cell::Histogram(new())) {
            Some(Cell::Histogram(histogram)) => histogram,
            _ => new(),
        }
    }

    fn cell(&self, family: &'static Family, labels: &[&str], new: impl Fn() -> Cell) -> Option<Cell> {
        let mut all = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = all.entry(family.name).or_insert_with(|| Rows {
            family,
            cells: BTreeMap::new(),
        });
        let key: Vec<String> = labels.iter().map(ToString::to_string).collect();
        if !rows.cells.contains_key(&key) && rows.cells.len() >= ROWS_MAX {
            return None;
        }
        Some(rows.cells.entry(key).or_insert_with(new).clone())
    }

    pub fn write(&self, page: &mut Page) {
        let all = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        for Rows { family, cells } in all.values() {
            let kind = match cells.values().next() {
                None => continue,
                Some(Cell::Counter(_)) => "counter",
                Some(Cell::Gauge(_)) => "gauge",
                Some(Cell::Histogram(_)) => "histogram",
            };
            page.family(family.name, kind, family.help);
            for (values, cell) in cells {
                let labels: Vec<(&str, &str)> = family
                    .labels
                    .iter()
                    .copied()
                    .zip(values.iter().map(String::as_str))
                    .collect();
                match cell {
                    Cell::Counter(count) => page.sample(family.name, &labels, count.load(Ordering::Relaxed)),
                    Cell::Gauge(gauge) => page.sample(family.name, &labels, gauge.load(Ordering::Relaxed)),
                    Cell::Histogram(histogram) => page.histogram(family.name, &labels, histogram),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: Family = Family {
        name: "some_total",
        help: "Some.",
        labels: &["a", "b"],
        buckets: &[],
    };
    const TIMED: Family = Family {
        name: "some_seconds",
        help: "Some time.",
        labels: &["a"],
        buckets: &[0.5],
    };

    #[test]
    fn a_gauge_says_what_it_was_set_to_until_forgotten() {
        const NOW: Family = Family {
            name: "some",
            help: "Some now.",
            labels: &["a"],
            buckets: &[],
        };
        let families = Families::default();
        families.set(&NOW, &["x"], 5);
        families.set(&NOW, &["x"], -3);
        let text = || {
            let mut page = Page::default();
            families.write(&mut page);
            page.finish()
        };
        assert_eq!(text(), "# HELP some Some now.\n# TYPE some gauge\nsome{a=\"x\"} -3\n");
        families.forget(&NOW, &["x"]);
        assert_eq!(text(), "");
    }

    #[test]
    fn a_row_in_hand_is_the_row_that_is_shown() {
        let families = Families::default();
        families.counter(&COUNTED, &["x", "y"]).fetch_add(2, Ordering::Relaxed);
        families.count(&COUNTED, &["x", "y"]);
        assert_eq!(families.counter(&COUNTED, &["x", "y"]).load(Ordering::Relaxed), 3);
    }

    #[test]
    fn rows_come_when_they_are_counted() {
        let families = Families::default();
        families.count(&COUNTED, &["x", "y"]);
        families.count(&COUNTED, &["x", "y"]);
        families.observe(&TIMED, &["z"], 0.25);
        let mut page = Page::default();
        families.write(&mut page);
        assert_eq!(
            page.finish(),
            "# HELP some_seconds Some time.\n# TYPE some_seconds histogram\nsome_seconds_bucket{a=\"z\",le=\"0.5\"} 1\n\
             some_seconds_bucket{a=\"z\",le=\"+Inf\"} 1\nsome_seconds_sum{a=\"z\"} 0.25\nsome_seconds_count{a=\"z\"} 1\n\
             # HELP some_total Some.\n# TYPE some_total counter\nsome_total{a=\"x\",b=\"y\"} 2\n"
        );
    }
}
