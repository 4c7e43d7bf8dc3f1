//! Rows of certificates.k8s.io.

mod certificate_signing_request;
mod request;

use crate::contract::Kind;
use crate::row::{GET_PATCH_UPDATE, kind, status, sub};

pub(crate) const GROUP: &str = "certificates.k8s.io";
const V1: &[&str] = &["v1"];

pub(crate) fn rows() -> Vec<Kind> {
    vec![Kind {
        short_names: &["csr"],
        subresources: const {
            &[
                sub(
                    "approval",
                    "certificates.k8s.io",
                    "v1",
                    "CertificateSigningRequest",
                    GET_PATCH_UPDATE,
                ),
                status(GROUP, "v1", "CertificateSigningRequest"),
            ]
        },
        columns: certificate_signing_request::COLUMNS,
        strategy: &certificate_signing_request::STRATEGY,
        ..kind!(
            GROUP,
            V1,
            "CertificateSigningRequest",
            "certificatesigningrequests",
            "certificatesigningrequest",
            false
        )
    }]
}
