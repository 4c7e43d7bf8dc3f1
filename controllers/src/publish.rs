//! What every namespace gets: the `default` ServiceAccount and the cluster's CA certificate. Both act as
//! soon as a namespace is seen, because its first pods wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Resource};
use tokio::task::JoinSet;

use crate::cache::Cache;
use crate::context::{Context, Doing, Error};
use crate::key::{Key, namespace};
use crate::queue::Queue;
use crate::shared::ROOT_CA_CONFIG_MAP;
use crate::worker::work;

const WORKERS: usize = 4;
const CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

pub fn start(accounts: Context, certificates: Context, root_ca_pem: &str, tasks: &mut JoinSet<()>) {
    start_accounts(accounts, tasks);
    start_certificates(certificates, root_ca_pem, tasks);
}

/// A queue of namespace names, fed by the namespaces and by the objects of `kind` in them.
fn namespaces_of<K>(context: &Context, name: &'static str, cache: &Arc<Cache<K>>) -> Arc<Queue<String>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let queue = Arc::new(Queue::new(name));
    context.shared.namespaces.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(namespace) = change.new {
                queue.add(namespace.metadata.name.clone().unwrap_or_default());
            }
        }
    });
    cache.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(object) = change.object() {
                queue.add(namespace(object.meta()).to_string());
            }
        }
    });
    queue
}

fn is_live(context: &Context, namespace: &str) -> bool {
    context
        .shared
        .namespaces
        .get(&Key::new("", namespace))
        .is_some_and(|namespace| {
            let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
            namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
        })
}

/// Creations that were overtaken or came too late are no failure.
fn settled<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

fn start_accounts(context: Context, tasks: &mut JoinSet<()>) {
    let queue = namespaces_of(&context, "serviceaccount", &context.shared.service_accounts);
    tasks.spawn(async move {
        context.shared.namespaces.synced().await;
        context.shared.service_accounts.synced().await;
        let reconcile = |namespace: String| {
            let context = context.clone();
            async move {
                let known = context.shared.service_accounts.get(&Key::new(&namespace, "default"));
                if known.is_some() || !is_live(&context, &namespace) {
                    return Ok(());
                }
                let account = ServiceAccount {
                    metadata: ObjectMeta {
                        name: Some("default".to_string()),
                        namespace: Some(namespace.clone()),
                        ..Default::default()
                    },
                    ..Default::default()
                };
                let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &namespace);
                let made = api.create(&PostParams::default(), &account).await;
                settled(made.doing(|| format!("create the default service account of {namespace}")))
            }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

fn certificate_map(namespace: &str, pem: &str) -> ConfigMap {
    let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                       endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                       guaranteed across distributions of Kubernetes clusters.";
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(ROOT_CA_CONFIG_MAP.to_string()),
            namespace: Some(namespace.to_string()),
            annotations: Some(BTreeMap::from([(DESCRIPTION.to_string(), description.to_string())])),
            ..Default::default()
        },
        data: Some(BTreeMap::from([(CA_KEY.to_string(), pem.to_string())])),
        ..Default::default()
    }
}

fn start_certificates(context: Context, root_ca_pem: &str, tasks: &mut JoinSet<()>) {
    let queue = namespaces_of(&context, "root_ca_cert_publisher", &context.shared.root_ca_config_maps);
    let pem: Arc<str> = root_ca_pem.into();
    tasks.spawn(async move {
        context.shared.namespaces.synced().await;
        context.shared.root_ca_config_maps.synced().await;
        let reconcile = |namespace: String| {
            let (context, pem) = (context.clone(), pem.clone());
            async move { publish(&context, &namespace, &pem).await }
        };
        work(context.name, queue, WORKERS, context.shutdown.clone(), reconcile).await;
    });
}

async fn publish(context: &Context, namespace: &str, pem: &str) -> Result<(), Error> {
    if !is_live(context, namespace) {
        return Ok(());
    }
    let wanted = certificate_map(namespace, pem);
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    match context
        .shared
        .root_ca_config_maps
        .get(&Key::new(namespace, ROOT_CA_CONFIG_MAP))
    {
        None => {
            let made = api.create(&PostParams::default(), &wanted).await;
            settled(made.doing(|| format!("publish the CA certificate in {namespace}")))
        }
        Some(known) if known.data == wanted.data => Ok(()),
        Some(known) => {
            let mut updated = ConfigMap::clone(&known);
            updated.data = wanted.data;
            let made = api.replace(ROOT_CA_CONFIG_MAP, &PostParams::default(), &updated).await;
            settled(made.doing(|| format!("restore the CA certificate in {namespace}")))
        }
    }
}
