//! `skiff token`: the tokens that nodes and servers join with. A token is a Secret of type
//! `bootstrap.kubernetes.io/token` in kube-system, as kubeadm's are, and the
//! cluster CA's hash in front of it.

use crate::cli::{TokenAction, TokenArgs};
use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use skiff_access::token::JoinToken;

pub async fn run(args: TokenArgs) -> Result<()> {
    let kubeconfig = args.access.kubeconfig();
    let (client, ca) = crate::client::from_kubeconfig(&kubeconfig).await?;
    let secrets: Api<Secret> = Api::namespaced(client, "kube-system");
    match args.action {
        TokenAction::Create {
            ttl,
            server,
            description,
        } => create(&secrets, &ca, &ttl, server, &description).await,
        TokenAction::List => list(&secrets).await,
        TokenAction::Delete { id } => delete(&secrets, &id).await,
    }
}

async fn create(secrets: &Api<Secret>, ca_pem: &str, ttl: &str, server: bool, description: &str) -> Result<()> {
    let seconds = crate::duration::parse(ttl)?.as_secs();
    let expires = match seconds {
        0 => None,
        _ => {
            let ttl = SignedDuration::from_secs(i64::try_from(seconds).context("--ttl is too long")?);
            Some(Timestamp::now().checked_add(ttl).context("--ttl is too long")?)
        }
    };
    let certificates = skiff_access::pki::certificates(ca_pem)?;
    let ca = certificates
        .first()
        .context("the kubeconfig holds no certificate authority")?;
    let groups: Vec<String> = server
        .then(|| crate::servers::JOIN_GROUP.to_owned())
        .into_iter()
        .collect();
    let token = JoinToken::generate(&skiff_access::pki::spki_sha256(ca)?);
    let secret: Secret = serde_json::from_value(token.secret_object(expires, description, &groups))?;
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .context("cannot store the token")?;
    println!("{}", token.reveal());
    Ok(())
}

async fn list(secrets: &Api<Secret>) -> Result<()> {
    let found = secrets
        .list(&ListParams::default().fields("type=bootstrap.kubernetes.io/token"))
        .await
        .context("cannot list the tokens")?;
    println!("{:<10} {:<22} DESCRIPTION", "ID", "EXPIRES");
    for secret in found {
        let text = |key: &str| {
            let data = secret.data.as_ref().and_then(|data| data.get(key));
            data.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
                .unwrap_or_default()
        };
        let expires = text("expiration");
        let expires = if expires.is_empty() { "never" } else { &expires };
        println!("{:<10} {expires:<22} {}", text("token-id"), text("description"));
    }
    Ok(())
}

async fn delete(secrets: &Api<Secret>, id: &str) -> Result<()> {
    // A whole token is taken too: its id is the part before the secret.
    let id = match id.parse::<JoinToken>() {
        Ok(token) => token.id,
        Err(_) => id.to_string(),
    };
    let name = format!("bootstrap-token-{id}");
    match secrets.delete(&name, &DeleteParams::default()).await {
        Ok(_) => {
            println!("token {id} deleted");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            bail!("there is no token {id:?}; `skiff token list` shows the ids")
        }
        Err(error) => Err(error).context("cannot delete the token"),
    }
}
