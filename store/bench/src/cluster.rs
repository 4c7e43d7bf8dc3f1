//! Three servers: their rate, and how long a killed leader is missed.

use crate::Plan;
use crate::load;
use crate::puts::PUT;
use crate::report::{Better, Table};
use crate::servers::{Kind, Place, Server, place};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use skiff_proto::etcd::etcdserverpb as pb;
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;

/// How often the leader is killed.
const KILLS: usize = 3;

async fn start(plan: &Plan, kind: Kind) -> Result<Vec<Server>> {
    let places: Vec<Place> = (1..=3).map(place).collect::<Result<_>>()?;
    let mut servers = Vec::new();
    for place in &places {
        servers.push(Server::start_among(plan, kind, place.clone(), places.clone()).await?);
    }
    servers[0].ready().await?;
    if kind == Kind::Skiff {
        for place in &places[1..] {
            let told = servers[0].tell(&format!("add {} {}", place.id, place.peers)).await?;
            if told != "added" {
                bail!("server {} did not join: {told}", place.id);
            }
        }
    }
    for server in &servers {
        server.ready().await?;
    }
    Ok(servers)
}

async fn leader(servers: &[Server], but: Option<usize>) -> Result<usize> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        for (at, server) in servers.iter().enumerate().filter(|(at, _)| Some(*at) != but) {
            let Ok(links) = server.links(1).await else {
                continue;
            };
            let asked = MaintenanceClient::new(links[0].clone())
                .status(pb::StatusRequest {})
                .await;
            let Ok(status) = asked.map(tonic::Response::into_inner) else {
                continue;
            };
            if status.header.is_some_and(|h| h.member_id == status.leader) {
                return Ok(at);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("nobody leads")
}

fn put(value: &Bytes, number: u64) -> pb::PutRequest {
    pb::PutRequest {
        key: format!("/bench/three/{number:06}").into(),
        value: value.clone(),
        ..Default::default()
    }
}

/// From the kill to the first write that one of the others has acknowledged.
async fn fail_over(servers: &mut [Server], plan: &Plan) -> Result<Duration> {
    let led = leader(servers, None).await?;
    let mut links = Vec::new();
    for server in servers.iter().enumerate().filter(|(at, _)| *at != led).map(|(_, s)| s) {
        links.extend(server.links(1).await?);
    }
    servers[led].kill()?;
    let killed = Instant::now();
    let value = Bytes::from(vec![b'v'; 256]);
    let tries = links.into_iter().map(|link| {
        let value = value.clone();
        Box::pin(async move {
            for turn in 0.. {
                let mut client = KvClient::new(link.clone());
                let tried = tokio::time::timeout(Duration::from_millis(500), client.put(put(&value, turn))).await;
                if matches!(tried, Ok(Ok(_))) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            killed.elapsed()
        })
    });
    let first = tokio::time::timeout(Duration::from_secs(30), futures::future::select_all(tries));
    let (took, ..) = first.await.context("nobody takes writes")?;
    servers[led].start_again(plan).await?;
    servers[led].ready().await?;
    Ok(took)
}

pub async fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let mut rates = Vec::new();
    let mut missed = Vec::new();
    for kind in [Kind::Etcd, Kind::Skiff] {
        let mut servers = start(plan, kind).await?;
        let led = leader(&servers, None).await?;
        let value = Bytes::from(vec![b'v'; 256]);
        for at in [led, (led + 1) % 3] {
            let value = value.clone();
            let outcome = load::run(&servers[at], CLIENTS, plan.cell, move |link, client, turn| {
                let request = put(&value, client as u64 * 1000 + turn % 1000);
                async move { link.ask::<pb::PutResponse>(PUT, &request).await.map(|_| ()) }
            });
            rates.push(outcome.await?);
        }
        let mut took = Vec::new();
        for _ in 0..KILLS {
            took.push(fail_over(&mut servers, plan).await?);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        took.sort();
        missed.push(took);
    }
    let mut told = |what: &str, at: usize| {
        let values = [rates[at].rate(), rates[at + 2].rate()];
        table.both(
            format!("three servers, put 256 B, 64 clients {what}: op/s"),
            values,
            None,
        );
        let values = [rates[at].percentile_ms(99), rates[at + 2].percentile_ms(99)];
        table.both(
            format!("three servers, put 256 B, 64 clients {what}: p99 ms"),
            values,
            None,
        );
    };
    told("at the leader", 0);
    told("at a follower", 1);
    for (what, at) in [("median", KILLS / 2), ("longest", KILLS - 1)] {
        let values = [missed[0][at].as_secs_f64() * 1e3, missed[1][at].as_secs_f64() * 1e3];
        table.both(
            format!("leader killed to first write, {what}: ms"),
            values,
            Some((Better::Less, 1.0)),
        );
    }
    Ok(())
}
