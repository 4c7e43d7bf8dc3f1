//! Who makes a request and whether they may: authentication, impersonation,
//! authorisation. The decisions are skiff-access's; this file asks them.

use crate::request::{QueryOptions, RequestInfo};
use crate::server::ApiServer;
use bytes::Bytes;
use http::{HeaderMap, header};
use skiff_access::authentication::request_header::RemoteUser;
use skiff_access::pki::Voucher;
use skiff_access::{
    Attributes, Credentials, Decision, ImpersonationRequest, Objects, UserInfo, anonymous, impersonation,
};
use skiff_api::ApiError;
use std::sync::Arc;

/// How a request reached the server.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// Over TLS; the verified client certificate's DER, if one was shown, and who vouches for it.
    Network { certificate: Option<(Voucher, Bytes)> },
    /// From a component in this process, whose identity is fixed.
    Process(Arc<UserInfo>),
}

/// One request, read and authorised, with what its verb needs.
pub(crate) struct ServerCall {
    pub info: RequestInfo,
    pub options: QueryOptions,
    pub query: String,
    pub method: http::Method,
    pub headers: HeaderMap,
    pub user: Arc<UserInfo>,
    pub body: Bytes,
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl ServerCall {
    pub fn accepts_gzip(&self) -> bool {
        self.header(header::ACCEPT_ENCODING)
            .split(',')
            .any(|e| e.trim().split(';').next() == Some("gzip"))
    }

    pub fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

impl ApiServer {
    pub(crate) fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Arc<UserInfo>, ApiError> {
        let certificate = match peer {
            Peer::Process(user) => return Ok(user.clone()),
            Peer::Network { certificate } => certificate.as_ref(),
        };
        let vouched = |by: Voucher| certificate.filter(|(v, _)| *v == by).map(|(_, der)| der.as_ref());
        let proxy_certificate = vouched(Voucher::FrontProxy);
        let remote = proxy_certificate.and_then(|_| RemoteUser::read(text_headers(headers)));
        let objects = self.objects(self.store.snapshot());
        let credentials = Credentials {
            peer_certificate: vouched(Voucher::Cluster),
            proxy_certificate,
            remote: remote.as_ref(),
            bearer_token: bearer_token(headers),
        };
        let user = self
            .access
            .authenticate(&credentials, &objects, jiff::Timestamp::now())?;
        match user {
            Some(user) => Ok(Arc::new(user)),
            // What nobody in particular may do, the authorizer says.
            None => Ok(Arc::new(anonymous())),
        }
    }

    /// The user that `Impersonate-*` headers ask for, if the real one may.
    pub(crate) fn impersonate(&self, user: Arc<UserInfo>, headers: &HeaderMap) -> Result<Arc<UserInfo>, ApiError> {
        let Some(asked) = impersonation::plan(&impersonation_headers(headers))? else {
            return Ok(user);
        };
        let objects = self.objects(self.store.snapshot());
        for check in &asked.checks {
            self.check(&check.attributes(&user), &objects)?;
        }
        Ok(Arc::new(asked.user))
    }

    pub(crate) fn authorize(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        options: &QueryOptions,
    ) -> Result<(), ApiError> {
        let objects = self.objects(self.store.snapshot());
        let selects = matches!(info.verb, "list" | "watch" | "deletecollection");
        let attributes = Attributes {
            user,
            verb: info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: if info.is_resource { "" } else { &info.path },
            field_selector: if selects { &options.field_selector } else { "" },
            label_selector: if selects { &options.label_selector } else { "" },
        };
        self.check(&attributes, &objects)
    }

    pub(crate) fn check(&self, attributes: &Attributes<'_>, objects: &dyn Objects) -> Result<(), ApiError> {
        match self.access.authorize(attributes, objects) {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny { reason } => Err(forbidden(attributes, &reason)),
        }
    }
}

fn text_headers(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        let (scheme, token) = value.trim().split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim())
            .filter(|t| !t.is_empty());
    }
    None
}

/// 403 in upstream's words.
pub(crate) fn forbidden(a: &Attributes<'_>, reason: &str) -> ApiError {
    let user = &a.user.name;
    if a.resource.is_empty() {
        return ApiError::forbidden(
            "",
            "",
            "",
            &format!("User {user:?} cannot {} path {:?}{}", a.verb, a.path, colon(reason)),
        );
    }
    let resource = if a.subresource.is_empty() {
        a.resource.to_string()
    } else {
        format!("{}/{}", a.resource, a.subresource)
    };
    let place = if a.namespace.is_empty() {
        " at the cluster scope".to_string()
    } else {
        format!(" in the namespace {:?}", a.namespace)
    };
    let text = format!(
        "User {user:?} cannot {} resource {resource:?} in API group {:?}{place}{}",
        a.verb,
        a.group,
        colon(reason)
    );
    ApiError::forbidden(a.group, a.resource, a.name, &text)
}

fn colon(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

fn impersonation_headers(headers: &HeaderMap) -> ImpersonationRequest {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_string()
    };
    let mut request = ImpersonationRequest {
        user: text("impersonate-user"),
        uid: text("impersonate-uid"),
        groups: headers
            .get_all("impersonate-group")
            .iter()
            .filter_map(|v| v.to_str().ok())
            .map(str::to_string)
            .collect(),
        ..ImpersonationRequest::default()
    };
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            let key = percent_encoding::percent_decode_str(key)
                .decode_utf8_lossy()
                .into_owned();
            request
                .extra
                .entry(key)
                .or_default()
                .push(value.to_str().unwrap_or("").to_string());
        }
    }
    request
}
