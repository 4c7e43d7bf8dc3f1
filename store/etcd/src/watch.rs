//! Watches: many on one stream. Each has a task that follows its keys; one more takes
//! requests. All answers go through one queue, so that a slow client waits, not the store.

use crate::{Etcd, error, request, response};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use skiff_proto::etcd::etcdserverpb as pb;
use skiff_proto::etcd::mvccpb;
use skiff_store::{KeyRange, RangeEnd, Revision, Store, StoreError, Watch, WatchBatch};
use std::collections::HashMap;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

/// Answers waiting for a client. When it is full, watchers wait, and are resumed by
/// revision if the store loses patience with them.
const QUEUE: usize = 64;

/// A longer answer is cut in pieces, where the client can put them together.
const FRAGMENT_BYTES: usize = 1 << 20;

type Answer = Result<pb::WatchResponse, Status>;
type Answers = mpsc::Sender<Answer>;

/// Asks a watcher to send all that it has up to now, and to say up to where that is.
type Progress = oneshot::Sender<Revision>;

struct Watcher {
    etcd: Etcd,
    id: i64,
    range: KeyRange,
    /// Events before it are not wanted.
    from: Revision,
    request: pb::WatchCreateRequest,
    answers: Answers,
}

/// One stream's watchers, by number.
struct Session {
    etcd: Etcd,
    watchers: HashMap<i64, (tokio::task::JoinHandle<()>, mpsc::Sender<Progress>)>,
    next: i64,
    answers: Answers,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watchers.values().for_each(|(task, _)| task.abort());
    }
}

/// What all keys of a range begin with: what the store is asked to follow.
fn common_prefix(range: &KeyRange) -> Bytes {
    let end = match &range.end {
        RangeEnd::One => return range.start.clone(),
        RangeEnd::Open => return Bytes::new(),
        RangeEnd::Before(end) => end,
    };
    // Keys below the end begin with what start and the last key below it have in common.
    let shared = range.start.iter().zip(end.iter()).take_while(|(a, b)| a == b).count();
    let whole = skiff_store::prefix_end(&range.start).is_some_and(|next| next == **end);
    match whole {
        true => range.start.clone(),
        false => range.start.slice(..shared),
    }
}

impl Watcher {
    fn response(&self, revision: Revision) -> pb::WatchResponse {
        pb::WatchResponse {
            header: self.etcd.header(revision),
            watch_id: self.id,
            ..Default::default()
        }
    }

    /// Begins to follow; a revision that is to come is waited for.
    fn begin(&self, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let now = self.etcd.store.snapshot().revision();
        self.etcd.store.watch(common_prefix(&self.range), after.min(now))
    }

    fn wanted(&self, batch: &WatchBatch) -> Vec<mvccpb::Event> {
        let without = |kind: FilterType| self.request.filters.contains(&kind.into());
        let (no_puts, no_deletes) = (without(FilterType::Noput), without(FilterType::Nodelete));
        let wanted = batch.events.iter().filter(|event| {
            let kind = if event.entry.is_some() { no_puts } else { no_deletes };
            !kind && event.revision >= self.from && self.range.contains(event.key())
        });
        wanted
            .map(|event| response::event(event, self.request.prev_kv))
            .collect()
    }

    /// What happened before the watch began is told as of then.
    async fn send(&self, batch: WatchBatch, began: Revision) -> Result<(), ()> {
        let events = self.wanted(&batch);
        if events.is_empty() && !(batch.events.is_empty() && self.request.progress_notify) {
            return Ok(());
        }
        // Without events it is a promise that none is missing.
        let revision = match events.is_empty() {
            true => batch.revision,
            false => batch.revision.max(began),
        };
        let mut pieces = match self.request.fragment {
            true => pieces(events),
            false => vec![events],
        };
        let last = pieces.pop().unwrap_or_default();
        for (events, fragment) in pieces.into_iter().map(|p| (p, true)).chain([(last, false)]) {
            let response = pb::WatchResponse {
                events,
                fragment,
                ..self.response(revision)
            };
            self.answers.send(Ok(response)).await.map_err(|_| ())?;
        }
        Ok(())
    }

    /// Tells that the watch is over, as what was asked for is forgotten. etcd gives no other
    /// reason, and no revision of the present.
    async fn compacted(&self, oldest: Revision) {
        let response = pb::WatchResponse {
            canceled: true,
            compact_revision: oldest as i64,
            ..self.response(0)
        };
        let _ = self.answers.send(Ok(response)).await;
    }

