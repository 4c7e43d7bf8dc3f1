//! Which requests of which server were applied, so that one that is sent again, after
//! its answer was lost, is not applied again. Cloning is O(1). Pure.

use crate::raft_types::Tag;
use imbl::{OrdMap, OrdSet};

/// What is known of one server's requests, since it last started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    pub boot: u64,
    /// The server waits for no request with a smaller number any more.
    pub settled: u64,
    /// Applied requests from `settled` on.
    pub applied: OrdSet<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sessions(OrdMap<u64, Session>);

impl Sessions {
    pub fn restore(sessions: impl IntoIterator<Item = (u64, Session)>) -> Self {
        Sessions(sessions.into_iter().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.0.iter().map(|(origin, session)| (*origin, session))
    }

    /// True for a request that was not applied and that its server still waits for; it
    /// counts as applied from here on.
    pub fn begin(&mut self, tag: &Tag) -> bool {
        let mut session = self.0.get(&tag.origin).cloned().unwrap_or_default();
        if tag.boot < session.boot {
            return false;
        }
        if tag.boot > session.boot {
            session = Session {
                boot: tag.boot,
                ..Session::default()
            };
        }
        if tag.settled > session.settled {
            session.settled = tag.settled;
            session.applied = session.applied.split(&(tag.settled.saturating_sub(1))).1;
        }
        let first = tag.number >= session.settled && session.applied.insert(tag.number).is_none();
        self.0.insert(tag.origin, session);
        first
    }

    /// Was a request applied, or can it be no more?
    pub fn is_over(&self, tag: &Tag) -> bool {
        self.0.get(&tag.origin).is_some_and(|session| {
            let over = tag.number < session.settled || session.applied.contains(&tag.number);
            session.boot > tag.boot || (session.boot == tag.boot && over)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(boot: u64, number: u64, settled: u64) -> Tag {
        Tag {
            origin: 3,
            boot,
            number,
            settled,
        }
    }

    #[test]
    fn a_request_is_applied_once() {
        let mut sessions = Sessions::default();
        let cases = [
            (tag(1, 0, 0), true),
            (tag(1, 0, 0), false),
            (tag(1, 2, 0), true),
            // Out of order, and again.
            (tag(1, 1, 0), true),
            (tag(1, 2, 0), false),
            // What the server no longer waits for is void, applied or not.
            (tag(1, 7, 5), true),
            (tag(1, 2, 0), false),
            (tag(1, 4, 4), false),
            (tag(1, 5, 5), true),
            (tag(1, 7, 5), false),
            // A server that started anew counts anew; late copies of before are void.
            (tag(2, 0, 0), true),
            (tag(1, 9, 9), false),
            (tag(2, 0, 0), false),
        ];
        for (tag, expected) in cases {
            assert_eq!(sessions.begin(&tag), expected, "{tag:?}");
            assert!(sessions.is_over(&tag), "{tag:?}");
        }
        assert!(!sessions.is_over(&tag(2, 1, 0)));
        let (_, session) = sessions.iter().next().expect("one");
        assert_eq!((session.boot, session.applied.len()), (2, 1));
    }

    #[test]
    fn what_is_settled_is_forgotten() {
        let mut sessions = Sessions::default();
        for number in 0..100 {
            assert!(sessions.begin(&tag(1, number, number.saturating_sub(3))));
        }
        let (_, session) = sessions.iter().next().expect("one");
        assert_eq!(session.applied.iter().copied().collect::<Vec<_>>(), [96, 97, 98, 99]);
    }
}
