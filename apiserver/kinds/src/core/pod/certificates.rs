//! Checks of projections of trust bundles and of pod certificates.

use crate::check::{Errors, Path};
use crate::tree::Tree;
use crate::{names, selector};
use serde_json::Value;

const KEY_TYPES: &[&str] = &["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
/// An hour, and 91 days.
const LIFE_SECONDS_MIN: i64 = 3600;
const LIFE_SECONDS_MAX: i64 = 91 * 86400;

/// `example.com/signer`: a domain of at least two labels, and a path.
fn signer(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        errors.invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
        return;
    };
    for fault in names::dns_subdomain(domain) {
        errors.invalid(path, domain, &format!("validating label {domain:?}: {fault}"));
    }
    if !domain.contains('.') {
        errors.invalid(
            path,
            domain,
            "should be a domain with at least two segments separated by dots",
        );
    }
    for fault in names::dns_subdomain(rest) {
        errors.invalid(path, rest, &format!("validating label {rest:?}: {fault}"));
    }
}

pub(super) fn trust_bundle(bundle: &Value, path: &Path, errors: &mut Errors) {
    match (bundle.has("name"), bundle.has("signerName")) {
        (true, true) => errors.invalid(path, bundle.clone(), "only one of name and signerName may be used"),
        (true, false) => {
            let name = bundle.text("name");
            if name.is_empty() {
                errors.required(&path.of("name"), "must be a valid object name");
            }
            // The signer's prefix is parted by a colon.
            let last = name.rsplit(':').next().unwrap_or(name);
            for fault in names::dns_subdomain(last) {
                let text = format!("not a valid clustertrustbundlename: {fault}");
                errors.invalid(&path.of("name"), name, &text);
            }
            if bundle.has("labelSelector") {
                errors.invalid(
                    &path.of("labelSelector"),
                    bundle.at("labelSelector").clone(),
                    "labelSelector must be unset if name is specified",
                );
            }
        }
        (false, true) => {
            let name = bundle.text("signerName");
            if name.is_empty() {
                errors.required(&path.of("signerName"), "must be a valid signer name");
            }
            signer(name, &path.of("signerName"), errors);
            selector::validate(bundle.at("labelSelector"), &path.of("labelSelector"), errors);
        }
        (false, false) => errors.required(path, "either name or signerName must be specified"),
    }
}

pub(super) fn certificate(certificate: &Value, path: &Path, errors: &mut Errors) {
    signer(certificate.text("signerName"), &path.of("signerName"), errors);
    match certificate.text("keyType") {
        "" => errors.required(&path.of("keyType"), ""),
        kind if !KEY_TYPES.contains(&kind) => errors.not_supported(&path.of("keyType"), kind, KEY_TYPES),
        _ => {}
    }
    if let Some(seconds) = certificate.int("maxExpirationSeconds") {
        let at = path.of("maxExpirationSeconds");
        if seconds < LIFE_SECONDS_MIN {
            errors.invalid(
                &at,
                seconds,
                &format!("if provided, maxExpirationSeconds must be >= {LIFE_SECONDS_MIN}"),
            );
        } else if seconds > LIFE_SECONDS_MAX {
            errors.invalid(
                &at,
                seconds,
                &format!("if provided, maxExpirationSeconds must be <= {LIFE_SECONDS_MAX}"),
            );
        }
    }
    crate::meta::annotations(certificate.at("userAnnotations"), &path.of("userAnnotations"), errors);
}