    async fn follow(self, mut asked: mpsc::Receiver<Progress>) {
        let mut seen = self.from.saturating_sub(1);
        loop {
            let began = self.etcd.store.snapshot().revision();
            let mut watch = match self.begin(seen) {
                Ok(watch) => watch,
                Err(StoreError::Compacted { oldest, .. }) => return self.compacted(oldest).await,
                Err(error) => {
                    let _ = self.answers.send(Err(error::of(error))).await;
                    return;
                }
            };
            loop {
                let batch = tokio::select! {
                    batch = watch.next() => batch,
                    Some(progress) = asked.recv() => {
                        // Published before what is ready now was looked at.
                        let published = self.etcd.store.published();
                        while let Some(Some(batch)) = watch.next().now_or_never() {
                            seen = seen.max(batch.revision);
                            if self.send(batch, began).await.is_err() {
                                return;
                            }
                        }
                        let _ = progress.send(published);
                        continue;
                    }
                };
                // Too slow, or the store closes: go on from where it stopped.
                let Some(batch) = batch else { break };
                seen = seen.max(batch.revision);
                if self.send(batch, began).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Cuts events into pieces that are not too long.
fn pieces(events: Vec<mvccpb::Event>) -> Vec<Vec<mvccpb::Event>> {
    let mut pieces = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        let size = |kv: &Option<mvccpb::KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len() + 32);
        let weight = size(&event.kv) + size(&event.prev_kv);
        if bytes + weight > FRAGMENT_BYTES && bytes > 0 {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += weight;
        if let Some(last) = pieces.last_mut() {
            last.push(event);
        }
    }
    pieces
}

impl Session {
    async fn send(&self, response: pb::WatchResponse) -> Result<(), ()> {
        self.answers.send(Ok(response)).await.map_err(|_| ())
    }

    fn now(&self) -> Revision {
        self.etcd.store.snapshot().revision()
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<(), ()> {
        // As etcd: an absent key is the first one there can be.
        let key = match request.key.is_empty() {
            true => Bytes::from_static(&[0]),
            false => request.key.clone(),
        };
        let range = request::range(&key, &request.range_end);
        let now = self.now();
        let mut response = pb::WatchResponse {
            header: self.etcd.header(now),
            watch_id: request.watch_id,
            created: true,
            ..Default::default()
        };
        self.watchers.retain(|_, (task, _)| !task.is_finished());
        let refused = if request.start_revision < 0 {
            Some(error::compacted().message().to_owned())
        } else if matches!(&range.end, RangeEnd::Before(end) if *end <= range.start) {
            Some("mvcc: watcher range is empty".to_owned())
        } else if request.watch_id != 0 && self.watchers.contains_key(&request.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream".to_owned())
        } else {
            None
        };
        if let Some(why) = refused {
            response.watch_id = -1;
            response.canceled = true;
            response.cancel_reason = why;
            return self.send(response).await;
        }
        let id = match request.watch_id {
            0 => {
                while self.watchers.contains_key(&self.next) {
                    self.next += 1;
                }
                self.next += 1;
                self.next - 1
            }
            id => id,
        };
        response.watch_id = id;
        self.send(response).await?;
        let from = match request.start_revision {
            start if start > 0 => start as Revision,
            _ => now + 1,
        };
        let watcher = Watcher {
            etcd: self.etcd.clone(),
            id,
            range,
            from,
            request,
            answers: self.answers.clone(),
        };
        let (progress, asked) = mpsc::channel(4);
        self.watchers
            .insert(id, (tokio::spawn(watcher.follow(asked)), progress));
        Ok(())
    }

    async fn cancel(&mut self, id: i64) -> Result<(), ()> {
        let Some((task, _)) = self.watchers.remove(&id) else {
            return Ok(());
        };
        task.abort();
        let _ = task.await;
        self.send(pb::WatchResponse {
            header: self.etcd.header(self.now()),
            watch_id: id,
            canceled: true,
            ..Default::default()
        })
        .await
    }

    /// One answer for all watchers: all of them have sent what there is up to it.
    async fn progress(&mut self) -> Result<(), ()> {
        let mut revision = self.etcd.store.published();
        for (_, progress) in self.watchers.values() {
            let (told, answer) = oneshot::channel();
            if progress.send(told).await.is_err() {
                continue;
            }
            if let Ok(reached) = answer.await {
                revision = revision.min(reached);
            }
        }
        self.send(pb::WatchResponse {
            header: self.etcd.header(revision),
            watch_id: -1,
            ..Default::default()
        })
        .await
    }

    async fn serve(mut self, mut requests: Streaming<pb::WatchRequest>) {
        loop {
            let request = tokio::select! {
                request = requests.next() => request,
                () = self.answers.closed() => return,
            };
            let Some(Ok(request)) = request else { return };
            let done = match request.request_union {
                Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
                Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id).await,
                Some(RequestUnion::ProgressRequest(_)) => self.progress().await,
                None => Ok(()),
            };
            if done.is_err() {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl pb::watch_server::Watch for Etcd {
    type WatchStream = BoxStream<'static, Answer>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, receiver) = mpsc::channel(QUEUE);
        let session = Session {
            etcd: self.clone(),
            watchers: HashMap::new(),
            next: 0,
            answers,
        };
        tokio::spawn(session.serve(request.into_inner()));
        let answers = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(answers.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_range_has_in_common() {
        let between = |start: &'static [u8], end: &'static [u8]| KeyRange {
            start: Bytes::from_static(start),
            end: RangeEnd::Before(Bytes::from_static(end)),
        };
        let cases: [(KeyRange, &[u8]); 5] = [
            (between(b"/pods/", b"/pods0"), b"/pods/"),
            (between(b"/pods/a", b"/pods/c"), b"/pods/"),
            (between(b"a", b"z"), b""),
            (KeyRange::one(Bytes::from_static(b"/k")), b"/k"),
            (
                KeyRange {
                    start: Bytes::from_static(b"x"),
                    end: RangeEnd::Open,
                },
                b"",
            ),
        ];
        for (range, expected) in cases {
            assert_eq!(common_prefix(&range), expected, "{range:?}");
        }
    }

    #[test]
    fn pieces_hold_all_and_are_not_too_long() {
        let event = |bytes: usize| mvccpb::Event {
            kv: Some(mvccpb::KeyValue {
                value: vec![0; bytes].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let sizes = [600 << 10, 600 << 10, 10, 3 << 20, 5];
        let pieces = pieces(sizes.into_iter().map(event).collect());
        let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 2, 1, 1]);
    }
}
