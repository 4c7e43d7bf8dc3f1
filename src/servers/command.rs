//! `skiff server list` and `skiff server remove`.

use super::PAGES;
use super::pages::Listed;
use crate::cli::{Access, ServerAction};
use anyhow::{Context, Result, bail};
use http::Request;

pub async fn run(action: ServerAction) -> Result<()> {
    match action {
        ServerAction::List(access) => list(&client(&access).await?).await,
        ServerAction::Remove { access, server } => remove(&client(&access).await?, &server).await,
    }
}

async fn client(access: &Access) -> Result<kube::Client> {
    let (client, _) = crate::client::from_kubeconfig(&access.kubeconfig()).await?;
    Ok(client)
}

async fn list(client: &kube::Client) -> Result<()> {
    let request = Request::get(PAGES).body(Vec::new())?;
    let servers: Vec<Listed> = client.request(request).await.context("cannot list the servers")?;
    print!("{}", table(&servers));
    Ok(())
}

fn table(servers: &[Listed]) -> String {
    let mut text = format!(
        "{:<20} {:<16} {:<8} {:<8} {:<22} {:<22} {}\n",
        "NAME", "ID", "ROLE", "ANSWERS", "API", "PEERS", "VERSION"
    );
    for server in servers {
        let or_none = |text: &str| {
            if text.is_empty() {
                "<none>".to_owned()
            } else {
                text.to_owned()
            }
        };
        let answers = if server.answers { "yes" } else { "no" };
        text += &format!(
            "{:<20} {:<16} {:<8} {answers:<8} {:<22} {:<22} {}\n",
            or_none(&server.name),
            server.id,
            server.role,
            or_none(&server.api),
            or_none(&server.address),
            or_none(&server.version)
        );
    }
    text
}

async fn remove(client: &kube::Client, which: &str) -> Result<()> {
    let escaped: String = url::form_urlencoded::byte_serialize(which.as_bytes()).collect();
    let request = Request::delete(format!("{PAGES}/{escaped}")).body(Vec::new())?;
    let server: Listed = match client.request(request).await {
        Err(kube::Error::Api(status)) => bail!("{}", status.message),
        other => other.context("cannot remove the server")?,
    };
    println!(
        "server {} removed; on its machine, `skiff reset` removes what is left, and `kubectl delete node {}` its node",
        server.name, server.name
    );
    Ok(())
}
