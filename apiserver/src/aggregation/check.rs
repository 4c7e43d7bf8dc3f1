//! One look at an extension server: whether it answers discovery, and what it
//! says of its resources and their schemas.

use super::availability::Availability;
use super::openapi;
use super::remote::{OpenApi, Remote};
use serde_json::Value;
use skiff_access::UserInfo;
use std::sync::Arc;

/// What a look found.
pub struct Checked {
    pub availability: Availability,
    /// Its APIResourceList.
    pub resources: Option<Arc<Value>>,
    pub openapi: OpenApi,
}

/// Asks the server. What cannot be had beside discovery is left as it was.
pub async fn check(remote: &Remote) -> Checked {
    let path = remote.path();
    let state = remote.state.load_full();
    let (availability, resources) = match discovery(remote, &path).await {
        Ok(resources) => (Availability::passed(), resources.map(Arc::new)),
        Err(why) => {
            let url = remote.shown(&path);
            let text = format!("failing or missing response from {url}: {why}");
            return Checked {
                availability: Availability::failed_discovery(text),
                resources: state.resources.clone(),
                openapi: state.openapi.clone(),
            };
        }
    };
    Checked {
        availability,
        resources: resources.or_else(|| state.resources.clone()),
        openapi: documents(remote, state.openapi.clone()).await,
    }
}

async fn discovery(remote: &Remote, path: &str) -> Result<Option<Value>, String> {
    // An identity that may read discovery whatever the server's rules are.
    let user = UserInfo {
        name: "system:kube-aggregator".into(),
        groups: vec!["system:masters".into()],
        ..UserInfo::default()
    };
    let (code, _, body) = remote.document(path, &user, "application/json", "").await?;
    if !(200..300).contains(&code) {
        return Err(format!("bad status from {}: {code}", remote.shown(path)));
    }
    let list = serde_json::from_slice::<Value>(&body).ok();
    Ok(list.filter(|list| list["resources"].is_array()))
}

async fn documents(remote: &Remote, mut known: OpenApi) -> OpenApi {
    let user = UserInfo {
        name: "system:aggregator".into(),
        ..UserInfo::default()
    };
    let accept = "application/json";
    match remote.document("/openapi/v2", &user, accept, &known.v2_etag).await {
        Ok((200, etag, body)) => {
            let document = serde_json::from_slice::<Value>(&body).ok();
            known.v2 = document
                .and_then(|d| openapi::cut(&d, &remote.group, &remote.version))
                .map(Arc::new);
            known.v2_etag = etag;
        }
        Ok((304, _, _)) => {}
        Ok((404, _, _)) => known.v2 = None,
        other => tracing::debug!(remote = remote.name, ?other, "OpenAPI v2 could not be had"),
    }
    match remote.document("/openapi/v3", &user, accept, "").await {
        Ok((200, _, body)) => {
            let index = serde_json::from_slice::<Value>(&body).unwrap_or_default();
            let entry = &index["paths"][format!("apis/{}/{}", remote.group, remote.version)];
            known.v3 = entry["serverRelativeURL"].as_str().map(str::to_string);
        }
        Ok((404, _, _)) => known.v3 = None,
        other => tracing::debug!(remote = remote.name, ?other, "OpenAPI v3 could not be had"),
    }
    known
}
