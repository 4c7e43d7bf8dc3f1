//! Five hundred custom resource definitions, as a large platform installs them.

use super::super::connection::{Call, Endpoint};
use super::super::process::Process;
use super::super::sample::{Sample, duration, mebibytes};
use super::super::table::{Row, Table};
use anyhow::{Context, Result};
use futures::future::try_join_all;
use hyper::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DEFINITIONS: usize = 500;
const CLIENTS: usize = 8;
const SERVED_MAX: Duration = Duration::from_secs(10);
const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub async fn measure(endpoint: &Endpoint, skiff: Process, table: &mut Table) -> Result<()> {
    let before = skiff.usage()?;
    let begun = Instant::now();
    let tasks = (0..CLIENTS).map(|client| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let mut connection = endpoint.connect_http2().await?;
            let mut taken = Vec::new();
            for at in (0..DEFINITIONS).skip(client).step_by(CLIENTS) {
                let sent = Instant::now();
                connection
                    .send(Call::with_body(Method::POST, PATH, definition(at).to_string()))
                    .await?;
                let list = format!("/apis/group{}.example.com/v1/thing{at}s", at % 50);
                while connection.send(Call::get(list.clone())).await.is_err() {
                    anyhow::ensure!(sent.elapsed() < SERVED_MAX, "definition {at} is not served");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                taken.push(sent.elapsed());
            }
            anyhow::Ok(taken)
        })
    });
    let mut all = Vec::new();
    for taken in try_join_all(tasks).await? {
        all.extend(taken?);
    }
    let took = begun.elapsed();
    let served = Sample::new(all);
    let after = skiff.usage()?;
    table.push(Row::new(
        format!("{DEFINITIONS} definitions by {CLIENTS} clients: all served, each p50 / p99"),
        format!("{}, {}", duration(took), served.told()),
    ));
    table.push(Row::new(
        format!("{DEFINITIONS} definitions: RSS more than without"),
        mebibytes(after.rss_bytes.saturating_sub(before.rss_bytes)),
    ));
    let mut connection = endpoint.connect_http2().await?;
    for (told, path, accept) in [
        (
            "discovery, aggregated",
            "/apis",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        ),
        (
            "OpenAPI v3 of one group",
            "/openapi/v3/apis/group7.example.com/v1",
            "application/json",
        ),
        ("OpenAPI v2, first", "/openapi/v2", "application/json"),
        ("OpenAPI v2, again", "/openapi/v2", "application/json"),
    ] {
        let sent = Instant::now();
        let body = connection.send(Call::get(path).accept(accept)).await.context(told)?;
        table.push(Row::new(
            format!("{DEFINITIONS} definitions: {told} ({})", mebibytes(body.len() as u64)),
            duration(sent.elapsed()),
        ));
    }
    Ok(())
}

fn definition(at: usize) -> Value {
    let group = format!("group{}.example.com", at % 50);
    let text = json!({"type": "string", "maxLength": 200, "description": "A text that says what the field is for."});
    let properties: serde_json::Map<String, Value> = (0..30).map(|at| (format!("field{at}"), text.clone())).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("thing{at}s.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": format!("thing{at}s"), "singular": format!("thing{at}"), "kind": format!("Thing{at}"), "listKind": format!("Thing{at}List")},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": properties},
                    "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
                }}},
            }],
        },
    })
}
