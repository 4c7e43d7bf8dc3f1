//! The face of identity and admission towards the API server: holds keys,
//! caches and randomness; the deciding is in the modules it calls.

use crate::admission;
use crate::authentication::request_header::{self, ALLOWED_NAMES};
use crate::authentication::service_account::{self, LEGACY_ISSUER};
use crate::authentication::x509::CertificateUser;
use crate::authentication::{ServiceAccountKey, bootstrap_token, jwt, x509};
use crate::authorization::Authorizers;
use crate::contract::{AdmissionRequest, Admitted, Attributes, Credentials, Decision, Objects, UserInfo};
use crate::error::AccessError;
use crate::pki::{Voucher, Vouchers};
use crate::policy;
use jiff::Timestamp;
use ring::digest;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use skiff_api::ApiError;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::authentication::service_account::TokenIssue;

/// Verified tokens remembered: one per pod of a large node, at about 1 kB each.
const VERIFIED_TOKENS_MAX: usize = 4096;
/// Client certificates remembered: one per node and a few people.
const CERTIFICATES_MAX: usize = 4096;

const UNKNOWN_TOKEN: &str = "no authenticator knows the token";

#[derive(Debug, Default)]
pub struct AccessConfig {
    /// The first signs; all verify.
    pub service_account_keys: Vec<ServiceAccountKey>,
    /// `iss` of tokens, e.g. `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Audiences the API server answers to; the first is given to tokens that name none.
    pub api_audiences: Vec<String>,
    /// PEM of the CA(s) of client certificates, published to extension API servers.
    pub client_ca_pem: String,
    /// PEM of the CA(s) of front proxies; empty: nobody may act as one.
    pub front_proxy_ca_pem: String,
}

/// A token and the expiration to tell the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    pub token: String,
    pub expiration: Timestamp,
}

pub struct Access {
    config: AccessConfig,
    authorizers: Authorizers,
    vouchers: Vouchers,
    /// Claims by SHA-256 of the token: spares an ECDSA verification per request.
    verified: Cache<Value>,
    /// Users by SHA-256 of the certificate: spares parsing it per request.
    certificates: Cache<CertificateUser>,
}

impl Access {
    pub fn new(config: AccessConfig) -> Result<Access, AccessError> {
        if config.service_account_keys.is_empty() {
            return Err(AccessError::NoServiceAccountKey);
        }
        if config.api_audiences.is_empty() {
            return Err(AccessError::NoAudience);
        }
        let node_rules = policy::node_rules();
        let vouchers = Vouchers::new(&config.client_ca_pem, &config.front_proxy_ca_pem)
            .map_err(|e| AccessError::Authority(e.to_string()))?;
        Ok(Access {
            config,
            vouchers,
            authorizers: Authorizers::new(node_rules),
            verified: Mutex::default(),
            certificates: Mutex::default(),
        })
    }

    /// `None`: nothing was presented. Credentials that are wrong are a 401, never anonymous.
    pub fn authenticate(
        &self,
        c: &Credentials,
        objects: &dyn Objects,
        now: Timestamp,
    ) -> Result<Option<UserInfo>, ApiError> {
        if let (Some(proxy), Some(remote)) = (c.proxy_certificate, c.remote)
            && let Some(certificate) = self.certificate_user(proxy)
            && ALLOWED_NAMES.contains(&certificate.user.name.as_str())
        {
            if now.as_second() > certificate.not_after {
                tracing::debug!("a front proxy's certificate expired while it was connected");
                return Err(ApiError::unauthorized());
            }
            return Ok(Some(remote.user()));
        }
        if let Some(certificate) = c.peer_certificate.and_then(|der| self.certificate_user(der)) {
            // TLS checked this when the connection began, which may be long ago.
            if now.as_second() > certificate.not_after {
                tracing::debug!(
                    user = certificate.user.name,
                    "client certificate expired while connected"
                );
                return Err(ApiError::unauthorized());
            }
            return Ok(Some(certificate.user.clone()));
        }
        let Some(token) = c.bearer_token else {
            // A certificate that TLS accepted but that names no user is no proof of anything.
            return if c.peer_certificate.is_some() || c.proxy_certificate.is_some() {
                Err(ApiError::unauthorized())
            } else {
                Ok(None)
            };
        };
        match self.authenticate_token(token, &self.config.api_audiences, objects, now) {
            Ok((user, _)) => Ok(Some(user)),
            Err(reason) => {
                tracing::debug!(%reason, "bearer token refused");
                Err(ApiError::unauthorized())
            }
        }
    }

