//! Rules of the house that the compiler does not check: which crate may depend
//! on which, which files stay pure, and how long files may get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Crates of ours that each may depend on, tests and build scripts included.
/// An arrow runs only downwards; `scheduler`, `controllers` and the agent know
/// the API server only as an HTTP API.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("skiff-api", &[]),
    ("skiff-metrics", &[]),
    ("skiff-events", &[]),
    ("skiff-proto", &[]),
    ("skiff-store", &[]),
    ("skiff-peer", &["skiff-store", "skiff-proto"]),
    ("skiff-etcd", &["skiff-store", "skiff-proto"]),
    ("base2histogram", &[]),
    (
        "skiff-store-bench",
        &["skiff-store", "skiff-peer", "skiff-etcd", "skiff-proto"],
    ),
    ("skiff-custom", &["skiff-api", "skiff-cel"]),
    ("skiff-kinds", &["skiff-api", "skiff-cel", "skiff-custom"]),
    ("skiff-access", &["skiff-api"]),
    ("skiff-cel", &["skiff-api"]),
    ("skiff-admission", &["skiff-access", "skiff-api", "skiff-cel"]),
    (
        "skiff-apiserver",
        &[
            "skiff-api",
            "skiff-store",
            "skiff-access",
            "skiff-admission",
            "skiff-kinds",
            "skiff-cel",
            "skiff-custom",
            "skiff-metrics",
        ],
    ),
    ("skiff-scheduler", &["skiff-metrics", "skiff-api", "skiff-cel"]),
    ("skiff-controllers", &["skiff-metrics", "skiff-events"]),
    ("skiff-network", &[]),
    ("skiff-csi", &["skiff-proto"]),
    ("skiff-streaming", &[]),
    (
        "skiff-agent",
        &[
            "skiff-proto",
            "skiff-metrics",
            "skiff-events",
            "skiff-network",
            "skiff-csi",
            "skiff-streaming",
        ],
    ),
    ("skiff-cni", &[]),
    ("skiff-images", &[]),
    ("skiff-web", &[]),
    ("skiff-tests", &["skiff-proto"]),
    (
        "skiff",
        &[
            "skiff-api",
            "skiff-store",
            "skiff-access",
            "skiff-apiserver",
            "skiff-metrics",
            "skiff-scheduler",
            "skiff-controllers",
            "skiff-agent",
            "skiff-network",
            "skiff-etcd",
            "skiff-peer",
        ],
    ),
];

/// Files and folders that decide and do nothing else.
const PURE: &[&str] = &[
    "api/src",
    "events/src",
    "apiserver/custom/src",
    "apiserver/kinds/src",
    "apiserver/cel/src",
    "apiserver/access/src/admission",
    "apiserver/access/src/authorization",
    "apiserver/admission/src",
    "apiserver/src/aggregation/availability.rs",
    "apiserver/src/aggregation/local.rs",
    "apiserver/src/aggregation/merge.rs",
    "apiserver/src/aggregation/openapi.rs",
    "apiserver/src/flow/bootstrap.rs",
    "apiserver/src/flow/matching.rs",
    "apiserver/src/flow/queues.rs",
    "apiserver/src/flow/shares.rs",
    "apiserver/src/flow/width.rs",
    "apiserver/src/proxy/logs.rs",
    "apiserver/src/proxy/page.rs",
    "apiserver/src/request",
    "apiserver/src/resource_metrics/scrape.rs",
    "apiserver/src/resource_metrics/show.rs",
    "controllers/src/autoscale/calculate.rs",
    "controllers/src/autoscale/limit.rs",
    "controllers/src/autoscale/plan.rs",
    "controllers/src/autoscale/quantity.rs",
    "controllers/src/autoscale/select.rs",
    "scheduler/src/affinity.rs",
    "scheduler/src/explain.rs",
    "controllers/src/certificates/plan.rs",
    "controllers/src/cronjob/plan.rs",
    "controllers/src/cronjob/schedule.rs",
    "controllers/src/daemonset/backoff.rs",
    "controllers/src/daemonset/plan.rs",
    "controllers/src/deployment/plan.rs",
    "controllers/src/deployment/revision.rs",
    "controllers/src/deployment/size.rs",
    "controllers/src/deployment/status.rs",
    "controllers/src/disruption/plan.rs",
    "controllers/src/endpoints/legacy.rs",
    "controllers/src/endpoints/mirror.rs",
    "controllers/src/endpoints/plan.rs",
    "controllers/src/endpoints/trigger.rs",
    "controllers/src/garbage/graph.rs",
    "controllers/src/job/count.rs",
    "controllers/src/job/finish.rs",
    "controllers/src/job/indexes.rs",
    "controllers/src/job/manage.rs",
    "controllers/src/job/plan.rs",
    "controllers/src/job/pod.rs",
    "controllers/src/job/policy.rs",
    "controllers/src/job/view.rs",
    "controllers/src/node/health.rs",
    "controllers/src/node/ipam.rs",
    "controllers/src/node/zones.rs",
    "controllers/src/replicaset/plan.rs",
    "controllers/src/resourceclaim/plan.rs",
    "controllers/src/selector.rs",
    "controllers/src/statefulset/plan.rs",
    "controllers/src/statefulset/pod.rs",
    "scheduler/src/devices",
    "scheduler/src/filter.rs",
    "scheduler/src/hints.rs",
    "scheduler/src/kin.rs",
    "scheduler/src/memo.rs",
    "scheduler/src/plugin.rs",
    "scheduler/src/pod.rs",
    "scheduler/src/preempt.rs",
    "scheduler/src/profile.rs",
    "scheduler/src/queue.rs",
    "scheduler/src/resources.rs",
    "scheduler/src/round.rs",
    "scheduler/src/rules",
    "scheduler/src/schedule.rs",
    "scheduler/src/score.rs",
    "scheduler/src/selector.rs",
    "scheduler/src/snapshot",
    "scheduler/src/tolerations.rs",
    "store/src/mvcc",
    "agent/src/image/attempts.rs",
    "agent/src/image/collect.rs",
    "agent/src/image/credentials.rs",
    "agent/src/image/records.rs",
    "agent/src/image/reference.rs",
    "agent/src/image/registries.rs",
    "agent/src/pod/environment",
    "agent/src/pod/environment.rs",
    "agent/src/stats/cadvisor.rs",
    "agent/src/stats/rates.rs",
    "agent/src/stats/resource.rs",
    "agent/src/stats/summary.rs",
    "agent/src/users/plan.rs",
    "agent/src/volume/kind.rs",
    "agent/src/volume/payload.rs",
    "agent/streaming/src/access.rs",
    "agent/src/eviction/plan.rs",
    "agent/src/eviction/rank.rs",
    "agent/src/eviction/threshold.rs",
    "agent/src/node/allocatable.rs",
    "agent/src/pod/resources",
    "agent/src/pod/resources.rs",
    "agent/src/resize/allocation.rs",
    "agent/src/resize/ledger.rs",
    "agent/src/resize/message.rs",
    "agent/src/resize/plan.rs",
    "agent/src/resize/state.rs",
    "agent/src/leaving/plan.rs",
    "agent/src/manifest/read.rs",
    "agent/src/pod/admission.rs",
    "agent/src/pod/anew.rs",
    "agent/src/pod/backoff.rs",
    "agent/src/pod/observed.rs",
    "agent/src/pod/plan.rs",
    "agent/src/pod/preemption.rs",
    "agent/src/pod/sandbox",
    "agent/src/pod/sandbox.rs",
    "agent/src/pod/spec.rs",
    "agent/src/pod/status",
    "agent/src/pod/status.rs",
    "agent/streaming/src/route.rs",
    "agent/streaming/src/spdy.rs",
    "agent/streaming/src/logs/line.rs",
    "cni/src/ipam.rs",
];

