//! What pods may have of a node, and when they must go: kubelet's flags by their names.

use anyhow::{Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone, Args)]
pub struct ResourceArgs {
    /// Pods that run on this node at the same time
    #[arg(long, env = "SKIFF_MAX_PODS", default_value_t = 110, value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub max_pods: u32,
    /// Processes and threads of one pod [default: as many as the node bears]
    #[arg(long, env = "SKIFF_POD_MAX_PIDS", value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    pub pod_max_pids: Option<i64>,
    /// Resources that pods may not have because the system needs them, such as cpu=200m,memory=500Mi
    #[arg(
        long,
        env = "SKIFF_SYSTEM_RESERVED",
        value_delimiter = ',',
        value_name = "NAME=QUANTITY"
    )]
    pub system_reserved: Vec<String>,
    /// Resources that pods may not have because Skiff itself needs them
    #[arg(
        long,
        env = "SKIFF_KUBE_RESERVED",
        value_delimiter = ',',
        value_name = "NAME=QUANTITY"
    )]
    pub kube_reserved: Vec<String>,
    /// What must stay free, or pods are evicted at once; 0% turns a signal off
    #[arg(long, env = "SKIFF_EVICTION_HARD", default_value = skiff_agent::EVICTION_HARD, value_name = "SIGNAL<VALUE")]
    pub eviction_hard: String,
    /// What should stay free, or pods are evicted after a grace period
    #[arg(
        long,
        env = "SKIFF_EVICTION_SOFT",
        default_value = "",
        hide_default_value = true,
        value_name = "SIGNAL<VALUE"
    )]
    pub eviction_soft: String,
    /// How long each soft threshold may be crossed, such as memory.available=1m30s
    #[arg(
        long,
        env = "SKIFF_EVICTION_SOFT_GRACE_PERIOD",
        default_value = "",
        hide_default_value = true,
        value_name = "SIGNAL=DURATION"
    )]
    pub eviction_soft_grace_period: String,
    /// How much more than a threshold is to be free before evictions end
    #[arg(
        long,
        env = "SKIFF_EVICTION_MINIMUM_RECLAIM",
        default_value = "",
        hide_default_value = true,
        value_name = "SIGNAL=VALUE"
    )]
    pub eviction_minimum_reclaim: String,
    /// How long the node tells a pressure after it has ended
    #[arg(long, env = "SKIFF_EVICTION_PRESSURE_TRANSITION_PERIOD", default_value = "5m",
        value_parser = crate::duration::parse, value_name = "DURATION")]
    pub eviction_pressure_transition_period: Duration,
    /// The longest that a pod may take to end when a soft threshold was crossed, in seconds
    #[arg(long, env = "SKIFF_EVICTION_MAX_POD_GRACE_PERIOD", default_value_t = 0, value_name = "SECONDS",
        value_parser = clap::value_parser!(i64).range(0..))]
    pub eviction_max_pod_grace_period: i64,
    /// How long pods may take to end when the machine goes down; 0: they are not told of it
    #[arg(long, env = "SKIFF_SHUTDOWN_GRACE_PERIOD", default_value = "0", value_parser = crate::duration::parse,
        value_name = "DURATION")]
    pub shutdown_grace_period: Duration,
    /// The part of it that is kept for critical pods, which end last
    #[arg(long, env = "SKIFF_SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS", default_value = "0",
        value_parser = crate::duration::parse, value_name = "DURATION")]
    pub shutdown_grace_period_critical_pods: Duration,
}

fn reserved(list: &[String], flag: &str) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for text in list {
        let Some((name, quantity)) = text.split_once('=') else {
            bail!("{flag}: {text:?} is not name=quantity")
        };
        let known = matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pid");
        if !known || quantity.parse::<skiff_api::quantity::Quantity>().is_err() || quantity.starts_with('-') {
            bail!("{flag}: {text:?} is none of cpu, memory, ephemeral-storage and pid with a quantity such as 500Mi");
        }
        all.insert(name.to_owned(), quantity.to_owned());
    }
    Ok(all)
}

pub fn apply(args: &ResourceArgs, config: &mut skiff_agent::Config) -> Result<()> {
    config.pods_max = args.max_pods;
    config.pod_pids_max = args.pod_max_pids;
    config.system_reserved = reserved(&args.system_reserved, "--system-reserved")?;
    config.kube_reserved = reserved(&args.kube_reserved, "--kube-reserved")?;
    let settings = skiff_agent::EvictionSettings::parse(
        &args.eviction_hard,
        &args.eviction_soft,
        &args.eviction_soft_grace_period,
        &args.eviction_minimum_reclaim,
    );
    let mut settings = match settings {
        Ok(settings) => settings,
        Err(why) => bail!("--eviction-hard, --eviction-soft and what belongs to them: {why}"),
    };
    settings.grace_s_max = args.eviction_max_pod_grace_period;
    settings.transition = args.eviction_pressure_transition_period.try_into()?;
    config.eviction = settings;
    let (all, critical) = (args.shutdown_grace_period, args.shutdown_grace_period_critical_pods);
    if critical > all {
        bail!("--shutdown-grace-period-critical-pods must be no more than --shutdown-grace-period");
    }
    config.shutdown_grace = skiff_agent::ShutdownGrace { all, critical };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_resources() {
        let of = |text: &str| reserved(&[text.to_owned()], "--x");
        assert_eq!(of("memory=500Mi").expect("right")["memory"], "500Mi");
        for wrong in ["memory", "memory=", "memory=x", "memory=-1", "gpu=1"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
