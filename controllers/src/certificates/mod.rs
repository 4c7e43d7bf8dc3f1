//! Certificate signing requests: approves those of nodes, signs what is approved, deletes what is old.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use tokio::task::JoinSet;

use crate::context::{Context, Doing, Error, gone_is_fine};
use crate::key::{Key, time};
use crate::queue::Queue;
use crate::worker::work;

use plan::{Approval, Asked, Held};

const WORKERS: usize = 4;
/// Validity where the request names none: a year, as upstream's signer.
const TTL_DEFAULT: Duration = Duration::from_secs(365 * 24 * 3600);
/// The API's own lower bound.
const TTL_MIN: Duration = Duration::from_secs(600);

/// Signs with the cluster's CA. Implemented by whoever holds the key.
pub trait CertificateSigner: Send + Sync {
    /// Signs the PEM request for `signer_name` with exactly these key usages (Kubernetes' names), valid for
    /// `ttl` at most; returns the PEM chain. The request has passed the signer's rules before.
    fn sign(&self, csr_pem: &str, signer_name: &str, usages: &[String], ttl: Duration) -> Result<String, String>;
}

pub fn start(context: Context, signer: Arc<dyn CertificateSigner>, tasks: &mut JoinSet<()>) {
    let queue: Arc<Queue<Key>> = Arc::new(Queue::new("certificate"));
    let requests = context.shared.signing_requests.clone();
    requests.on_change({
        let queue = queue.clone();
        move |change| {
            if let Some(request) = change.new {
                queue.add(Key::of(&request.metadata));
            }
        }
    });
    // A Node that reports its addresses decides requests that waited for them.
    context.shared.nodes.on_change({
        let (queue, requests) = (queue.clone(), requests.clone());
        move |change| {
            let addresses = |node: &Arc<Node>| node.status.as_ref().and_then(|status| status.addresses.clone());
            if change.old.and_then(addresses) == change.new.and_then(addresses) {
                return;
            }
            let waiting = requests.list().into_iter().filter(|request| {
                request.spec.signer_name == plan::NODE_SERVING && !plan::has_condition(request, "Approved")
            });
            for request in waiting {
                queue.add(Key::of(&request.metadata));
            }
        }
    });
    let shared = context.shared.clone();
    tasks.spawn(async move {
        requests.synced().await;
        shared.nodes.synced().await;
        shared.services.synced().await;
        let reconcile = |key: Key| {
            let (context, queue, signer) = (context.clone(), queue.clone(), signer.clone());
            async move { reconcile(&context, &queue, signer.as_ref(), key).await }
        };
        work(
            context.name,
            queue.clone(),
            WORKERS,
            context.shutdown.clone(),
            reconcile,
        )
        .await;
    });
}

async fn reconcile(
    context: &Context,
    queue: &Queue<Key>,
    signer: &dyn CertificateSigner,
    key: Key,
) -> Result<(), Error> {
    let Some(request) = context.shared.signing_requests.get(&key) else {
        return Ok(());
    };
    let api: Api<CertificateSigningRequest> = Api::all(context.client.clone());
    let now = Timestamp::now();
    let left = plan::expires_in(&request, now);
    if left <= 0 {
        return gone_is_fine(
            api.delete(&key.name, &DeleteParams::default())
                .await
                .doing(|| format!("delete old request {key}")),
        );
    }
    queue.add_after(key.clone(), Duration::from_secs(u64::try_from(left).unwrap_or(1)));
    if plan::has_condition(&request, "Denied") || plan::has_condition(&request, "Failed") {
        return Ok(());
    }
    if plan::has_condition(&request, "Approved") {
        return sign(&api, &request, signer, now).await;
    }
    let Ok(asked) = plan::parse(&request.spec.request.0) else {
        return Ok(());
    };
    let message = match plan::approval(&request.spec, &asked) {
        Approval::No => return Ok(()),
        Approval::IfAllowed { subresource, message } => {
            if !may(context, &request, subresource).await? {
                return Ok(());
            }
            message
        }
        Approval::Serving => {
            if !serves_itself(context, &asked) {
                return Ok(());
            }
            "Auto approving kubelet serving certificate: the node asks for its own addresses."
        }
    };
    match approve(&api, &request, message, now).await? {
        // Signed at once instead of when the watch shows the approval: a node that joins waits for it.
        Some(approved) => sign(&api, &approved, signer, now).await,
        None => Ok(()),
    }
}

