//! What a node is told, from the command line; the same in a server and alone.

use crate::cli::{ClusterArgs, NodeArgs};
use crate::paths;
use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Taint;
use skiff_agent::{ImageSettings, ImageThresholds};
use skiff_api::names;
use std::path::{Path, PathBuf};

pub fn name(args: &NodeArgs) -> Result<String> {
    let name = match &args.node_name {
        Some(name) => name.clone(),
        None => crate::address::host_name()?,
    };
    let errors = skiff_api::names::dns1123_subdomain(&name);
    if let Some(error) = errors.first() {
        bail!("{name:?} cannot be a node's name ({error}); give another with --node-name");
    }
    Ok(name)
}

pub fn cidrs(text: &str, flag: &str) -> Result<Vec<IpNet>> {
    text.split(',')
        .map(|part| {
            part.trim()
                .parse::<IpNet>()
                .with_context(|| format!("{flag}: {part:?} is no network such as 10.42.0.0/16"))
        })
        .collect()
}

pub fn config(args: &NodeArgs, cluster: &ClusterArgs, data_dir: &Path) -> Result<skiff_agent::Config> {
    let agent_dir = data_dir.join(paths::AGENT);
    let mut config = skiff_agent::Config::new(&name(args)?, &agent_dir);
    config.node_ip = Some(args.node_ip.unwrap_or_else(crate::address::node_address));
    config.cluster_dns = cluster.cluster_dns;
    config.cluster_domain = cluster.cluster_domain.clone();
    config.service_cidrs = cidrs(&cluster.service_cidr, "--service-cidr")?;
    config.cluster_cidrs = cidrs(&cluster.cluster_cidr, "--cluster-cidr")?;
    config.containerd_binary = args.containerd.clone();
    config.cni_binary = Some(cni_plugin(args)?);
    config.images_dir = data_dir.join(paths::IMAGES);
    config.pause_image = args.pause_image.clone();
    config.images = images(args)?;
    config.kubelet_port = args.kubelet_port;
    config.log_bytes_max = log_size(&args.container_log_max_size)?;
    config.log_files_max = args.container_log_max_files;
    config.resolv_conf = args.resolv_conf.clone();
    config.network_backend = match args.network_backend.as_str() {
        "vxlan" => skiff_network::Backend::Vxlan,
        "direct" => skiff_network::Backend::Direct,
        _ => skiff_network::Backend::Auto,
    };
    config.labels = args.node_labels.iter().map(|text| label(text)).collect::<Result<_>>()?;
    for pattern in &args.allowed_unsafe_sysctls {
        if let Err(why) = skiff_agent::check_sysctl_pattern(pattern) {
            bail!("--allowed-unsafe-sysctls: {why}")
        }
    }
    config.allowed_unsafe_sysctls.clone_from(&args.allowed_unsafe_sysctls);
    if let Some(dir) = &args.pod_manifest_path {
        config.manifests_dir.clone_from(dir);
    }
    crate::resources::apply(&args.resources, &mut config)?;
    config.taints = args.node_taints.iter().map(|text| taint(text)).collect::<Result<_>>()?;
    Ok(config)
}

fn images(args: &NodeArgs) -> Result<ImageSettings> {
    let (high, low) = (args.image_gc_high_threshold, args.image_gc_low_threshold);
    if low >= high {
        bail!("--image-gc-low-threshold ({low}) must be less than --image-gc-high-threshold ({high})");
    }
    Ok(ImageSettings {
        registries_file: args.private_registry.clone(),
        thresholds: ImageThresholds {
            high_percent: high.into(),
            low_percent: low.into(),
            age_min: args.minimum_image_ttl_duration,
            age_max: args.maximum_image_ttl_duration,
        },
        pulls_at_once_max: args.max_parallel_image_pulls.into(),
    })
}

fn log_size(text: &str) -> Result<u64> {
    let bytes = text.parse::<skiff_api::quantity::Quantity>().ok().map(|q| q.value());
    let bytes = bytes.and_then(|b| u64::try_from(b).ok()).filter(|b| *b > 0);
    bytes.with_context(|| format!("--container-log-max-size: {text:?} is no size such as 10Mi"))
}

/// Of Kubernetes' own labels, namespaces in which a node may name anything.
const LABEL_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// And those that it may say of itself.
const LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

