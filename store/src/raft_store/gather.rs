//! Commands that wait go through Raft together, as one entry: what an entry costs, in
//! Raft, in the log and on the way to other servers, is paid once for all of them. One that
//! finds nothing under way goes alone and at once.

use super::RaftStore;
use super::propose::Failed;
use crate::contract::StoreError;
use crate::raft_types::*;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Notify, oneshot};

/// Commands of one entry, and bytes after which none is added.
const COMMANDS_MAX: usize = 1024;
const BYTES_MAX: usize = 1 << 20;

/// Those who were just answered are let go first, so that what they ask for next comes along:
/// until as many wait as did, or nobody has come for so many turns.
const IDLE_TURNS: usize = 2;
const TURNS_MAX: usize = 32;

#[derive(Default)]
pub(super) struct Gatherer {
    state: Mutex<Gathered>,
    /// Told when somebody waits, and what went alone has ended.
    wake: Notify,
}

#[derive(Default)]
struct Gathered {
    waiting: Vec<Waiting>,
    /// An entry is. One at a time: a slow disk is waited for seldom, and by many.
    under_way: bool,
    closed: bool,
}

struct Waiting {
    command: Command,
    bytes: usize,
    answer: oneshot::Sender<Result<Response, Failed>>,
}

impl Gatherer {
    fn state(&self) -> MutexGuard<'_, Gathered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more, and lets go of those who wait.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
    }

    /// Lets others run until so many wait, or nobody else comes.
    async fn settle(&self, expected: usize) {
        let (mut idle, mut before) = (0, 0);
        for _ in 0..TURNS_MAX {
            let waiting = self.state().waiting.len();
            idle = if waiting > before { 0 } else { idle + 1 };
            if waiting >= expected || idle > IDLE_TURNS {
                return;
            }
            before = waiting;
            tokio::task::yield_now().await;
        }
    }
}

impl Gathered {
    /// The next ones to go, oldest first, without those whose client has given up.
    fn take(&mut self) -> Vec<Waiting> {
        self.waiting.retain(|w| !w.answer.is_closed());
        let numbered = self.waiting.first().is_some_and(|w| w.command.is_numbered());
        let mut bytes = 0;
        let fit = self.waiting.iter().take(COMMANDS_MAX).take_while(|w| {
            let first = bytes == 0;
            bytes += w.bytes;
            (first || bytes <= BYTES_MAX) && w.command.is_numbered() == numbered
        });
        let fit = fit.count();
        match fit == self.waiting.len() {
            true => std::mem::take(&mut self.waiting),
            false => self.waiting.drain(..fit).collect(),
        }
    }
}

impl RaftStore {
    /// Brings a command to the leader, alone or with others. Of a store among others the
    /// response says only that it was applied there.
    pub(super) async fn submit(&self, command: Command, bytes: usize) -> Result<Response, Failed> {
        let gathered = {
            let mut state = self.gatherer.state();
            if state.closed {
                return Err(Failed::Other(StoreError::Closed));
            }
            if !std::mem::replace(&mut state.under_way, true) {
                None
            } else {
                let (answer, answered) = oneshot::channel();
                state.waiting.push(Waiting {
                    command: command.clone(),
                    bytes,
                    answer,
                });
                Some(answered)
            }
        };
        match gathered {
            Some(answered) => answered.await.unwrap_or(Err(Failed::Other(StoreError::Closed))),
            None => {
                let _turn = Turn(&self.gatherer);
                self.deliver(command).await
            }
        }
    }
}

/// A command that went alone; when it ends, by whatever, those that came meanwhile go.
struct Turn<'a>(&'a Gatherer);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        // Under the same lock, so that nobody comes to wait for nobody.
        state.under_way = !state.waiting.is_empty();
        if state.under_way {
            self.0.wake.notify_one();
        }
    }
}

/// Carries those who wait, from the time that somebody went alone until nobody waits.
pub(super) async fn carry(store: Weak<RaftStore>) {
    loop {
        let Some(gatherer) = store.upgrade().map(|s| s.gatherer.clone()) else {
            return;
        };
        gatherer.wake.notified().await;
        let Some(store) = store.upgrade() else { return };
        let mut expected = gatherer.state().waiting.len() + 1;
        loop {
            gatherer.settle(expected).await;
            let batch = gatherer.state().take();
            let (commands, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|w| (w.command, w.answer)).unzip();
            if !commands.is_empty() {
                let outcome = store.deliver(Command::Batch(commands)).await;
                expected = answers.len() + gatherer.state().waiting.len();
                for (response, answer) in apart(outcome, answers.len()).zip(answers) {
                    let _ = answer.send(response);
                }
                continue;
            }
            let mut state = gatherer.state();
            state.under_way = !state.waiting.is_empty();
            if !state.under_way {
                break;
            }
        }
    }
}

/// What each of a batch is told.
fn apart(outcome: Result<Response, Failed>, count: usize) -> impl Iterator<Item = Result<Response, Failed>> {
    let (mut responses, failed) = match outcome {
        Ok(Response::Batch(responses)) => (responses, None),
        // As a leader elsewhere answers.
        Ok(_) => (Vec::new(), None),
        Err(failed) => (Vec::new(), Some(failed)),
    };
    responses.resize(count, Response::Done);
    responses.into_iter().map(move |response| match &failed {
        None => Ok(response),
        Some(failed) => Err(failed.again()),
    })
}
