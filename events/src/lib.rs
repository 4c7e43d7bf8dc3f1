//! Which events are written, raised in count, combined or dropped, as upstream's clients decide: an object
//! that causes many of them must not drown the rest. Pure.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

/// Distinct events remembered for counting; upstream's cache size.
const REMEMBERED_MAX: usize = 4096;
/// Events count as repeated or similar within this time.
const WINDOW_SECONDS: i64 = 600;
/// Of similar events (all the same but for the message) so many are written one by one.
const SIMILAR_MAX: usize = 10;
const COMBINED: &str = "(combined from similar events): ";
/// Events that one component may write about one object at once, and then one per this time.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// What an event is about, but for its message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct About {
    pub component: &'static str,
    /// Kind, namespace, name and uid.
    pub object: String,
    /// The part of it that is meant, as a container of a pod: counted apart, limited together.
    pub part: String,
    pub kind: String,
    pub reason: String,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

struct Similar {
    messages: HashSet<String>,
    at: Timestamp,
}

/// An Event object that was written before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub namespace: String,
    pub name: String,
    pub count: i32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Drop,
    Write {
        message: String,
    },
    /// Raise the count of this one.
    Raise {
        message: String,
        known: Written,
    },
}

/// An event's [`About`] with its message, or without one where it is combined with others.
type Identity = (About, Option<String>);

#[derive(Default)]
pub struct Correlator {
    buckets: HashMap<(&'static str, String), Bucket>,
    similar: HashMap<About, Similar>,
    written: HashMap<Identity, (Written, Timestamp)>,
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second() - from.as_second()
}

impl Correlator {
    /// The decision, and under what it is to be noted when it has been carried out.
    pub fn decide(&mut self, about: &About, message: &str, now: Timestamp) -> (Decision, Identity) {
        let (message, identity) = self.combine(about, message, now);
        if !self.allowed(about, now) {
            return (Decision::Drop, identity);
        }
        let known = self.written.get(&identity);
        let decision = match known.filter(|(_, at)| seconds(*at, now) < WINDOW_SECONDS) {
            Some((known, _)) => Decision::Raise {
                message,
                known: known.clone(),
            },
            None => Decision::Write { message },
        };
        (decision, identity)
    }

    pub fn note(&mut self, identity: Identity, written: Written, now: Timestamp) {
        if self.written.len() >= REMEMBERED_MAX {
            self.written.clear();
        }
        self.written.insert(identity, (written, now));
    }

    fn combine(&mut self, about: &About, message: &str, now: Timestamp) -> (String, Identity) {
        if self.similar.len() >= REMEMBERED_MAX {
            self.similar.clear();
        }
        // Parts of one object are similar to each other.
        let whole = About {
            part: String::new(),
            ..about.clone()
        };
        let similar = self.similar.entry(whole.clone()).or_insert_with(|| Similar {
            messages: HashSet::new(),
            at: now,
        });
        if seconds(similar.at, now) >= WINDOW_SECONDS {
            similar.messages.clear();
        }
        similar.at = now;
        if similar.messages.len() >= SIMILAR_MAX && !similar.messages.contains(message) {
            return (format!("{COMBINED}{message}"), (whole, None));
        }
        similar.messages.insert(message.to_string());
        (message.to_string(), (about.clone(), Some(message.to_string())))
    }

    fn allowed(&mut self, about: &About, now: Timestamp) -> bool {
        if self.buckets.len() >= REMEMBERED_MAX {
            self.buckets.clear();
        }
        let key = (about.component, about.object.clone());
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: BURST, at: now });
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed / REFILL_SECONDS).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn about(object: &str) -> About {
        About {
            component: "c",
            object: object.to_string(),
            part: String::new(),
            kind: "Normal".to_string(),
            reason: "R".to_string(),
        }
    }

    fn known(name: &str) -> Written {
        Written {
            namespace: "n".to_string(),
            name: name.to_string(),
            count: 1,
        }
    }

    /// Says it and notes it as written under the message's name.
    fn say(correlator: &mut Correlator, object: &str, message: &str, second: i64) -> String {
        let (decision, identity) = correlator.decide(&about(object), message, at(second));
        match decision {
            Decision::Drop => "dropped".to_string(),
            Decision::Write { message } => {
                correlator.note(identity, known(&message), at(second));
                format!("written {message}")
            }
            Decision::Raise { message, known } => format!("raised {}: {message}", known.name),
        }
    }

    #[test]
    fn repeated_events_are_counted_for_ten_minutes() {
        let mut correlator = Correlator::default();
        assert_eq!(say(&mut correlator, "a", "m", 0), "written m");
        assert_eq!(say(&mut correlator, "a", "m", 599), "raised m: m");
        assert_eq!(say(&mut correlator, "b", "m", 599), "written m", "another object");
        assert_eq!(say(&mut correlator, "a", "m", 1300), "written m");
    }

    #[test]
    fn similar_events_are_combined_and_too_many_dropped() {
        let mut correlator = Correlator::default();
        for number in 0..10 {
            let message = format!("m{number}");
            assert_eq!(say(&mut correlator, "a", &message, 0), format!("written {message}"));
        }
        assert_eq!(say(&mut correlator, "a", "m3", 0), "raised m3: m3", "known by itself");
        assert_eq!(
            say(&mut correlator, "a", "m10", 0),
            "written (combined from similar events): m10"
        );
        assert_eq!(
            say(&mut correlator, "a", "m11", 0),
            "raised (combined from similar events): m10: (combined from similar events): m11"
        );
        let said = (0..30).filter(|_| say(&mut correlator, "a", "m11", 1) != "dropped");
        assert_eq!(said.count(), 12, "25 in all");
        assert_eq!(
            say(&mut correlator, "b", "m", 1),
            "written m",
            "each object has its own share"
        );
        assert_ne!(
            say(&mut correlator, "a", "m11", 301),
            "dropped",
            "one more in five minutes"
        );
        assert_eq!(say(&mut correlator, "a", "m11", 302), "dropped");
    }
}