async fn may(context: &Context, request: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
    let spec = &request.spec;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_string()),
                resource: Some("certificatesigningrequests".to_string()),
                subresource: Some(subresource.to_string()),
                verb: Some("create".to_string()),
                version: Some("*".to_string()),
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(context.client.clone());
    let answer = api.create(&PostParams::default(), &review).await;
    let answer = answer.doing(|| "ask whether a node may have its certificate".to_string())?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn serves_itself(context: &Context, asked: &Asked) -> bool {
    let node_name = plan::node_of(asked);
    let mut held = Held::default();
    for node in context.shared.nodes.list() {
        let status = node.status.as_ref();
        let listed = status.iter().flat_map(|status| status.addresses.iter().flatten());
        let addresses = listed.map(|address| address.address.clone());
        if crate::key::name(&node.metadata) == node_name {
            held.own.extend(addresses);
        } else {
            held.by_others.extend(addresses);
        }
    }
    for service in context.shared.services.list() {
        let spec = service.spec.iter();
        held.by_others
            .extend(spec.clone().flat_map(|spec| spec.cluster_ips.iter().flatten().cloned()));
        held.by_others
            .extend(spec.flat_map(|spec| spec.external_ips.iter().flatten().cloned()));
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
        held.by_others.extend(ingress.filter_map(|ingress| ingress.ip.clone()));
    }
    // A server without a node of its own is no Node: its addresses stand behind
    // the `kubernetes` Service.
    for slice in context.shared.endpoint_slices.list() {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        if slice.metadata.namespace.as_deref() == Some("default") && service.is_some_and(|name| name == "kubernetes") {
            let endpoints = slice.endpoints.iter().flatten();
            let addresses = endpoints.flat_map(|endpoint| endpoint.addresses.iter().cloned());
            held.by_others.extend(addresses);
        }
    }
    plan::names_match(asked, node_name, &held)
}

fn condition(kind: &str, reason: &str, message: String, now: Timestamp) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: kind.to_string(),
        status: "True".to_string(),
        reason: Some(reason.to_string()),
        message: Some(message),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

async fn approve(
    api: &Api<CertificateSigningRequest>,
    request: &CertificateSigningRequest,
    message: &str,
    now: Timestamp,
) -> Result<Option<CertificateSigningRequest>, Error> {
    let mut approved = request.clone();
    let status = approved
        .status
        .get_or_insert_with(CertificateSigningRequestStatus::default);
    let conditions = status.conditions.get_or_insert_default();
    conditions.push(condition("Approved", "AutoApproved", message.to_string(), now));
    let own_name = crate::key::name(&request.metadata);
    let written = api
        .replace_subresource("approval", own_name, &PostParams::default(), &approved)
        .await;
    match written.doing(|| format!("approve request {own_name}")) {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}

async fn sign(
    api: &Api<CertificateSigningRequest>,
    request: &CertificateSigningRequest,
    signer: &dyn CertificateSigner,
    now: Timestamp,
) -> Result<(), Error> {
    let spec = &request.spec;
    let signed = request
        .status
        .as_ref()
        .is_some_and(|status| status.certificate.is_some());
    let ours = [plan::CLIENT, plan::NODE_CLIENT, plan::NODE_SERVING, plan::LEGACY];
    if signed || !ours.contains(&spec.signer_name.as_str()) {
        return Ok(());
    }
    let own_name = crate::key::name(&request.metadata);
    let mut updated = request.clone();
    let status = updated
        .status
        .get_or_insert_with(CertificateSigningRequestStatus::default);
    let permitted = plan::parse(&spec.request.0).and_then(|asked| plan::permitted(spec, &asked));
    match permitted {
        Err(message) => {
            let conditions = status.conditions.get_or_insert_default();
            conditions.push(condition("Failed", "SignerValidationFailure", message, now));
        }
        Ok(()) => {
            let seconds = spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let ttl = seconds
                .map_or(TTL_DEFAULT, Duration::from_secs)
                .clamp(TTL_MIN, TTL_DEFAULT);
            let pem = String::from_utf8_lossy(&spec.request.0);
            let usages = spec.usages.clone().unwrap_or_default();
            let chain = signer
                .sign(&pem, &spec.signer_name, &usages, ttl)
                .map_err(|message| Error::Signing {
                    name: own_name.to_string(),
                    message,
                })?;
            status.certificate = Some(ByteString(chain.into_bytes()));
        }
    }
    let written = api.replace_status(own_name, &PostParams::default(), &updated).await;
    gone_is_fine(written.doing(|| format!("write the certificate of request {own_name}")))
}