    pub fn authorize(&self, a: &Attributes, objects: &dyn Objects) -> Decision {
        self.authorizers.authorize(a, objects)
    }

    /// Mutating admission. May generate names, so it is not idempotent by itself.
    pub fn mutate(&self, r: &mut AdmissionRequest, objects: &dyn Objects) -> Admitted {
        admission::mutate(r, objects, &name_suffix())
    }

    pub fn validate(&self, r: &mut AdmissionRequest, objects: &dyn Objects) -> Admitted {
        admission::validate(r, objects, &self.authorizers)
    }

    pub fn issue_token(&self, request: &TokenIssue, now: Timestamp) -> Result<IssuedToken, ApiError> {
        let id = uuid::Uuid::new_v4().to_string();
        let (claims, expiration) =
            service_account::claims(request, &self.config.issuer, &self.config.api_audiences, &id, now);
        let token = self.config.service_account_keys[0]
            .sign(&claims)
            .map_err(ApiError::internal)?;
        let expiration = Timestamp::from_second(expiration)
            .map_err(|e| ApiError::bad_request(format!("expirationSeconds is out of range: {e}")))?;
        Ok(IssuedToken { token, expiration })
    }

    /// Token for a Secret of type `kubernetes.io/service-account-token`.
    pub fn issue_legacy_token(
        &self,
        namespace: &str,
        secret: &str,
        service_account: &str,
        uid: &str,
    ) -> Result<String, ApiError> {
        let claims = service_account::legacy_claims(namespace, secret, service_account, uid);
        self.config.service_account_keys[0]
            .sign(&claims)
            .map_err(ApiError::internal)
    }

