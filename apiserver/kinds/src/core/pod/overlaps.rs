//! Warnings about files of one volume whose paths collide: the same path, or one
//! that lies below another.

use crate::tree::Tree;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn check(spec: &Value, out: &mut Vec<String>) {
    for volume in spec.items("volumes") {
        let name = volume.text("name");
        for (key, title, what) in [
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ] {
            let source = volume.at(key);
            let shown = shown(title, source.text(what), what);
            collide(
                &paths(source),
                &format!("volume {name:?} ({shown}): overlapping paths"),
                out,
            );
        }
        projected(volume.items("projected.sources"), name, out);
    }
}

fn shown(title: &str, name: &str, key: &str) -> String {
    if key.is_empty() {
        title.to_string()
    } else {
        format!("{title} {name:?}")
    }
}

fn paths(source: &Value) -> Vec<&str> {
    source.items("items").iter().map(|i| i.text("path")).collect()
}

fn projected(sources: &[Value], name: &str, out: &mut Vec<String>) {
    let mut all: BTreeSet<&str> = BTreeSet::new();
    for source in sources {
        let (title, own) = files(source);
        if title.is_empty() {
            out.push(format!("volume {name:?} (Projected) has no sources provided"));
            continue;
        }
        if own.is_empty() {
            continue;
        }
        let message = format!("volume {name:?} (Projected {title}): overlapping paths");
        collide(&own, &message, out);
        let own: BTreeSet<&str> = own.into_iter().collect();
        let mut together: Vec<&str> = own.iter().chain(&all).copied().collect();
        together.sort_unstable();
        collide(&together, &message, out);
        all.extend(own);
    }
}

/// What a projection is called, and the paths it writes.
fn files(source: &Value) -> (String, Vec<&str>) {
    for (key, title, what) in [
        ("configMap", "ConfigMap", "name"),
        ("secret", "Secret", "name"),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        if source.has(key) {
            let inner = source.at(key);
            return (shown(title, inner.text(what), what), paths(inner));
        }
    }
    let token = source.at("serviceAccountToken");
    if token.is_object() {
        return ("ServiceAccountToken".into(), vec![token.text("path")]);
    }
    let bundle = source.at("clusterTrustBundle");
    if bundle.is_object() {
        let key = if bundle.has("name") { "name" } else { "signerName" };
        return (
            shown("ClusterTrustBundle", bundle.text(key), key),
            vec![bundle.text("path")],
        );
    }
    let certificate = source.at("podCertificate");
    if certificate.is_object() {
        let files = ["credentialBundlePath", "keyPath", "certificateChainPath"]
            .iter()
            .map(|k| certificate.text(k))
            .filter(|p| !p.is_empty())
            .collect();
        return ("PodCertificate".into(), files);
    }
    (String::new(), Vec::new())
}

fn collide(paths: &[&str], message: &str, out: &mut Vec<String>) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for path in paths {
        let path = path.trim_end_matches('/');
        let hit = seen.iter().find(|other| {
            !path.is_empty()
                && !other.is_empty()
                && (**other == path || format!("{other}/").starts_with(path) || format!("{path}/").starts_with(**other))
        });
        if let Some(other) = hit {
            out.push(format!("{message}: {path:?} with {other:?}"));
        }
        seen.insert(path);
    }
}
