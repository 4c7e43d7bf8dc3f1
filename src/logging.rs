//! Where log lines go: standard error, as text or JSON, filtered by level.

use anyhow::{Context, Result};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging. A bare level applies to Skiff's own crates; libraries are
/// heard from `warn` on, unless the filter names them.
pub fn start(level: &str, format: &str) -> Result<()> {
    let bare = ["error", "warn", "info", "debug", "trace", "off"].contains(&level);
    let text = if bare { bare_filter(level) } else { level.to_string() };
    let filter = EnvFilter::try_new(&text).with_context(|| {
        format!("--log-level {level:?}: give error, warn, info, debug, trace or a filter such as skiff_agent=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if format == "json" {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}

fn bare_filter(level: &str) -> String {
    if matches!(level, "error" | "off") {
        return level.to_string();
    }
    let own = [
        "skiff",
        "skiff_api",
        "skiff_store",
        "skiff_apiserver",
        "skiff_access",
        "skiff_scheduler",
        "skiff_controllers",
        "skiff_agent",
        "skiff_streaming",
        "skiff_network",
        "skiff_csi",
    ];
    // The client repeats every failed request, which who asked says once; openraft
    // warns of votes that its own start outdates.
    let mut filter = "warn,kube_client=off,openraft=error".to_string();
    for name in own {
        filter += &format!(",{name}={level}");
    }
    filter
}