fn label(text: &str) -> Result<(String, String)> {
    let (key, value) = text
        .split_once('=')
        .with_context(|| format!("--node-labels: {text:?} is not key=value"))?;
    let wrong = [names::qualified_name(key), names::label_value(value)].concat();
    if !wrong.is_empty() {
        bail!("--node-labels: {text:?}: {}", wrong.join("; "));
    }
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let within = |domain: &str| {
        let rest = namespace.strip_suffix(domain);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let reserved = within("kubernetes.io") || within("k8s.io");
    if reserved && !LABEL_NAMESPACES.iter().any(|allowed| within(allowed)) && !LABELS.contains(&key) {
        bail!(
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{key}]\n--node-labels in the \
             'kubernetes.io' namespace must begin with an allowed prefix ({}) or be in the specifically allowed set ({})",
            LABEL_NAMESPACES.join(", "),
            LABELS.join(", ")
        );
    }
    Ok((key.to_string(), value.to_string()))
}

fn taint(text: &str) -> Result<Taint> {
    let wrong = || format!("--node-taints: {text:?} is not key=value:effect or key:effect");
    let (left, effect) = text.rsplit_once(':').with_context(wrong)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        bail!("--node-taints: the effect {effect:?} is none of NoSchedule, PreferNoSchedule, NoExecute");
    }
    let (key, value) = left
        .split_once('=')
        .map_or((left, None), |(key, value)| (key, Some(value)));
    let wrong = [
        names::qualified_name(key),
        names::label_value(value.unwrap_or_default()),
    ]
    .concat();
    if !wrong.is_empty() {
        bail!("--node-taints: {text:?}: {}", wrong.join("; "));
    }
    Ok(Taint {
        key: key.into(),
        value: value.map(str::to_string),
        effect: effect.into(),
        ..Taint::default()
    })
}

/// `skiff-cni` beside this program, unless told otherwise.
fn cni_plugin(args: &NodeArgs) -> Result<PathBuf> {
    let path = match &args.cni_plugin {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .context("cannot find this program's own path")?
            .with_file_name("skiff-cni"),
    };
    if !path.is_file() {
        bail!(
            "the CNI plugin {} is missing; install it beside the skiff program or give --cni-plugin",
            path.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read_as_kubectl_writes_them() {
        let with = taint("dedicated=db:NoSchedule").expect("a taint");
        assert_eq!(
            (with.key.as_str(), with.value.as_deref(), with.effect.as_str()),
            ("dedicated", Some("db"), "NoSchedule")
        );
        assert_eq!(taint("spot:NoExecute").expect("a taint").value, None);
        assert!(taint("spot").is_err());
        assert!(
            taint("spot:Sometimes")
                .expect_err("no effect")
                .to_string()
                .contains("none of NoSchedule")
        );
    }

    #[test]
    fn a_node_says_only_some_of_kubernetes_labels_of_itself() {
        for good in [
            "disk=ssd",
            "empty=",
            "example.com/rack=a-1",
            "topology.kubernetes.io/zone=z1",
            "node.kubernetes.io/pool=a",
            "x.kubelet.kubernetes.io/y=1",
        ] {
            assert!(label(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("disk", "is not key=value"),
            ("a b=c", "name part must consist of"),
            ("disk=a b", "a valid label must be"),
            (
                "node-role.kubernetes.io/worker=",
                "unknown 'kubernetes.io' or 'k8s.io' labels",
            ),
            ("xnode.kubernetes.io/a=b", "[xnode.kubernetes.io/a]"),
            (
                "k8s.io/a=b",
                "allowed prefix (kubelet.kubernetes.io, node.kubernetes.io)",
            ),
        ] {
            let told = label(bad).expect_err(bad).to_string();
            assert!(told.contains(why), "{bad}: {told}");
        }
        assert!(taint("a b=c:NoSchedule").is_err());
    }

    #[test]
    fn labels_and_taints_may_be_given_one_by_one() {
        use clap::Parser;
        let words = "skiff agent --node-label a=1 --node-label b=2 --node-labels c=3,d=4 --node-taint x:NoSchedule --register-with-taints y:NoExecute";
        let parsed = crate::cli::Cli::parse_from(words.split(' '));
        let crate::cli::Command::Agent(args) = parsed.command else {
            panic!("an agent")
        };
        assert_eq!(args.node.node_labels, ["a=1", "b=2", "c=3", "d=4"]);
        assert_eq!(args.node.node_taints, ["x:NoSchedule", "y:NoExecute"]);
    }
}
