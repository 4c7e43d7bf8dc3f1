//! Binds claims to volumes, and follows what becomes of both. Volumes are made by hand or by provisioners,
//! which are told here which claims wait for them.
//!
//! ```text
//!   claim, volumes, classes ──> claim::verdict ──┐
//!   volume, claim ────────────> volume::fate ────┴──> act: claimRef, volumeName, phases, events
//! ```
//!
//! A binding is four writes, each of which may be the last before a crash: the volume names its claim and says
//! so in its phase, the claim names its volume and says so in its phase. What was not written is seen, and
//! written, by the next look at either.

mod claim;
mod matching;
mod volume;

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::PostParams;
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, name, namespace};
use crate::pods::node_name;
use crate::protection::claims_of;
use crate::queue::Queue;
use crate::worker::work;
use claim::{Tell, Verdict, World};
use volume::Fate;

/// One: two claims that were looked at together would want the same volume.
const WORKERS: usize = 1;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Claim(Key),
    Volume(Key),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Claim(key) => write!(f, "claim {key}"),
            Subject::Volume(key) => write!(f, "volume {key}"),
        }
    }
}

pub fn start(context: Context, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Subject>> = Arc::new(Queue::new("persistentvolume"));
    listen(&context, &queue);
    tasks.spawn(async move {
        context.shared.claims.synced().await;
        context.shared.volumes.synced().await;
        context.shared.storage_classes.synced().await;
        let reconcile = |subject: Subject| {
            let context = context.clone();
            async move {
                match subject {
                    Subject::Claim(key) => Box::pin(look_at_claim(&context, key)).await,
                    Subject::Volume(key) => Box::pin(look_at_volume(&context, key)).await,
                }
            }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

fn phase_of(claim: &PersistentVolumeClaim) -> &str {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

/// The claim that a volume names.
fn claim_of(volume: &PersistentVolume) -> Option<Key> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(Key::new(reference.namespace.as_deref()?, reference.name.as_deref()?))
}

fn listen(context: &Context, queue: &Arc<Queue<Subject>>) {
    let shared = &context.shared;
    shared.claims.on_change({
        let (queue, volumes) = (queue.clone(), shared.volumes.clone());
        move |change| {
            let Some(claim) = change.object() else { return };
            let key = Key::of(&claim.metadata);
            // A volume hears of its claim's end, whichever of the two names the other.
            for volume in volumes.list() {
                if claim_of(&volume).as_ref() == Some(&key) {
                    queue.add(Subject::Volume(Key::of(&volume.metadata)));
                }
            }
            queue.add(Subject::Claim(key));
        }
    });
    shared.volumes.on_change({
        let (queue, claims) = (queue.clone(), shared.claims.clone());
        move |change| {
            let Some(volume) = change.object() else { return };
            queue.add(Subject::Volume(Key::of(&volume.metadata)));
            let own = claim_of(volume);
            let free = own.is_none();
            own.into_iter().for_each(|claim| queue.add(Subject::Claim(claim)));
            for claim in claims.list() {
                let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
                let names_it = named == volume.metadata.name.as_deref();
                if names_it || free && phase_of(&claim) != "Bound" {
                    queue.add(Subject::Claim(Key::of(&claim.metadata)));
                }
            }
        }
    });
    shared.storage_classes.on_change({
        let (queue, claims) = (queue.clone(), shared.claims.clone());
        move |_| {
            for claim in claims.list().iter().filter(|claim| phase_of(claim) != "Bound") {
                queue.add(Subject::Claim(Key::of(&claim.metadata)));
            }
        }
    });
}

async fn look_at_claim(context: &Context, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let Some(claim) = shared.claims.get(&key) else {
        return Ok(());
    };
    let waits = |pod: &&Arc<crate::slim::Pod>| node_name(pod).is_none() && claims_of(pod).contains(&key.name);
    let pods = shared.pods.in_namespace(&key.namespace);
    let world = World {
        volumes: shared.volumes.list(),
        classes: shared.storage_classes.list(),
        waiting_pods: pods
            .iter()
            .filter(waits)
            .map(|pod| name(&pod.metadata).to_string())
            .collect(),
    };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    match claim::verdict(&claim, &world) {
        Verdict::Class(class) => {
            let written = api
                .replace(&key.name, &options(), &claim::with_class(&claim, &class))
                .await;
            gone_is_fine(written.doing(|| format!("give claim {key} the default class")))
        }
        Verdict::Bind(volume) => Box::pin(bind(context, &claim, &volume)).await,
        Verdict::Pending(provisioner, told) => {
            tell(context, &claim, told);
            let mut claim = claim.as_ref().clone();
            if let Some(provisioner) = provisioner
                && let Some(updated) = claim::with_provisioner(&claim, &provisioner)
            {
                let written = api.replace(&key.name, &options(), &updated).await;
                claim = written.doing(|| format!("ask for a volume for claim {key}"))?;
            }
            write_claim(context, claim::told(&claim, "Pending")).await
        }
        Verdict::Lost(told) => {
            if let Some(updated) = claim::told(&claim, "Lost") {
                tell(context, &claim, Some(told));
                write_claim(context, Some(updated)).await?;
            }
            Ok(())
        }
    }
}

fn options() -> PostParams {
    PostParams::default()
}

fn tell(context: &Context, claim: &PersistentVolumeClaim, told: Option<Tell>) {
    let Some(Tell {
        warning,
        reason,
        message,
    }) = told
    else {
        return;
    };
    let kind = if warning { "Warning" } else { "Normal" };
    context.event(claim, kind, reason, message);
}

async fn bind(
    context: &Context,
    claim: &Arc<PersistentVolumeClaim>,
    volume: &Arc<PersistentVolume>,
) -> Result<(), Error> {
    let key = Key::of(&claim.metadata);
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let own = name(&volume.metadata);
    let mut volume = volume.as_ref().clone();
    if let Some(given) = claim::given(&volume, claim) {
        let written = volumes.replace(own, &options(), &given).await;
        volume = written.doing(|| format!("give volume {own} to claim {key}"))?;
    }
    write_volume(context, volume::told(&volume, "Bound", "")).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    let mut claim = claim.as_ref().clone();
    if let Some(taking) = claim::taking(&claim, &volume) {
        let written = claims.replace(&key.name, &options(), &taking).await;
        claim = written.doing(|| format!("bind claim {key} to volume {own}"))?;
    }
    write_claim(context, claim::told_bound(&claim, &volume)).await
}

async fn write_claim(context: &Context, updated: Option<PersistentVolumeClaim>) -> Result<(), Error> {
    let Some(updated) = updated else { return Ok(()) };
    let (own, of) = (name(&updated.metadata), namespace(&updated.metadata));
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), of);
    let written = api.replace_status(own, &options(), &updated).await;
    gone_is_fine(written.doing(|| format!("write the status of claim {of}/{own}")))
}

async fn write_volume(context: &Context, updated: Option<PersistentVolume>) -> Result<(), Error> {
    let Some(updated) = updated else { return Ok(()) };
    let own = name(&updated.metadata);
    let api: Api<PersistentVolume> = Api::all(context.client.clone());
    let written = api.replace_status(own, &options(), &updated).await;
    gone_is_fine(written.doing(|| format!("write the status of volume {own}")))
}

async fn look_at_volume(context: &Context, key: Key) -> Result<(), Error> {
    let shared = &context.shared;
    let Some(volume) = shared.volumes.get(&key) else {
        return Ok(());
    };
    let claim = known_claim(context, &volume).await?;
    match volume::fate(&volume, claim.as_ref()) {
        Fate::Available => write_volume(context, volume::told(&volume, "Available", "")).await,
        Fate::Bound => write_volume(context, volume::told(&volume, "Bound", "")).await,
        Fate::Released => write_volume(context, volume::told(&volume, "Released", "")).await,
        Fate::Failed(reason, message) => {
            let updated = volume::told(&volume, "Failed", &message);
            if updated.is_some() {
                context.warning(volume.as_ref(), reason, message);
            }
            write_volume(context, updated).await
        }
        Fate::Unbind => {
            let api: Api<PersistentVolume> = Api::all(context.client.clone());
            let written = api.replace(&key.name, &options(), &volume::unbound(&volume)).await;
            gone_is_fine(written.doing(|| format!("let volume {key} go from its claim")))
        }
        // Who changed the volume had its claim looked at.
        Fate::AskClaim => Ok(()),
        Fate::Mismatch => {
            let Some(claim) = claim else { return Ok(()) };
            let (own, of) = (name(&volume.metadata), name(&claim.metadata));
            let text = "due to incompatible volumeMode.";
            let about_volume =
                format!("Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{of}\" {text}");
            context.warning(volume.as_ref(), "VolumeMismatch", about_volume);
            let about_claim =
                format!("Cannot bind PersistentVolume \"{own}\" to requested PersistentVolumeClaim {text}");
            context.warning(&claim, "VolumeMismatch", about_claim);
            Ok(())
        }
    }
}

/// The claim that a volume names. That there is none is asked of the API: the cache may lag, and a volume that
/// was released is nobody's again.
async fn known_claim(context: &Context, volume: &PersistentVolume) -> Result<Option<PersistentVolumeClaim>, Error> {
    let Some(key) = claim_of(volume) else { return Ok(None) };
    let known = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref()?.uid.clone());
    let cached = context.shared.claims.get(&key);
    if let Some(claim) = cached.filter(|claim| known.is_none() || claim.metadata.uid == known) {
        return Ok(Some(claim.as_ref().clone()));
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
    api.get_opt(&key.name).await.doing(|| format!("look for claim {key}"))
}
