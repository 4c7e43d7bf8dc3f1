//! Makes a pod's volumes ready: waits for what they show, asks for tokens, has them
//! made here or by a provider, and tells what is missing.

use super::kind::{Kind, volume_path};
use super::{Failed, mount_all, token};
use crate::error::Error;
use crate::pod::node::Shared;
use crate::pod::{api, spec};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After so long kubelet's patience ends once, and it says what it waits for.
const PATIENCE: Duration = Duration::from_secs(123);

/// Since when pods have been waiting for their volumes, by UID.
#[derive(Debug, Default)]
pub struct Patience(Mutex<BTreeMap<String, Instant>>);

impl Patience {
    /// Whether it is time again to say what the pod waits for.
    fn ended(&self, uid: &str, now: Instant) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = waiting.entry(uid.to_owned()).or_insert(now);
        let ended = now.duration_since(*since) >= PATIENCE;
        if ended {
            *since = now;
        }
        ended
    }

    /// The volumes are there, or the pod has gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Makes the pod's volumes. What cannot be made is told as events, each volume by
/// itself; the error is the first of them.
pub async fn mount_volumes(shared: &Arc<Shared>, pod: &Arc<Pod>, ips: Vec<String>) -> Result<(), Error> {
    let (maps, secrets) = api::references(pod);
    let ((), tokens) = tokio::join!(shared.cache.want(maps, secrets), token::current(shared, pod));
    let mut failed = Vec::new();
    let tokens = match tokens {
        Ok((tokens, renew_at)) => {
            if let Some(at) = renew_at {
                shared.cache.remind(pod, at);
            }
            tokens
        }
        // The volumes that show one say that it is missing, with this as the reason.
        Err(error) => {
            let volume = token::volume(pod).unwrap_or_default();
            let error = match error {
                Error::Api { source, .. } => Error::Volume(format!("failed to fetch token: {}", words(&source))),
                other => other,
            };
            failed.push(Failed { volume, error });
            BTreeMap::new()
        }
    };
    failed.extend(made_elsewhere(shared, pod).await);
    let made_here = {
        let (shared, pod) = (shared.clone(), pod.clone());
        tokio::task::spawn_blocking(move || {
            let facts = shared.facts(ips);
            let stamp = Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f").to_string();
            mount_all(&shared.config, &pod, shared.cache.as_ref(), &facts, &tokens, &stamp)
        })
        .await
        .map_err(|e| Error::Volume(e.to_string()))?
    };
    for one in made_here {
        if failed.iter().all(|f| f.volume != one.volume) {
            failed.push(one);
        }
    }
    tell(shared, pod, &failed);
    match failed.into_iter().next() {
        Some(first) => Err(Error::Volume(first.message())),
        None => Ok(()),
    }
}

/// The API's own words.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

async fn made_elsewhere(shared: &Shared, pod: &Pod) -> Vec<Failed> {
    let mut failed = Vec::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let target = volume_path(&shared.config, pod, volume);
        // An image is pulled and mounted when the container starts that wants it.
        if Kind::of(volume) != Kind::Foreign {
            continue;
        }
        let outcome = shared.volumes.provider.publish(pod, volume, &target).await;
        failed.extend(outcome.err().map(|error| Failed {
            volume: volume.name.clone(),
            error,
        }));
    }
    failed
}

fn tell(shared: &Shared, pod: &Pod, failed: &[Failed]) {
    let uid = spec::uid(pod);
    if failed.is_empty() {
        shared.volumes.patience.forget(uid);
        return;
    }
    let warn = |message: String| shared.recorder.pod(pod, None, true, "FailedMount", message);
    // A claim is looked at before anything is mounted, so kubelet tells of it later.
    for one in failed.iter().filter(|f| !unprocessed(f)) {
        warn(one.message());
    }
    if shared.volumes.patience.ended(uid, Instant::now()) {
        warn(waited(failed));
    }
}

fn unprocessed(failed: &Failed) -> bool {
    matches!(failed.error, Error::Claim(_))
}

/// What kubelet says when its patience with a pod's volumes has ended.
fn waited(failed: &[Failed]) -> String {
    let names: Vec<&str> = failed.iter().map(|f| f.volume.as_str()).collect();
    let unprocessed: Vec<&Failed> = failed.iter().filter(|f| unprocessed(f)).collect();
    let why = match unprocessed.first() {
        Some(first) => first.error.chain(),
        None => "context deadline exceeded".to_owned(),
    };
    let unprocessed: Vec<&str> = unprocessed.iter().map(|f| f.volume.as_str()).collect();
    format!(
        "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], \
         failed to process volumes=[{}]: {why}",
        names.join(" "),
        unprocessed.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(name: &str) -> Failed {
        Failed {
            volume: name.into(),
            error: Error::Volume("gone".into()),
        }
    }

    #[test]
    fn words_and_patience() {
        let all = [failed("a"), failed("b")];
        let claimed = [
            failed("a"),
            Failed {
                volume: "b".into(),
                error: Error::Claim("gone".into()),
            },
        ];
        assert_eq!(
            waited(&all),
            "Unable to attach or mount volumes: unmounted volumes=[a b], unattached volumes=[], \
             failed to process volumes=[]: context deadline exceeded"
        );
        assert_eq!(
            waited(&claimed),
            "Unable to attach or mount volumes: unmounted volumes=[a b], unattached volumes=[], \
             failed to process volumes=[b]: gone"
        );
        assert_eq!(all[0].message(), "MountVolume.SetUp failed for volume \"a\" : gone");
        let of_claim = Failed {
            volume: "a".into(),
            error: Error::Mount {
                volume: "pv".into(),
                text: "gone".into(),
            },
        };
        assert_eq!(of_claim.message(), "MountVolume.SetUp failed for volume \"pv\" : gone");
        let (patience, start) = (Patience::default(), Instant::now());
        let after = |s: u64| start + Duration::from_secs(s);
        let told: Vec<u64> = (0..400)
            .step_by(10)
            .filter(|s| patience.ended("u", after(*s)))
            .collect();
        assert_eq!(told, [130, 260, 390]);
        patience.forget("u");
        assert!(!patience.ended("u", after(600)));
    }
}
