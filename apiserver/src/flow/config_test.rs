use super::*;
use crate::request::parse_info;
use std::time::Duration;

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo {
        name: name.into(),
        groups: groups.iter().map(ToString::to_string).collect(),
        ..UserInfo::default()
    }
}

fn info(path: &str) -> RequestInfo {
    parse_info(&http::Method::GET, path, false, None).unwrap()
}

fn jane() -> UserInfo {
    user("jane", &["system:authenticated"])
}

/// A small server: eight levels share these seats.
fn flow(seats: u32) -> Flow {
    Flow::with(seats, Duration::from_secs(60))
}

/// Seats that a user can get without waiting.
async fn seats_at_once(flow: &Flow, user: &UserInfo, path: &str) -> Vec<super::super::level::Seat> {
    let mut seats = Vec::new();
    loop {
        let place = flow.place(user, &info(path));
        let acquired = place.level.acquire(place.flow, 1);
        match tokio::time::timeout(Duration::ZERO, acquired).await {
            Ok(Ok(seat)) => seats.push(seat),
            Ok(Err(_)) | Err(_) => return seats,
        }
        assert!(seats.len() < 10_000);
    }
}

#[tokio::test]
async fn one_noisy_user_leaves_the_heartbeats_their_seats() {
    let flow = flow(60);
    let noisy = seats_at_once(&flow, &jane(), "/api/v1/pods").await;
    assert!(noisy.len() > 5 && noisy.len() < 60, "{} borrowed", noisy.len());
    let node = user("system:node:a", &["system:nodes", "system:authenticated"]);
    let beats = seats_at_once(
        &flow,
        &node,
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a",
    )
    .await;
    assert!(beats.len() >= 10, "{} of the nodes' own", beats.len());
    drop((noisy, beats));
    for row in flow.balance.rows.load().iter() {
        assert_eq!((row.level.in_use(), row.level.waiting()), (0, 0), "{}", row.level.name);
    }
}

#[tokio::test]
async fn masters_never_wait() {
    let flow = flow(10);
    let admin = user("admin", &["system:masters"]);
    let mut seats = Vec::new();
    for _ in 0..500 {
        let place = flow.place(&admin, &info("/api/v1/pods"));
        seats.push(place.level.acquire(place.flow, 10).await.unwrap());
    }
}

#[tokio::test]
async fn who_waits_gets_the_seat_that_is_given_back() {
    let flow = Arc::new(Flow::with(10, Duration::from_millis(100)));
    let mut seats = seats_at_once(&flow, &jane(), "/api/v1/pods").await;
    let level = flow.place(&jane(), &info("/api/v1/pods")).level;
    let place = flow.place(&jane(), &info("/api/v1/pods"));
    let mut waiting = Box::pin(place.level.acquire(place.flow, 1));
    assert!(futures::poll!(&mut waiting).is_pending());
    assert_eq!(level.waiting(), 1);
    seats.pop();
    seats.push(waiting.await.unwrap());
    // Nobody gives one back: the wait ends after its time. (Until then more may be lent.)
    let place = flow.place(&jane(), &info("/api/v1/pods"));
    let refusal = loop {
        match place.level.acquire(place.flow, 1).await {
            Ok(seat) => seats.push(seat),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((refusal, level.waiting()), (Refusal::TimeOut, 0));
    // A client that goes leaves its place.
    let left = level.cancelled.load(Ordering::Relaxed);
    loop {
        let mut gone = Box::pin(place.level.acquire(place.flow, 1));
        if let std::task::Poll::Ready(outcome) = futures::poll!(&mut gone) {
            seats.extend(outcome);
            continue;
        }
        break;
    }
    assert_eq!(level.waiting(), 0);
    assert_eq!(level.cancelled.load(Ordering::Relaxed), left + 1);
}

#[tokio::test]
async fn full_queues_and_levels_without_queues_refuse() {
    let flow = Arc::new(flow(10));
    let mut seats = seats_at_once(&flow, &jane(), "/api/v1/pods").await;
    // One user's hand is six queues of fifty. Another level may lend a seat in between.
    let place = flow.place(&jane(), &info("/api/v1/pods"));
    let mut waiting = Vec::new();
    let mut refused = 0;
    while refused < 100 {
        assert!(waiting.len() + seats.len() < 1_000);
        let mut one = Box::pin(place.level.acquire(place.flow, 1));
        match futures::poll!(&mut one) {
            std::task::Poll::Pending => waiting.push(one),
            std::task::Poll::Ready(Ok(seat)) => seats.push(seat),
            std::task::Poll::Ready(Err(refusal)) => {
                assert_eq!(refusal, Refusal::QueueFull);
                refused += 1;
            }
        }
    }
    assert!(waiting.len() >= 300, "{} wait", waiting.len());
    drop(waiting);

    let reject = serde_json::json!({"kind": "PriorityLevelConfiguration", "metadata": {"name": "global-default", "uid": "1"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}});
    let mut objects: Vec<Value> = bootstrap::wanted().into_iter().map(|w| w.object).collect();
    objects.push(reject);
    flow.configure(objects.iter());
    let mut rejecting = seats_at_once(&flow, &jane(), "/api/v1/pods").await;
    let place = flow.place(&jane(), &info("/api/v1/pods"));
    let refusal = loop {
        match place.level.acquire(place.flow, 1).await {
            Ok(seat) => rejecting.push(seat),
            Err(refusal) => break refusal,
        }
        assert!(rejecting.len() < 1_000);
    };
    assert_eq!(refusal, Refusal::ConcurrencyLimit);
    assert!(!rejecting.is_empty());
}

#[test]
fn a_schema_that_leads_nowhere_is_passed_over() {
    let flow = flow(100);
    let dangling = serde_json::json!({"kind": "FlowSchema", "metadata": {"name": "x"}, "spec": {"matchingPrecedence": 3,
        "priorityLevelConfiguration": {"name": "none"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}], "resourceRules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]}]}});
    let mut objects: Vec<Value> = bootstrap::wanted().into_iter().map(|w| w.object).collect();
    objects.push(dangling.clone());
    flow.configure(objects.iter());
    assert_eq!(flow.place(&jane(), &info("/api/v1/pods")).level.name, "global-default");
    let mut leads = dangling;
    leads["spec"]["priorityLevelConfiguration"]["name"] = "system".into();
    objects.push(leads);
    flow.configure(objects.iter());
    assert_eq!(flow.place(&jane(), &info("/api/v1/pods")).level.name, "system");
    // With nothing but the mandatory ones, everybody is caught.
    flow.configure([].iter());
    assert_eq!(flow.place(&jane(), &info("/api/v1/pods")).level.name, "catch-all");
}