    /// What `/openid/v1/jwks` serves (`application/jwk-set+json`).
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self
            .config
            .service_account_keys
            .iter()
            .map(ServiceAccountKey::jwk)
            .collect();
        json!({ "keys": keys })
    }

    /// What `/.well-known/openid-configuration` serves; `jwks_uri` as clients reach it.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.config.issuer, "jwks_uri": jwks_uri, "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// PEM of the cluster's CA, as pods get it beside their tokens.
    pub fn cluster_ca_pem(&self) -> &str {
        &self.config.client_ca_pem
    }

    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    pub fn api_audiences(&self) -> &[String] {
        &self.config.api_audiences
    }

    /// Status of a SelfSubjectRulesReview.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str, objects: &dyn Objects) -> Value {
        self.authorizers.rules_for(user, namespace, objects)
    }

    /// Status of a TokenReview; empty `audiences` means the API server's own.
    pub fn review_token(&self, token: &str, audiences: &[String], objects: &dyn Objects, now: Timestamp) -> Value {
        let audiences = if audiences.is_empty() {
            &self.config.api_audiences
        } else {
            audiences
        };
        match self.authenticate_token(token, audiences, objects, now) {
            Ok((user, audiences)) => {
                json!({"authenticated": true, "user": user_value(&user), "audiences": audiences})
            }
            Err(reason) => {
                let error = match reason.as_ref() {
                    UNKNOWN_TOKEN => "invalid bearer token".to_string(),
                    reason => format!("[invalid bearer token, {reason}]"),
                };
                json!({"user": {}, "error": error})
            }
        }
    }

    /// What exists in every cluster from the start.
    pub fn bootstrap_objects(&self) -> Vec<Value> {
        policy::bootstrap_objects(&self.trust_data())
    }

    /// A stored object of `bootstrap_objects` with what it lacks of the wanted one;
    /// `None` if it is to be left alone.
    pub fn reconciled(&self, stored: &Value, wanted: &Value) -> Option<Value> {
        policy::is_policy(wanted)
            .then(|| policy::reconciled(stored, wanted))
            .flatten()
    }

    /// Data of the ConfigMap that extension API servers read their trust from.
    pub fn trust_data(&self) -> Vec<(&'static str, String)> {
        request_header::trust_data(&self.config.client_ca_pem, &self.config.front_proxy_ca_pem)
    }

    /// Which of the cluster's authorities vouches for a client's certificates (leaf first).
    pub fn voucher(&self, chain: &[CertificateDer<'_>]) -> Option<Voucher> {
        self.vouchers.of(chain)
    }

    fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn Objects,
        now: Timestamp,
    ) -> Result<(UserInfo, Vec<String>), Cow<'static, str>> {
        if let Some((id, secret)) = bootstrap_token::split(token) {
            return Ok((
                bootstrap_token::user_of(id, secret, objects, now)?,
                self.config.api_audiences.clone(),
            ));
        }
        let claims = self.verified_claims(token).ok_or(UNKNOWN_TOKEN)?;
        if claims.get("iss").and_then(Value::as_str) == Some(LEGACY_ISSUER) {
            // Legacy tokens name no audience: they are good for the API server alone.
            if !audiences
                .iter()
                .any(|audience| self.config.api_audiences.contains(audience))
            {
                let named = &self.config.api_audiences;
                return Err(service_account::wrong_audience(named, audiences).into());
            }
            return Ok((
                service_account::check_legacy(&claims, token, objects)?,
                self.config.api_audiences.clone(),
            ));
        }
        let audiences = service_account::check_claims(&claims, &self.config.issuer, audiences, now)?;
        Ok((service_account::check_objects(&claims, objects, now)?, audiences))
    }

    fn certificate_user(&self, der: &[u8]) -> Option<Arc<CertificateUser>> {
        let key = sha256(der);
        if let Some(user) = lock(&self.certificates).get(&key) {
            return Some(Arc::clone(user));
        }
        let user = Arc::new(x509::parse(der, &key)?);
        remember(&self.certificates, key, Arc::clone(&user), CERTIFICATES_MAX);
        Some(user)
    }

    /// Claims of a token one of our keys signed; time and objects are checked every time.
    fn verified_claims(&self, token: &str) -> Option<Arc<Value>> {
        let key = sha256(token.as_bytes());
        if let Some(claims) = lock(&self.verified).get(&key) {
            return Some(Arc::clone(claims));
        }
        let claims = Arc::new(jwt::verify(token, &self.config.service_account_keys)?);
        remember(&self.verified, key, Arc::clone(&claims), VERIFIED_TOKENS_MAX);
        Some(claims)
    }
}

type Cache<T> = Mutex<HashMap<[u8; 32], Arc<T>>>;

fn lock<T>(cache: &Cache<T>) -> MutexGuard<'_, HashMap<[u8; 32], Arc<T>>> {
    // What is in the cache is true whoever panicked while holding it.
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A full cache is emptied: that is rare, and cheap beside keeping an order of use.
fn remember<T>(cache: &Cache<T>, key: [u8; 32], value: Arc<T>, max: usize) {
    let mut cache = lock(cache);
    if cache.len() >= max {
        cache.clear();
    }
    cache.insert(key, value);
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    key
}

/// A user as TokenReview and SelfSubjectReview show it.
pub fn user_value(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        value["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

/// Five characters as Kubernetes puts behind generated names (no vowels, no
/// look-alikes).
fn name_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5)
        .map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]))
        .collect()
}
