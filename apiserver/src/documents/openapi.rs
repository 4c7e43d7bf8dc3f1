//! `/openapi/v2` and `/openapi/v3`: made on first use from the table of kinds
//! and kept compressed, because they are megabytes that few ask for.

use super::{etag_of, not_found};
use crate::aggregation::{self, Remote};
use crate::body::ApiBody;
use crate::handler::ServerCall;
use crate::registry::Catalog;
use crate::respond;
use crate::server::ApiServer;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use skiff_api::ApiError;
use skiff_api::openapi::{self, Descriptions, Resource, Subresource};
use skiff_kinds::Kind;
use std::io::Read;

/// With a dot where clients ask with an `@`: Go's media type parser, which reads this, refuses the `@`.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

impl ApiServer {
    pub(super) async fn openapi(&self, call: &ServerCall, path: &str) -> Result<Response<ApiBody>, ApiError> {
        let protobuf = call.header(header::ACCEPT).contains("proto-openapi.spec");
        match path {
            "/openapi/v2" => {
                let key = if protobuf { "openapi/v2:protobuf" } else { path };
                let media_type = if protobuf { V2_PROTOBUF } else { "application/json" };
                self.openapi_document(call, key, media_type, || {
                    let document = self.openapi_v2();
                    if protobuf {
                        Ok(openapi::v2_protobuf(&document))
                    } else {
                        serde_json::to_vec(&document).map_err(ApiError::internal)
                    }
                })
            }
            "/openapi/v3" => self.openapi_document(call, path, "application/json", || {
                let mut index = openapi::v3_index(&resources(&self.catalog(), &stamp));
                for remote in self.aggregation.routes().iter() {
                    if let Some((path, url)) = remote.openapi_v3_url() {
                        index["paths"][path] = json!({"serverRelativeURL": url});
                    }
                }
                serde_json::to_vec(&index).map_err(ApiError::internal)
            }),
            _ => {
                let rest = path.strip_prefix("/openapi/v3").ok_or_else(not_found)?;
                if let Some(remote) = self.aggregation.find(rest) {
                    return self.remote_openapi(call, &remote).await;
                }
                self.openapi_v3(call, rest.trim_start_matches('/'), protobuf)
            }
        }
    }

    fn openapi_v2(&self) -> Value {
        let descriptions = Descriptions::unpack();
        let index = descriptions.index();
        let mut document = openapi::v2_document(&resources(&self.catalog(), &written_schema), &|ty, field| {
            index.of(ty, field)
        });
        for remote in self.aggregation.routes().iter() {
            if let Some(other) = &remote.state.load().openapi.v2 {
                aggregation::join_openapi(&mut document, other);
            }
        }
        document
    }

    /// A document of v3. Its address names its hash: at the right one it never changes, from
    /// another the client is sent there.
    fn openapi_v3(&self, call: &ServerCall, path: &str, protobuf: bool) -> Result<Response<ApiBody>, ApiError> {
        let catalog = self.catalog();
        let url = openapi::v3_url(path, &resources(&catalog, &stamp)).ok_or_else(not_found)?;
        let hash = call.query.split('&').find_map(|pair| pair.strip_prefix("hash="));
        if hash.is_some_and(|hash| !url.ends_with(&format!("?hash={hash}"))) {
            let moved = Response::builder().status(301).header(header::LOCATION, url);
            return moved.body(ApiBody::empty()).map_err(ApiError::internal);
        }
        let key = format!("openapi/v3/{path}:{protobuf}");
        let media_type = if protobuf { V3_PROTOBUF } else { "application/json" };
        let mut response = self.openapi_document(call, &key, media_type, || {
            let descriptions = Descriptions::unpack();
            let index = descriptions.index();
            // Only schemas of this group version are read.
            let of_path = |kind: &Kind, version: &str| {
                let here = openapi::group_version_path(kind.group, version) == path;
                here.then(|| written_schema(kind, version)).flatten()
            };
            let document = openapi::v3_document(path, &resources(&catalog, &of_path), &|ty, field| index.of(ty, field))
                .ok_or_else(not_found)?;
            if protobuf {
                Ok(openapi::v3_protobuf(&document))
            } else {
                serde_json::to_vec(&document).map_err(ApiError::internal)
            }
        })?;
        if hash.is_some() {
            let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
            response.headers_mut().insert(header::CACHE_CONTROL, forever);
        }
        Ok(response)
    }

    /// The document of a group version that another server answers: its own, or made of
    /// its older form.
    async fn remote_openapi(&self, call: &ServerCall, remote: &Remote) -> Result<Response<ApiBody>, ApiError> {
        let known = remote.state.load_full().openapi.clone();
        if known.v3.is_some() {
            return self.forward_openapi(call, remote).await;
        }
        let v2 = known.v2.ok_or_else(not_found)?;
        self.openapi_document(call, &call.info.path, "application/json", || {
            serde_json::to_vec(&aggregation::openapi_v3_of(&v2)).map_err(ApiError::internal)
        })
    }

    fn openapi_document(
        &self,
        call: &ServerCall,
        key: &str,
        media_type: &str,
        make: impl FnOnce() -> Result<Vec<u8>, ApiError>,
    ) -> Result<Response<ApiBody>, ApiError> {
        let (packed, etag) = self
            .documents
            .get(key, || respond::compressed(&[Bytes::from(make()?)]))?;
        let fresh = etag_of(call) == etag;
        let mut builder = Response::builder()
            .header(header::CONTENT_TYPE, media_type)
            .header(header::VARY, "Accept-Encoding, Accept");
        builder = builder.header(header::ETAG, HeaderValue::from_str(&etag).map_err(ApiError::internal)?);
        let response = if fresh {
            builder.status(304).body(ApiBody::empty())
        } else if call.accepts_gzip() {
            builder
                .status(200)
                .header(header::CONTENT_ENCODING, "gzip")
                .body(ApiBody::full(packed))
        } else {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&packed[..])
                .read_to_end(&mut plain)
                .map_err(ApiError::internal)?;
            builder.status(200).body(ApiBody::full(plain))
        };
        response.map_err(ApiError::internal)
    }
}

/// The table of kinds as the documents' generator wants it.
fn resources(catalog: &Catalog, schema: &dyn Fn(&Kind, &str) -> Option<Value>) -> Vec<Resource> {
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    catalog
        .kinds()
        .iter()
        .flat_map(|kind| {
            kind.versions.iter().map(move |version| Resource {
                schema: schema(kind, version),
                group: kind.group.into(),
                version: (*version).into(),
                kind: kind.kind.into(),
                plural: kind.plural.into(),
                namespaced: kind.namespaced,
                verbs: texts(kind.verbs),
                subresources: kind
                    .subresources
                    .iter()
                    .map(|sub| Subresource {
                        name: sub.name.into(),
                        group: sub.group.into(),
                        version: sub.version.into(),
                        kind: sub.kind.into(),
                        verbs: texts(sub.verbs),
                    })
                    .collect(),
            })
        })
        .collect()
}

/// The schema of a custom kind, as its definition has it.
fn written_schema(kind: &Kind, version: &str) -> Option<Value> {
    kind.custom.as_ref()?.openapi_schema(version)
}

/// What stands for a schema where only a change is to be seen.
fn stamp(kind: &Kind, _version: &str) -> Option<Value> {
    Some(kind.custom.as_ref()?.stamp.into())
}
