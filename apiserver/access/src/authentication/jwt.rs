//! JSON Web Signatures with ES256 only: the algorithm is pinned, a token that
//! names another one is refused before any cryptography. RFC 7515, RFC 7518.

use crate::error::AccessError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use ring::{digest, signature};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

/// Longer tokens are refused unread: real ones are about 1 kB, and HTTP servers
/// bound a header at 16 kB anyway.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// DER of a P-256 SubjectPublicKeyInfo up to the 65 bytes of the point (RFC 5480).
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key that signs and verifies service-account tokens.
pub struct ServiceAccountKey {
    pair: EcdsaKeyPair,
    /// Uncompressed point: 0x04, x, y.
    point: Vec<u8>,
    key_id: String,
    random: SystemRandom,
}

impl std::fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccountKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl ServiceAccountKey {
    /// From the PEM text of a PKCS#8 private key.
    pub fn from_pem(pem: &str) -> Result<Self, AccessError> {
        let bad = |why: String| AccessError::BadServiceAccountKey(why);
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|e| bad(e.to_string()))?;
        let point = pair.public_key().as_ref().to_vec();
        let spki = [P256_SPKI_PREFIX.as_slice(), &point].concat();
        let key_id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &spki));
        Ok(Self {
            pair,
            point,
            key_id,
            random,
        })
    }

    /// Upstream's key id: SHA-256 of the public key's SPKI, base64url.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    pub fn sign(&self, claims: &Value) -> Result<String, AccessError> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self
            .pair
            .sign(&self.random, token.as_bytes())
            .map_err(|_| AccessError::BadServiceAccountKey("signing failed".into()))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// The key as an entry of a JWK set.
    pub fn jwk(&self) -> Value {
        json!({
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&self.point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&self.point[33..65]),
        })
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn signature::VerificationAlgorithm = &ECDSA_P256_SHA256_FIXED;
        UnparsedPublicKey::new(algorithm, &self.point)
            .verify(message, signature)
            .is_ok()
    }
}

/// Whether a bearer token has the shape of a JWT at all.
pub fn looks_like_jwt(token: &str) -> bool {
    token.len() <= TOKEN_BYTES_MAX && token.split('.').count() == 3
}

/// The `iss` a token claims, unverified: only to choose who verifies it.
pub fn claimed_issuer(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Some(claims.get("iss")?.as_str()?.to_string())
}

/// The claims, if one of the keys signed them. Says nothing about time or audience.
pub fn verify(token: &str, keys: &[ServiceAccountKey]) -> Option<Value> {
    if !looks_like_jwt(token) {
        return None;
    }
    let (message, signature) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    // RFC 7515 §4.1.11: extensions named critical that are not understood.
    if header.get("alg")?.as_str()? != "ES256" || header.get("crit").is_some() {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let key_id = header.get("kid").and_then(Value::as_str);
    let signed = keys
        .iter()
        .filter(|key| key_id.is_none_or(|id| id == key.key_id))
        .any(|key| key.verifies(message.as_bytes(), &signature));
    if !signed {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
