//! `/metrics` and the health checks, as probes and dashboards read them.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::{Caller, config_map, fixture};

async fn page(caller: &Caller) -> String {
    let (code, text) = caller.get("/metrics").await;
    assert_eq!(code, 200);
    text.as_str().unwrap().to_string()
}

fn value(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = page
        .lines()
        .find(|l| l.starts_with(&format!("{name}{{")) && labels.iter().all(|label| l.contains(label)))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn figures_tell_what_happened() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let maps = "/api/v1/namespaces/default/configmaps";
    let mut events = admin
        .watch(&format!("{maps}?watch=true&resourceVersion=0"), "application/json")
        .await;
    for name in ["a", "b"] {
        assert_eq!(admin.post(maps, config_map(name, json!({}))).await.0, 201);
        assert_eq!(events.line().await, format!("ADDED {name}"));
    }
    admin.get(maps).await;
    admin.get(&format!("{maps}/none")).await;
    let dry = admin.send(&format!("DELETE {maps}/a?dryRun=All"), &[], "").await;
    assert_eq!(dry.0, 200);
    let text = page(&admin).await;
    let total = |labels: &[&str]| value(&text, "apiserver_request_total", labels);
    let of_maps = r#"resource="configmaps""#;
    assert_eq!(
        total(&[of_maps, r#"verb="POST""#, r#"code="201""#, r#"scope="resource""#]),
        Some(2.0)
    );
    assert_eq!(
        total(&[of_maps, r#"verb="LIST""#, r#"code="200""#, r#"scope="namespace""#]),
        Some(1.0)
    );
    assert_eq!(total(&[of_maps, r#"verb="GET""#, r#"code="404""#]), Some(1.0));
    assert_eq!(total(&[of_maps, r#"verb="DELETE""#, r#"dry_run="All""#]), Some(1.0));
    let watches = [of_maps, r#"verb="WATCH""#];
    assert_eq!(value(&text, "apiserver_longrunning_requests", &watches), Some(1.0));
    assert_eq!(value(&text, "apiserver_watch_events_total", &[of_maps]), Some(2.0));
    assert!(value(&text, "apiserver_storage_objects", &[r#"resource="configmaps""#]) >= Some(3.0));
    assert!(
        value(
            &text,
            "apiserver_request_duration_seconds_count",
            &[of_maps, r#"verb="POST""#]
        ) == Some(2.0)
    );
    assert!(value(&text, "apiserver_response_sizes_sum", &[of_maps, r#"verb="LIST""#]) > Some(100.0));
    assert!(
        value(
            &text,
            "apiserver_flowcontrol_dispatched_requests_total",
            &[r#"flow_schema="exempt""#]
        ) > Some(4.0)
    );
    assert_eq!(
        value(
            &text,
            "apiserver_flowcontrol_nominal_limit_seats",
            &[r#"priority_level="node-high""#]
        ),
        Some(98.0)
    );
    // The page itself is being read.
    assert_eq!(
        value(
            &text,
            "apiserver_current_inflight_requests",
            &[r#"request_kind="readOnly""#]
        ),
        Some(1.0)
    );
    drop(events);
    assert_eq!(
        value(&page(&admin).await, "apiserver_longrunning_requests", &watches),
        Some(0.0)
    );
}

/// Every line is a comment or a sample, and every family says what it is before its samples.
#[tokio::test]
async fn the_page_is_well_formed() {
    let fixture = fixture().await;
    let text = page(&fixture.admin()).await;
    let mut known: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(!known.iter().any(|(n, _)| n == name), "{name} comes twice");
            known.push((name.to_string(), kind.to_string()));
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = name.split('{').next().unwrap();
            let (family, kind) = known.last().unwrap();
            let fits = match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|end| name == format!("{family}{end}")),
                _ => name == family,
            };
            assert!(fits, "{line} in {family}");
        }
    }
    for name in [
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "kubernetes_build_info",
    ] {
        assert!(known.iter().any(|(n, _)| n == name), "{name}");
    }
}

#[tokio::test]
async fn health_checks_are_in_upstreams_words() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    let text = |path: &'static str| {
        let admin = admin.clone();
        async move {
            let (code, text) = admin.get(path).await;
            (code, text.as_str().unwrap_or("").to_string())
        }
    };
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/livez/ping",
        "/readyz/etcd",
        "/readyz/shutdown",
        "/healthz/poststarthook/rbac/bootstrap-roles",
    ] {
        assert_eq!(text(path).await, (200, "ok".into()), "{path}");
    }
    let (code, verbose) = text("/livez?verbose").await;
    assert_eq!(code, 200);
    assert!(verbose.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "{verbose}");
    assert!(verbose.ends_with("livez check passed\n"), "{verbose}");
    let (_, excluded) = text("/readyz?verbose&exclude=etcd&exclude=none").await;
    assert!(excluded.contains("[+]etcd excluded: ok\n"), "{excluded}");
    assert!(
        excluded.contains("warn: some health checks cannot be excluded: no matches for \"none\"\n"),
        "{excluded}"
    );
    assert_eq!(text("/livez/shutdown").await.0, 404);
}

#[tokio::test]
async fn what_checks_found_is_counted() {
    let fixture = fixture().await;
    let admin = fixture.admin();
    assert_eq!(admin.get("/metrics/slis").await.1.as_str().unwrap_or_default(), "");
    assert_eq!(admin.get("/livez").await.0, 200);
    assert_eq!(admin.get("/livez/ping").await.0, 200);
    assert_eq!(admin.get("/livez/none").await.0, 404);
    let (code, text) = admin.get("/metrics/slis").await;
    assert_eq!(code, 200);
    let text = text.as_str().unwrap();
    let of = |name: &str, labels: &[&str]| value(text, name, labels);
    let ping = ["name=\"ping\"", "type=\"livez\""];
    assert_eq!(of("kubernetes_healthcheck", &ping), Some(1.0));
    let counted = ["name=\"ping\"", "status=\"success\"", "type=\"livez\""];
    assert_eq!(of("kubernetes_healthchecks_total", &counted), Some(2.0));
    assert_eq!(of("kubernetes_healthcheck", &["type=\"readyz\""]), None);
}
