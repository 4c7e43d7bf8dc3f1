//! What the API server answers per second, over TLS, from outside its process.

use super::connection::{Call, Connection, Endpoint, PROTOBUF};
use super::process::Process;
use super::sample::{Sample, count, duration};
use super::table::Row;
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use hyper::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of each rate; long enough for a few hundred to a few thousand calls.
const MEASURED: Duration = Duration::from_secs(2);
/// Calls per client before that: connections, caches, the first pages.
const WARM_UP: u64 = 10;
const CLIENTS: [usize; 2] = [1, 16];
const LISTED: usize = 500;
const VALUE_BYTES: usize = 1024;
/// Three times upstream's 1,059 creates and 2,274 gets per second at 16 clients.
const AIMS: [(&str, f64, &str); 2] = [("create", 3_177.0, "1,059/s"), ("get", 6_822.0, "2,274/s")];

struct Rate {
    calls: Sample,
    per_s: f64,
    cpu: Duration,
}

type Prepare = Arc<dyn Fn(usize, u64) -> Call + Send + Sync>;

pub async fn measure(endpoint: &Endpoint, skiff: Process) -> Result<Vec<Row>> {
    let mut connection = endpoint.connect().await?;
    for namespace in ["bench", "bench-list"] {
        namespace_ready(&mut connection, namespace).await?;
    }
    for at in 0..LISTED {
        connection
            .send(Call::with_body(
                Method::POST,
                collection("bench-list"),
                config_map(&item(at), 0),
            ))
            .await?;
    }
    // A fast answer that is not the answer would be no figure.
    let list: Value = serde_json::from_slice(&connection.send(Call::get(collection("bench-list"))).await?)?;
    let listed = list["items"].as_array().map_or(0, Vec::len);
    ensure!(listed >= LISTED, "the list has {listed} items");
    let updated = |client: usize| format!("updated-{client}");
    for client in 0..CLIENTS[1] {
        connection
            .send(Call::with_body(
                Method::POST,
                collection("bench"),
                config_map(&updated(client), 0),
            ))
            .await?;
    }
    let mut rows = Vec::new();
    for (round, clients) in CLIENTS.into_iter().enumerate() {
        let one_of = |client: usize, call: u64| {
            let at = (client * 31 + usize::try_from(call).unwrap_or(0)) % LISTED;
            format!("{}/{}", collection("bench-list"), item(at))
        };
        let kinds: [(&str, &str, Prepare); 5] = [
            (
                "create",
                "ConfigMap create (1 KiB)",
                Arc::new(move |client, call| {
                    let name = format!("created-{round}-{client}-{call}");
                    Call::with_body(Method::POST, collection("bench"), config_map(&name, call))
                }),
            ),
            (
                "update",
                "ConfigMap update",
                Arc::new(move |client, call| {
                    let name = updated(client);
                    let path = format!("{}/{name}", collection("bench"));
                    Call::with_body(Method::PUT, path, config_map(&name, call))
                }),
            ),
            (
                "get",
                "ConfigMap get",
                Arc::new(move |client, call| Call::get(one_of(client, call))),
            ),
            (
                "get protobuf",
                "ConfigMap get, protobuf",
                Arc::new(move |client, call| Call::get(one_of(client, call)).accept(PROTOBUF)),
            ),
            (
                "list",
                "list of 500 ConfigMaps",
                Arc::new(|_, _| Call::get(collection("bench-list"))),
            ),
        ];
        for (kind, told, prepare) in kinds {
            let rate = rate(endpoint, skiff, clients, prepare)
                .await
                .with_context(|| format!("{told}, {clients} clients"))?;
            rows.push(row(kind, told, clients, &rate));
        }
    }
    Ok(rows)
}

fn row(kind: &str, told: &str, clients: usize, rate: &Rate) -> Row {
    let plural = if clients == 1 { "client" } else { "clients" };
    let value = format!(
        "{}/s, p99 {}, {} CPU each",
        count(rate.per_s),
        duration(rate.calls.p99()),
        duration(rate.cpu)
    );
    let row = Row::new(format!("{told}, {clients} {plural}"), value);
    match AIMS.iter().find(|(name, ..)| *name == kind) {
        Some((_, aim, upstream)) if clients == CLIENTS[1] => row
            .aim(format!("> {}/s", count(*aim)), rate.per_s > *aim)
            .upstream(*upstream),
        _ => row,
    }
}

/// Each client calls as soon as it was answered.
async fn rate(endpoint: &Endpoint, skiff: Process, clients: usize, prepare: Prepare) -> Result<Rate> {
    let warm = (0..clients).map(|client| {
        let prepare = prepare.clone();
        async move {
            let mut connection = endpoint.connect().await?;
            for call in 0..WARM_UP {
                connection.send(prepare(client, call)).await?;
            }
            anyhow::Ok((client, connection))
        }
    });
    let warm = try_join_all(warm).await?;
    let before = skiff.usage()?;
    let begun = Instant::now();
    let tasks = warm.into_iter().map(|(client, mut connection)| {
        let prepare = prepare.clone();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut call = WARM_UP;
            while begun.elapsed() < MEASURED {
                let prepared = prepare(client, call);
                let sent = Instant::now();
                connection.send(prepared).await?;
                taken.push(sent.elapsed());
                call += 1;
            }
            anyhow::Ok(taken)
        })
    });
    let mut all = Vec::new();
    for taken in try_join_all(tasks).await? {
        all.extend(taken?);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let calls = Sample::new(all);
    let cpu_ms = skiff.usage()?.cpu_ms - before.cpu_ms;
    let many = u32::try_from(calls.len().max(1)).unwrap_or(u32::MAX);
    Ok(Rate {
        per_s: calls.len() as f64 / seconds,
        cpu: Duration::from_millis(cpu_ms) / many,
        calls,
    })
}

pub async fn namespace_ready(connection: &mut Connection, name: &str) -> Result<()> {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string();
    connection
        .send(Call::with_body(Method::POST, "/api/v1/namespaces", body))
        .await?;
    Ok(())
}

pub fn collection(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn item(at: usize) -> String {
    format!("item-{at}")
}

fn config_map(name: &str, revision: u64) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"value": "x".repeat(VALUE_BYTES), "revision": revision.to_string()},
    })
    .to_string()
}
