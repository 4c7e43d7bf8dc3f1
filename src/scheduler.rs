//! What the scheduler is told (`--scheduler-config`), and what it tells (`skiff scheduler explain`).

use anyhow::{Context, Result};
use skiff_scheduler::Settings;
use std::path::Path;

/// From a KubeSchedulerConfiguration, in YAML or JSON; the defaults without one.
pub fn settings(file: Option<&Path>) -> Result<Settings> {
    let Some(path) = file else {
        return Ok(Settings::default());
    };
    let told = || format!("--scheduler-config {}", path.display());
    let text = std::fs::read_to_string(path).with_context(told)?;
    let document: serde_json::Value = serde_saphyr::from_str(&text).with_context(told)?;
    Settings::parse(&document).with_context(told)
}
