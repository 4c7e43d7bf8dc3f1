//! `/configz`: what is in force on this node, in the shape of a KubeletConfiguration. Pure.

use crate::config::Config;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub fn configuration(config: &Config) -> Value {
    let mut all = serving(config);
    for part in [node(config), upkeep(config)] {
        if let (Value::Object(all), Value::Object(part)) = (&mut all, part) {
            all.extend(part);
        }
    }
    all
}

/// Who is answered, and how.
fn serving(config: &Config) -> Value {
    json!({
        "enableServer": true,
        "syncFrequency": "1m0s",
        "fileCheckFrequency": "20s",
        "httpCheckFrequency": "20s",
        "address": "0.0.0.0",
        "port": config.kubelet_port,
        "readOnlyPort": 0,
        "authentication": {
            "x509": {"clientCAFile": ""},
            "webhook": {"enabled": true, "cacheTTL": "2m0s"},
            "anonymous": {"enabled": false},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"},
        },
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
    })
}

/// What the node is and how pods run on it.
fn node(config: &Config) -> Value {
    let images = &config.images.thresholds;
    json!({
        "registryPullQPS": 5,
        "registryBurst": 10,
        "eventRecordQPS": 50,
        "eventBurst": 100,
        "enableDebuggingHandlers": true,
        "healthzPort": 0,
        "oomScoreAdj": -999,
        "clusterDomain": config.cluster_domain,
        "clusterDNS": [config.cluster_dns.to_string()],
        "streamingConnectionIdleTimeout": "4h0m0s",
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": 40,
        "imageMinimumGCAge": span(images.age_min),
        "imageMaximumGCAge": span(images.age_max.unwrap_or_default()),
        "imageGCHighThresholdPercent": images.high_percent,
        "imageGCLowThresholdPercent": images.low_percent,
        "maxParallelImagePulls": config.images.pulls_at_once_max,
        "volumeStatsAggPeriod": "1m0s",
        "cgroupRoot": format!("/{}", config.cgroup_root),
        "cgroupsPerQOS": true,
        "cgroupDriver": "cgroupfs",
        "cpuManagerPolicy": "none",
        "memoryManagerPolicy": "None",
        "topologyManagerPolicy": "none",
        "topologyManagerScope": "container",
        "runtimeRequestTimeout": "2m0s",
        "hairpinMode": "promiscuous-bridge",
        "maxPods": config.pods_max,
        "podPidsLimit": config.pod_pids_max.unwrap_or(-1),
        "resolvConf": config.resolv_conf.to_string_lossy(),
        "cpuCFSQuota": true,
        "cpuCFSQuotaPeriod": "100ms",
        "nodeStatusMaxImages": 50,
        "maxOpenFiles": 1_000_000,
        "contentType": "application/json",
        "registerWithTaints": serde_json::to_value(&config.taints).unwrap_or_default(),
        "registerNode": true,
    })
}

/// What is kept in order, and by which measure.
fn upkeep(config: &Config) -> Value {
    let size = format!("{}Mi", config.log_bytes_max >> 20);
    json!({
        "serializeImagePulls": false,
        "evictionHard": thresholds(config, true),
        "evictionSoft": thresholds(config, false),
        "evictionPressureTransitionPeriod": span(config.eviction.transition.unsigned_abs()),
        "evictionMaxPodGracePeriod": config.eviction.grace_s_max,
        "systemReserved": config.system_reserved,
        "kubeReserved": config.kube_reserved,
        "allowedUnsafeSysctls": config.allowed_unsafe_sysctls,
        "enableControllerAttachDetach": true,
        "makeIPTablesUtilChains": true,
        "failSwapOn": false,
        "memorySwap": {},
        "containerLogMaxSize": size,
        "containerLogMaxFiles": config.log_files_max,
        "containerLogMaxWorkers": 1,
        "containerLogMonitorInterval": "10s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "enforceNodeAllocatable": ["pods"],
        "volumePluginDir": "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/",
        "logging": {"format": "text", "flushFrequency": "5s", "verbosity": 0, "options": {"text": {"infoBufferSize": "0"}, "json": {"infoBufferSize": "0"}}},
        "enableSystemLogHandler": true,
        "enableSystemLogQuery": false,
        "shutdownGracePeriod": span(config.shutdown_grace.all),
        "shutdownGracePeriodCriticalPods": span(config.shutdown_grace.critical),
        "crashLoopBackOff": {},
        "enableProfilingHandler": false,
        "enableDebugFlagsHandler": false,
        "seccompDefault": false,
        "memoryThrottlingFactor": 0.9,
        "localStorageCapacityIsolation": true,
        "containerRuntimeEndpoint": format!("unix://{}", config.data_dir.join("run/containerd.sock").display()),
        "failCgroupV1": false,
    })
}

fn thresholds(config: &Config, hard: bool) -> Value {
    let wanted = config
        .eviction
        .thresholds
        .iter()
        .filter(|t| t.grace.is_none() == hard && !t.implied);
    let pairs = wanted.map(|t| (t.signal.name().to_owned(), t.value.text().into()));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

/// A span as Go writes it.
fn span(of: Duration) -> String {
    let (minutes, seconds) = (of.as_secs() / 60, of.as_secs() % 60);
    match minutes {
        0 => format!("{seconds}s"),
        minutes if minutes >= 60 => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
        minutes => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn says_what_is_in_force() {
        let mut config = Config::new("node1", Path::new("/d"));
        config.pods_max = 7;
        let shown = configuration(&config);
        assert_eq!(shown["kind"], "KubeletConfiguration");
        assert_eq!(
            (&shown["maxPods"], &shown["containerLogMaxSize"]),
            (&json!(7), &json!("10Mi"))
        );
        assert_eq!(shown["evictionHard"]["memory.available"], "100Mi");
        assert_eq!(shown["evictionPressureTransitionPeriod"], "5m0s");
        assert_eq!(shown["imageMaximumGCAge"], "0s");
    }
}
