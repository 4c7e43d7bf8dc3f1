//! The network between simulated servers: delays, losses, links that are cut in one
//! direction or both, questions that arrive twice, streams that break with messages
//! still on their way.

use crate::host::SimHost;
use crate::random::{Random, lock};
use crate::schedule::Schedule;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use skiff_store::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// A message that was lost is missed by whoever waits for its answer.
const LOST: Duration = Duration::from_secs(30);

/// How bad the network is. Chances are one in that many; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub loss: u64,
    pub twice: u64,
    pub slow: u64,
}

#[derive(Clone)]
struct Running {
    service: PeerService,
    host: Arc<SimHost>,
}

#[derive(Default)]
struct Wires {
    running: BTreeMap<u64, Running>,
    /// From, to.
    cut: BTreeSet<(u64, u64)>,
    weather: Weather,
}

#[derive(Clone)]
pub struct Network {
    wires: Arc<Mutex<Wires>>,
    schedule: Schedule,
    random: Random,
}

impl Network {
    pub fn new(schedule: Schedule, random: Random) -> Self {
        let wires = Arc::default();
        Network {
            wires,
            schedule,
            random,
        }
    }

    pub fn plug_in(&self, host: Arc<SimHost>, store: Arc<RaftStore>) {
        let service = PeerService::new(store);
        lock(&self.wires).running.insert(host.id, Running { service, host });
    }

    pub fn unplug(&self, id: u64) {
        let running = lock(&self.wires).running.remove(&id);
        drop(running);
    }

    pub fn cut(&self, from: u64, to: u64) {
        lock(&self.wires).cut.insert((from, to));
    }

    pub fn mend(&self) {
        lock(&self.wires).cut.clear();
    }

    pub fn set_weather(&self, weather: Weather) {
        lock(&self.wires).weather = weather;
    }

    fn chance(&self, one_in: u64) -> bool {
        one_in > 0 && self.random.once_in(one_in)
    }

    fn delay(&self) -> Duration {
        let slow = lock(&self.wires).weather.slow;
        match self.chance(slow) {
            true => self.random.millis(5..600),
            false => self.random.millis(0..3),
        }
    }

    fn open(&self, from: u64, to: u64) -> bool {
        !lock(&self.wires).cut.contains(&(from, to))
    }

    fn lost(&self, from: u64, to: u64) -> bool {
        let loss = lock(&self.wires).weather.loss;
        !self.open(from, to) || self.chance(loss)
    }

    fn running(&self, peer: &Peer) -> Option<Running> {
        let running = lock(&self.wires).running.get(&peer.id).cloned();
        running.filter(|r| !r.host.life.has_ended())
    }

    pub fn link(&self, host: Arc<SimHost>) -> Link {
        let network = self.clone();
        Link { network, host }
    }
}

/// What one life of a server sends through.
pub struct Link {
    network: Network,
    host: Arc<SimHost>,
}

impl Link {
    fn gone(&self, peer: &Peer) -> bool {
        self.host.life.has_ended() || self.network.lost(self.host.id, peer.id)
    }

    /// Nothing is heard of a lost message, or that the connection broke.
    async fn missing(&self, peer: &Peer) -> Unreachable {
        let time = match self.network.random.once_in(2) {
            true => LOST,
            false => self.network.random.millis(0..200),
        };
        sleep(time).await;
        Unreachable::new(peer, "the connection broke")
    }
}

#[async_trait::async_trait]
impl Transport for Link {
    async fn call(&self, peer: &Peer, question: Bytes) -> Result<Bytes, Unreachable> {
        let (network, random) = (&self.network, &self.network.random);
        sleep(network.delay()).await;
        if self.gone(peer) {
            return Err(self.missing(peer).await);
        }
        let Some(running) = network.running(peer) else {
            return Err(Unreachable::new(peer, "it does not run"));
        };
        random.note(self.host.id << 8 | peer.id);
        let twice = lock(&network.wires).weather.twice;
        if network.chance(twice) {
            let (service, question, late) = (running.service.clone(), question.clone(), random.millis(0..3000));
            running.host.spawn(async move {
                sleep(late).await;
                service.answer(question).await;
            });
        }
        let (sender, answered) = oneshot::channel();
        let service = running.service.clone();
        running.host.spawn(async move {
            let _ = sender.send(service.answer(question).await);
        });
        let Ok(answer) = answered.await else {
            return Err(self.missing(peer).await);
        };
        sleep(network.delay()).await;
        match running.host.life.has_ended() || network.lost(peer.id, self.host.id) {
            true => Err(self.missing(peer).await),
            false => Ok(answer),
        }
    }

    async fn stream(
        &self,
        peer: &Peer,
        lane: Lane,
        mut messages: BoxStream<'static, Bytes>,
    ) -> Result<Answers, Unreachable> {
        let network = &self.network;
        sleep(network.delay()).await;
        if self.gone(peer) {
            return Err(self.missing(peer).await);
        }
        let Some(running) = network.running(peer) else {
            return Err(Unreachable::new(peer, "it does not run"));
        };
        let (me, them) = (self.host.clone(), running.host.clone());
        let (to_them, arriving) = wire(network, me.clone(), them.clone());
        let (to_me, answers) = wire(network, them.clone(), me.clone());
        let heard = to_me.clone();
        me.spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    () = heard.closed() => return,
                    () = to_them.closed() => return,
                    message = messages.next() => message,
                };
                match message {
                    Some(message) => {
                        let _ = to_them.send(message);
                    }
                    None => return,
                }
            }
        });
        let service = running.service.clone();
        let (life, peer) = (them.life.clone(), peer.clone());
        them.spawn(async move {
            let mut answers = service.stream(lane, arriving.boxed());
            while let Some(answer) = answers.next().await {
                if to_me.send(answer).is_err() {
                    return;
                }
            }
        });
        let end = futures::stream::once(async move {
            match life.has_ended() {
                true => Some(Err(Unreachable::new(&peer, "the connection broke"))),
                false => None,
            }
        });
        Ok(answers.map(Ok).chain(end.filter_map(std::future::ready)).boxed())
    }
}

/// One direction of a connection: in order, each message delayed. When a message meets a
/// cut, it waits a while for the link to be mended; then the connection breaks.
fn wire(
    network: &Network,
    from: Arc<SimHost>,
    to: Arc<SimHost>,
) -> (mpsc::UnboundedSender<Bytes>, UnboundedReceiverStream<Bytes>) {
    let (sender, mut sent) = mpsc::unbounded_channel::<Bytes>();
    let (deliver, delivered) = mpsc::unbounded_channel();
    let (queue, mut queued) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    let timing = network.clone();
    // The time at which each arrives is known when it is sent: many are under way at once.
    network.schedule.spawn(async move {
        let mut last = Instant::now();
        while let Some(message) = sent.recv().await {
            last = last.max(Instant::now() + timing.delay());
            if queue.send((last, message)).is_err() {
                return;
            }
        }
    });
    let schedule = network.schedule.clone();
    let network = network.clone();
    schedule.spawn(async move {
        while let Some((at, message)) = queued.recv().await {
            sleep_until(at).await;
            let loss = lock(&network.wires).weather.loss;
            if !network.open(from.id, to.id) || network.chance(loss * 20) {
                sleep(network.random.millis(0..4000)).await;
                if !network.open(from.id, to.id) || network.random.once_in(2) {
                    return;
                }
            }
            network.random.note(from.id << 16 | to.id);
            if to.life.has_ended() || deliver.send(message).is_err() {
                return;
            }
        }
    });
    (sender, UnboundedReceiverStream::new(delivered))
}