/// What a pure file must not touch: I/O, clocks, chance.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net::Tcp",
    "std::process",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "rand::",
    "std::env::",
];

/// Longer files need a reason and a line in `tidy_sizes.txt`; there they may
/// shrink, not grow.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn arrows_run_downwards() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".to_string()])
        .exec()
        .expect("cargo metadata");
    let allowed: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(may) = allowed.get(name) else {
            wrong.push(format!("{name} is new: say in tests/tidy.rs what it may depend on"));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.name.starts_with("skiff"))
        {
            if !may.contains(&dependency.name.as_str()) {
                wrong.push(format!("{name} must not depend on {}", dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_files_stay_pure() {
    let mut wrong = Vec::new();
    for place in PURE {
        let files = rust_files(&root().join(place));
        assert!(!files.is_empty(), "{place} is gone: mend the list in tests/tidy.rs");
        for file in files {
            for (number, line) in own_lines(&file) {
                if let Some(what) = IMPURE.iter().find(|what| line.contains(**what)) {
                    wrong.push(format!("{}:{number} uses {what}", shown(&file)));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these files decide; doing belongs elsewhere:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn files_do_not_grow_long() {
    let text = std::fs::read_to_string(root().join("tests/tidy_sizes.txt")).expect("tests/tidy_sizes.txt");
    let known: BTreeMap<&str, usize> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let count = words.next().and_then(|word| word.parse().ok()).expect("a number first");
            (words.next().expect("then a path"), count)
        })
        .collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in rust_files(&root()) {
        let path = shown(&file);
        let lines = own_lines(&file).len();
        match known.get(path.as_str()) {
            Some(bound) if lines > *bound => wrong.push(format!("{path} grew from {bound} to {lines} lines")),
            None if lines > LINES_MAX => wrong.push(format!(
                "{path} has {lines} lines; split it (or list it with its reason)"
            )),
            _ => {}
        }
        seen.insert(path);
    }
    wrong.extend(
        known
            .keys()
            .filter(|path| !seen.contains(**path))
            .map(|path| format!("{path} is gone: strike it from the list")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines before the file's own tests, with their numbers, without comments.
fn own_lines(file: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(file).expect("a readable file");
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line.to_string()))
        .collect()
}

/// All Rust files below, sorted, but for tests, examples and what is built.
fn rust_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_path_buf()];
    }
    let skipped = ["target", ".git", "tests", "examples", "benches"];
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(place) else {
        return files;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !skipped.contains(&name.as_str()) {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") && !name.ends_with("_test.rs") && name != "tests.rs" && name != "fake.rs" {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}
