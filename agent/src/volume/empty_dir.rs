//! `emptyDir`: on the node's disk, in memory or in huge pages; lives as long as the pod.

use super::mount_point::{is_mount_point, memory, open_to_all};
use crate::error::Error;
use crate::pod::environment::Facts;
use crate::pod::{resources, spec};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec};
use std::collections::BTreeSet;
use std::path::Path;

/// What is to be mounted on the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Medium {
    Disk,
    Memory { bytes: i64 },
    HugePages { size: String },
}

/// Made once: what the containers did to its mode since is theirs.
pub fn make(
    path: &Path,
    source: &EmptyDirVolumeSource,
    pod_spec: &PodSpec,
    facts: &Facts,
    group: Option<u32>,
) -> Result<(), Error> {
    let medium = medium(source, pod_spec, facts).map_err(Error::Volume)?;
    if path.is_dir() && (medium == Medium::Disk || is_mount_point(path)) {
        return Ok(());
    }
    match medium {
        Medium::Disk => {
            std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
            open_to_all(path, group)
        }
        Medium::Memory { bytes } => memory(path, "tmpfs", &format!("size={bytes}"), group),
        Medium::HugePages { size } => memory(path, "hugetlbfs", &format!("pagesize={size}"), group),
    }
}

fn medium(source: &EmptyDirVolumeSource, pod_spec: &PodSpec, facts: &Facts) -> Result<Medium, String> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => Ok(Medium::Memory {
            bytes: memory_size(pod_spec, source, facts),
        }),
        "HugePages" => {
            let mut sizes = page_sizes(pod_spec).into_iter();
            match (sizes.next(), sizes.next()) {
                (Some(size), None) => Ok(Medium::HugePages { size }),
                (None, _) => Err(NO_HUGE_PAGES.into()),
                _ => Err("medium \"HugePages\" can't be used if container(s) request multiple huge page sizes".into()),
            }
        }
        other => match other.strip_prefix("HugePages-") {
            Some(size) if page_sizes(pod_spec).contains(size) => Ok(Medium::HugePages { size: size.into() }),
            Some(_) => Err(NO_HUGE_PAGES.into()),
            None => Err(format!("unknown storage medium {other:?}")),
        },
    }
}

const NO_HUGE_PAGES: &str = "hugePages storage requested, but there is no resource request for huge pages";

/// The sizes of huge pages that the pod's containers ask for.
fn page_sizes(pod_spec: &PodSpec) -> BTreeSet<String> {
    let all = spec::containers(pod_spec).filter_map(|(c, _)| c.resources.as_ref());
    all.chain(&pod_spec.resources)
        .flat_map(|r| [&r.requests, &r.limits])
        .flat_map(|map| map.iter().flatten())
        .filter_map(|(name, _)| name.strip_prefix("hugepages-").map(str::to_owned))
        .collect()
}

/// The smallest of the volume's limit, the pod's limit and the node's memory.
fn memory_size(pod_spec: &PodSpec, source: &EmptyDirVolumeSource, facts: &Facts) -> i64 {
    let own = source.size_limit.as_ref().and_then(|q| resources::milli(&q.0));
    let own = own.and_then(|m| i64::try_from(m / 1_000).ok()).filter(|b| *b > 0);
    [own, resources::memory_limit(pod_spec)]
        .into_iter()
        .flatten()
        .fold(facts.memory_allocatable_bytes, i64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn media() {
        let facts = Facts {
            memory_allocatable_bytes: 1_000 << 20,
            ..Facts::default()
        };
        let mib = |n: i64| Ok(Medium::Memory { bytes: n << 20 });
        let huge = |size: &str| Ok(Medium::HugePages { size: size.into() });
        let several = "medium \"HugePages\" can't be used if container(s) request multiple huge page sizes";
        for (limits, medium_name, size, expected) in [
            (json!({}), "", Some("1Mi"), Ok(Medium::Disk)),
            (json!({}), "Memory", None, mib(1_000)),
            (json!({}), "Memory", Some("10Mi"), mib(10)),
            (json!({"memory": "64Mi"}), "Memory", None, mib(64)),
            (json!({"memory": "64Mi"}), "Memory", Some("128Mi"), mib(64)),
            (json!({"memory": "64Mi"}), "Memory", Some("0"), mib(64)),
            (json!({"hugepages-2Mi": "4Mi"}), "HugePages", None, huge("2Mi")),
            (json!({"hugepages-2Mi": "4Mi"}), "HugePages-2Mi", None, huge("2Mi")),
            (
                json!({"hugepages-2Mi": "4Mi"}),
                "HugePages-1Gi",
                None,
                Err(NO_HUGE_PAGES),
            ),
            (json!({}), "HugePages", None, Err(NO_HUGE_PAGES)),
            (
                json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}),
                "HugePages",
                None,
                Err(several),
            ),
            (json!({}), "Tape", None, Err("unknown storage medium \"Tape\"")),
        ] {
            let spec = json!({"containers": [{"name": "c", "resources": {"limits": limits}}]});
            let spec: PodSpec = serde_json::from_value(spec).expect("valid");
            let source = json!({"medium": medium_name, "sizeLimit": size});
            let source: EmptyDirVolumeSource = serde_json::from_value(source).expect("valid");
            let expected = expected.map_err(str::to_owned);
            assert_eq!(
                medium(&source, &spec, &facts),
                expected,
                "{medium_name} {limits} {size:?}"
            );
        }
    }
}
