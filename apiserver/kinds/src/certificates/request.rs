//! The PEM of a request and of a certificate: that they are what they say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Nothing larger is read: real requests are under 2 kB, chains under 64 kB.
const BYTES_MAX: usize = 1024 * 1024;

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    if text.len() > BYTES_MAX {
        return Err("too large".into());
    }
    STANDARD.decode(text).map_err(|e| e.to_string())
}

/// The PEM blocks of a text; what is between them is passed over.
fn blocks(bytes: &[u8]) -> impl Iterator<Item = Pem> + '_ {
    Pem::iter_from_buffer(bytes).map_while(Result::ok)
}

/// What is wrong with a request: its shape, or that its own key did not sign it.
pub(super) fn check(request: &str) -> Result<(), String> {
    const NOT_ONE: &str = "PEM block type must be CERTIFICATE REQUEST";
    let bytes = decoded(request)?;
    let block = blocks(&bytes).next().filter(|b| b.label == "CERTIFICATE REQUEST");
    let block = block.ok_or(NOT_ONE)?;
    let parsed = X509CertificationRequest::from_der(&block.contents);
    let (_, request) = parsed.map_err(|e| format!("asn1: structure error: {e}"))?;
    match request.verify_signature() {
        Ok(()) => Ok(()),
        Err(X509Error::SignatureUnsupportedAlgorithm) => {
            Err("x509: cannot verify signature: algorithm unimplemented".into())
        }
        Err(_) => Err("x509: signature verification error".into()),
    }
}

/// What is wrong with an issued certificate and its chain.
pub(super) fn check_certificate(certificate: &str) -> Result<(), String> {
    if certificate.is_empty() {
        return Ok(());
    }
    let bytes = decoded(certificate)?;
    let mut found = false;
    for block in blocks(&bytes) {
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        found = true;
        if block.contents.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".into());
        }
        X509Certificate::from_der(&block.contents).map_err(|e| format!("x509: malformed certificate: {e}"))?;
    }
    if !found {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    Ok(())
}
