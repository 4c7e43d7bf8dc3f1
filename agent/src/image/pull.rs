//! Pulls one image: waits for its turn, tries what is to be tried, and keeps who may
//! use the image from then on.

use super::attempts::{self, Attempt, Holder};
use super::credentials::{self, Found};
use super::reference::Reference;
use super::{Images, registries};
use crate::error::Error;
use crate::pod::environment::Lookup;
use crate::pod::node::Shared;
use crate::pod::spec;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, UpdateImageRequest,
};
use k8s_openapi::api::core::v1::Pod;
use skiff_proto::cri::v1 as cri;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// containerd's CRI side hears of a new name by its own event, some milliseconds later.
const KNOWN_MAX: Duration = Duration::from_secs(10);

pub struct Pulled {
    pub image: cri::Image,
    /// `None`: somebody else had pulled it when its turn came.
    pub took: Option<Duration>,
}

/// The pod's pull secrets, in its order.
pub fn secret_names(pod: &Pod) -> impl Iterator<Item = &str> {
    let named = pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten());
    named.map(|r| r.name.as_str()).filter(|name| !name.is_empty())
}

/// The logins of the pod's pull secrets for the image, and the names of those secrets
/// that are not there.
pub async fn logins(shared: &Shared, pod: &Pod, image: &Reference) -> (Vec<Found>, Vec<String>) {
    let namespace = spec::key(pod).0;
    let names: BTreeSet<String> = secret_names(pod).map(str::to_owned).collect();
    if names.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let keys = names.iter().map(|name| (namespace.clone(), name.clone())).collect();
    shared.cache.want(BTreeSet::new(), keys).await;
    let (mut secrets, mut missing) = (Vec::new(), Vec::new());
    // In the pod's order: the first that is good for the image is tried first.
    let mut seen = BTreeSet::new();
    for name in secret_names(pod).filter(|name| seen.insert(*name)) {
        match shared.cache.secret(&namespace, name) {
            Some(secret) => secrets.push(secret),
            None => missing.push(name.to_owned()),
        }
    }
    (credentials::matching(&secrets, image), missing)
}

/// Whether the pod may use the image that is there.
pub fn may_use(shared: &Shared, image: &Reference, present: &cri::Image, logins: &[Found]) -> bool {
    !shared.images.must_pull(image, &present.id, logins)
}

/// `always`: also when the image is there and may be used.
pub async fn pull(shared: &Shared, image: &Reference, logins: &[Found], always: bool) -> Result<Pulled, String> {
    let images = &shared.images;
    let name = image.full();
    // The next finds what this one has pulled. Who asks the registry anyway waits for nobody.
    let _alone = match always {
        true => None,
        false => Some(images.alone(&name).await),
    };
    let known = || async { shared.runtime.image(&name).await.map_err(|e| e.rpc()) };
    if !always
        && let Some(present) = known().await?
        && may_use(shared, image, &present, logins)
    {
        return Ok(Pulled {
            image: present,
            took: None,
        });
    }
    let slot = images.slots.acquire().await;
    let started = Instant::now();
    images.allow_local(image);
    let registries = images.registries();
    images.with_records(|records| records.begin(&name));
    let mut errors = Vec::new();
    for attempt in attempts::plan(image, &registries, logins) {
        match one(shared, image, &attempt).await {
            Ok(()) => {
                let took = started.elapsed();
                drop(slot);
                let found = until_known(shared, &name).await?;
                let holder = match &attempt.holder {
                    Holder::Node => None,
                    Holder::Secret { source, login } => Some((source, login)),
                };
                images.with_records(|records| records.pulled(&name, &image.name(), &found.id, holder));
                return Ok(Pulled {
                    image: found,
                    took: Some(took),
                });
            }
            Err(error) => errors.push(error),
        }
    }
    images.with_records(|records| records.failed(&name));
    Err(attempts::joined(&errors))
}

async fn one(shared: &Shared, image: &Reference, attempt: &Attempt) -> Result<(), String> {
    let auth = attempt.login.as_ref().map(|(login, host)| cri::AuthConfig {
        username: login.username.clone(),
        password: login.password.clone(),
        identity_token: login.identity_token.clone(),
        server_address: format!("https://{host}"),
        ..Default::default()
    });
    let pulled = shared.runtime.pull(&attempt.reference, auth, None).await;
    pulled.map_err(|e| match &attempt.mirror {
        // The name that only containerd knows would tell nobody anything.
        Some(endpoint) => e.rpc().replace(&registries::alias(endpoint), &endpoint.host),
        None => e.rpc(),
    })?;
    if attempt.mirror.is_some() {
        rename(shared, image, &attempt.reference).await.map_err(|e| e.rpc())?;
    }
    Ok(())
}

async fn until_known(shared: &Shared, name: &str) -> Result<cri::Image, String> {
    let deadline = Instant::now() + KNOWN_MAX;
    loop {
        if let Some(image) = shared.runtime.image(name).await.map_err(|e| e.rpc())? {
            return Ok(image);
        }
        if Instant::now() >= deadline {
            return Err(format!("image {name} vanished"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Gives an image that was pulled under a mirror's name its own, and takes the other.
async fn rename(shared: &Shared, image: &Reference, pulled: &str) -> Result<(), Error> {
    let mut client = ImagesClient::new(shared.runtime.channel());
    let get = GetImageRequest {
        name: pulled.to_owned(),
    };
    let found = client.get(shared.runtime.native(get)).await;
    let found = found.map_err(Error::runtime("look up an image"))?.into_inner().image;
    let target = found
        .and_then(|i| i.target)
        .ok_or_else(|| Error::Image(format!("image {pulled} vanished")))?;
    let by_digest = |name: &str| format!("{name}@{}", target.digest);
    for name in BTreeSet::from([image.full(), by_digest(&image.name())]) {
        let image = Image {
            name,
            target: Some(target.clone()),
            labels: HashMap::from([("io.cri-containerd.image".to_owned(), "managed".to_owned())]),
            ..Default::default()
        };
        let create = CreateImageRequest {
            image: Some(image.clone()),
            ..Default::default()
        };
        match client.create(shared.runtime.native(create)).await {
            Err(status) if status.code() == tonic::Code::AlreadyExists => {
                let update = UpdateImageRequest {
                    image: Some(image),
                    ..Default::default()
                };
                let updated = client.update(shared.runtime.native(update)).await;
                updated.map_err(Error::runtime("name an image"))?;
            }
            other => drop(other.map_err(Error::runtime("name an image"))?),
        }
    }
    let alias = pulled.split(['@']).next().unwrap_or(pulled);
    let repository = alias.rsplit_once(':').map_or(alias, |(left, _)| left);
    for name in BTreeSet::from([pulled.to_owned(), by_digest(repository)]) {
        let delete = DeleteImageRequest {
            name,
            ..Default::default()
        };
        // It has its own name; a second one does no harm.
        let _ = client.delete(shared.runtime.native(delete)).await;
    }
    Ok(())
}

impl Images {
    /// containerd asks a registry on this machine only with encryption, unless told so.
    fn allow_local(&self, image: &Reference) {
        let directory = self.certs.join(&image.registry);
        if !image.is_local() || directory.exists() || self.certs.join("_default").exists() {
            return;
        }
        let text = registries::local_hosts_file(&image.registry);
        let written = std::fs::create_dir_all(&directory)
            .and_then(|()| crate::cache::disk::write_atomically(&directory.join("hosts.toml"), text.as_bytes(), 0o644));
        if let Err(error) = written {
            tracing::warn!(%error, registry = image.registry, "cannot tell containerd of a local registry");
        }
    }
}
