//! Answers of the host's name servers, kept for a short while. Pure: the caller
//! says what time it is.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Half a megabyte or so with usual answers.
const ENTRIES_MAX: usize = 2000;
/// Longer answers are rare and not worth their room.
const ANSWER_BYTES_MAX: usize = 4096;
/// As CoreDNS' `cache 30`: no answer is held for longer than this.
const TTL_MAX: u32 = 30;

/// Lower-case name, type, class, and whether DNSSEC records were wanted.
pub type Question = (String, u16, u16, bool);

struct Entry {
    bytes: Vec<u8>,
    since: Instant,
    seconds: u32,
}

#[derive(Default)]
pub struct Cache {
    entries: BTreeMap<Question, Entry>,
    /// In order of arrival: all live at most `TTL_MAX`, so the oldest is soon over anyway.
    order: VecDeque<Question>,
}

impl Cache {
    /// The answer with its remaining times to live; ID and question are the caller's to set.
    pub fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let entry = self.entries.get(question)?;
        let age = u32::try_from(now.saturating_duration_since(entry.since).as_secs()).ok()?;
        if age >= entry.seconds {
            return None;
        }
        let mut message = Message::from_vec(&entry.bytes).ok()?;
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    pub fn put(&mut self, question: Question, bytes: Vec<u8>, now: Instant) {
        if bytes.len() > ANSWER_BYTES_MAX {
            return;
        }
        let Some(seconds) = Message::from_vec(&bytes).ok().and_then(|message| lifetime(&message)) else {
            return;
        };
        while self.order.len() >= ENTRIES_MAX || self.oldest_is_over(now) {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
        if self
            .entries
            .insert(
                question.clone(),
                Entry {
                    bytes,
                    since: now,
                    seconds,
                },
            )
            .is_none()
        {
            self.order.push_back(question);
        }
    }

    fn oldest_is_over(&self, now: Instant) -> bool {
        let oldest = self.order.front().and_then(|question| self.entries.get(question));
        let limit = Duration::from_secs(u64::from(TTL_MAX));
        oldest.is_some_and(|entry| now.saturating_duration_since(entry.since) > limit)
    }
}

/// For how many seconds an answer may be given again; none for what must not be kept.
fn lifetime(message: &Message) -> Option<u32> {
    let negative = message.answers.is_empty();
    let keep = matches!(
        message.metadata.response_code,
        ResponseCode::NoError | ResponseCode::NXDomain
    );
    if !keep || message.metadata.truncation {
        return None;
    }
    let seconds = if negative {
        // RFC 2308: without an SOA a negative answer is not kept.
        let soa = message
            .authorities
            .iter()
            .find(|record| record.record_type() == RecordType::SOA)?;
        let RData::SOA(data) = &soa.data else { return None };
        soa.ttl.min(data.minimum)
    } else {
        message.answers.iter().map(|record| record.ttl).min()?
    };
    (seconds > 0).then_some(seconds.min(TTL_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, Record};

    fn answer(ttl: u32, code: ResponseCode) -> Vec<u8> {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        let name = Name::from_ascii("a.example.").unwrap();
        message.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(1, 2, 3, 4))));
        message.to_vec().unwrap()
    }

    #[test]
    fn keeps_for_the_shorter_of_ttl_and_limit() {
        let (start, question) = (Instant::now(), ("a.example.".to_owned(), 1, 1, false));
        for (ttl, code, after, left) in [
            (10, ResponseCode::NoError, 9, Some(1)),
            (10, ResponseCode::NoError, 10, None),
            (900, ResponseCode::NoError, 29, Some(871)),
            (900, ResponseCode::NoError, 30, None),
            (0, ResponseCode::NoError, 0, None),
            (10, ResponseCode::ServFail, 0, None),
        ] {
            let mut cache = Cache::default();
            cache.put(question.clone(), answer(ttl, code), start);
            let found = cache.get(&question, start + Duration::from_secs(after));
            assert_eq!(found.map(|m| m.answers[0].ttl), left, "{ttl} {code} {after}");
        }
    }

    #[test]
    fn never_grows_past_its_bound() {
        let (start, mut cache) = (Instant::now(), Cache::default());
        for i in 0..ENTRIES_MAX + 50 {
            cache.put((i.to_string(), 1, 1, false), answer(30, ResponseCode::NoError), start);
        }
        assert_eq!((cache.entries.len(), cache.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
        cache.put(
            ("late".into(), 1, 1, false),
            answer(30, ResponseCode::NoError),
            start + Duration::from_secs(31),
        );
        assert_eq!((cache.entries.len(), cache.order.len()), (1, 1));
    }
}
