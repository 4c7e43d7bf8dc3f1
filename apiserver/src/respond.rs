//! Responses: objects and lists in the asked version, shape and encoding, and
//! errors as `Status`.

use crate::body::ApiBody;
use crate::codec;
use crate::fast::{self, Shown};
use crate::listing::Listing;
use crate::registry::{decode, list_item, spliced, type_prefix};
use crate::request::{Encoding, Form, Negotiated, negotiate};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use skiff_api::ApiError;
use skiff_kinds::Kind;
use skiff_store::{Entry, Revision, StoreError};
use std::borrow::Borrow;
use std::io::Write;

/// Answers from here on are compressed when the client asks, as upstream.
const GZIP_BYTES_MIN: usize = 128 * 1024;
/// Longest text of one `Warning` header where all of them are long, as upstream.
const WARNING_CHARS_MAX: usize = 256;
/// From here on all warnings together are long, and none is added behind them.
const WARNINGS_CHARS_MAX: usize = 4096;
/// Size of the pieces that a long list is sent in.
const PIECE_BYTES: usize = 256 * 1024;
/// Member of an error's details that carries a continue token to the Status' metadata.
pub(crate) const CONTINUE_DETAIL: &str = "skiff.continue";
/// The one that carries warnings to the answer's headers.
const WARNINGS_DETAIL: &str = "skiff.warnings";

/// How one request wants its objects.
pub(crate) struct View<'a> {
    pub kind: &'a Kind,
    pub version: &'a str,
    pub negotiated: Negotiated,
    pub include_object: &'a str,
}

/// Metadata of a list.
#[derive(Debug, Default, Clone)]
pub(crate) struct ListMeta {
    pub revision: Revision,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListMeta {
    fn to_value(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if !self.continue_token.is_empty() {
            metadata["continue"] = self.continue_token.clone().into();
            if let Some(remaining) = self.remaining {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        metadata
    }
}

impl View<'_> {
    pub fn media_type(&self) -> &'static str {
        self.negotiated.encoding.media_type()
    }

    /// The stored bytes are what is asked for, but for the revision.
    pub fn is_stored_form(&self, entry: &Entry) -> bool {
        self.negotiated.encoding == Encoding::Json
            && self.negotiated.form == Form::Object
            && self.all_stored(std::slice::from_ref(entry))
    }

    /// These are stored in the version that is asked for.
    fn all_stored(&self, entries: &[impl Borrow<Entry>]) -> bool {
        let prefix = type_prefix(self.kind.group, self.version, self.kind.kind);
        entries
            .iter()
            .all(|entry| entry.borrow().body().starts_with(prefix.as_bytes()))
    }

    /// How these can be answered from their stored bytes, where they can.
    fn shown(&self, entries: &[impl Borrow<Entry>]) -> Option<Shown<'_>> {
        match (self.negotiated.form, self.negotiated.encoding) {
            (Form::Metadata, encoding) if fast::makes(encoding) => Some(Shown::Metadata(self.meta_version())),
            (Form::Object, Encoding::Protobuf) if self.kind.custom.is_none() && self.all_stored(entries) => {
                self.kind.type_in(self.version).map(Shown::Object)
            }
            _ => None,
        }
    }

    pub fn entry(&self, entry: &Entry, revision: Revision) -> Result<Bytes, ApiError> {
        if self.is_stored_form(entry) {
            let mut out = Vec::new();
            spliced(&mut out, entry, revision);
            out.push(b'\n');
            return Ok(Bytes::from(out));
        }
        match (self.shown(std::slice::from_ref(entry)), self.negotiated.encoding) {
            (Some(shown @ Shown::Object(_)), _) => {
                let api_version = codec::api_version(self.kind.group, self.version);
                shown.protobuf(&api_version, self.kind.kind, entry, revision)
            }
            (Some(shown @ Shown::Metadata(version)), Encoding::Protobuf) => {
                shown.protobuf(version, "PartialObjectMetadata", entry, revision)
            }
            (Some(Shown::Metadata(version)), _) => {
                let mut out = Vec::new();
                fast::metadata_json(&mut out, version, entry, revision);
                out.push(b'\n');
                Ok(Bytes::from(out))
            }
            (None, _) => self.encode(&self.shaped(entry, revision)?),
        }
    }

    /// Appends the entry as JSON where that can be made of its stored bytes; else false.
    pub fn append_json(&self, out: &mut Vec<u8>, entry: &Entry, revision: Revision) -> bool {
        if self.is_stored_form(entry) {
            spliced(out, entry, revision);
            return true;
        }
        match (self.shown(std::slice::from_ref(entry)), self.negotiated.encoding) {
            (Some(Shown::Metadata(version)), Encoding::Json) => {
                fast::metadata_json(out, version, entry, revision);
                true
            }
            _ => false,
        }
    }

    /// The entry as a tree in the asked version and shape.
    pub fn shaped(&self, entry: &Entry, revision: Revision) -> Result<Value, ApiError> {
        let mut value = decode(entry, revision)?;
        match self.negotiated.form {
            Form::Table => {
                let row = self.row(value)?;
                Ok(self.table(vec![row], json!({"resourceVersion": revision.to_string()})))
            }
            Form::Metadata => Ok(partial(&mut value, self.meta_version())),
            _ => Ok(codec::to_version(value, self.kind, self.version)),
        }
    }

    pub fn encode(&self, value: &Value) -> Result<Bytes, ApiError> {
        codec::encode(self.negotiated.encoding, value)
    }

    /// A list as the answer: made while it is sent where all is as it is stored.
    pub fn list(&self, entries: Vec<Entry>, meta: &ListMeta, gzip: bool) -> Result<Response<ApiBody>, ApiError> {
        if self.negotiated.form == Form::Object
            && self.negotiated.encoding == Encoding::Json
            && self.all_stored(&entries)
        {
            let listing = Listing::new(self.list_head(meta)?, entries);
            return listed(self.media_type(), listing, gzip);
        }
        if let Some(shown) = self.shown(&entries) {
            return self.list_shown(shown, entries, meta, gzip);
        }
        parts(self.media_type(), self.list_parts(&entries, meta)?, gzip)
    }

    fn list_shown(
        &self,
        shown: Shown<'_>,
        entries: Vec<Entry>,
        meta: &ListMeta,
        gzip: bool,
    ) -> Result<Response<ApiBody>, ApiError> {
        let (api_version, kind) = match shown {
            Shown::Object(_) => (codec::api_version(self.kind.group, self.version), self.kind.list_kind),
            Shown::Metadata(version) => (version.to_string(), "PartialObjectMetadataList"),
        };
        if self.negotiated.encoding == Encoding::Protobuf {
            let pieces = shown.protobuf_list(&api_version, kind, &meta.to_value(), &entries)?;
            return parts(self.media_type(), pieces, gzip);
        }
        let head = list_head(kind, &api_version, meta)?;
        listed(
            self.media_type(),
            Listing::of_metadata(head, self.meta_version(), entries),
            gzip,
        )
    }

    fn list_parts(&self, entries: &[Entry], meta: &ListMeta) -> Result<Vec<Bytes>, ApiError> {
        if self.negotiated.form == Form::Object && self.negotiated.encoding == Encoding::Json {
            return self.json_list(entries, meta);
        }
        let metadata = meta.to_value();
        let list = match self.negotiated.form {
            Form::Table => {
                let rows = entries
                    .iter()
                    .map(|e| self.row(decode(e, e.mod_revision())?))
                    .collect::<Result<_, _>>()?;
                self.table(rows, metadata)
            }
            Form::Metadata => {
                let items: Vec<Value> = entries
                    .iter()
                    .map(|e| decode(e, e.mod_revision()).map(|mut v| partial(&mut v, self.meta_version())))
                    .collect::<Result<_, _>>()?;
                json!({"kind": "PartialObjectMetadataList", "apiVersion": self.meta_version(), "metadata": metadata, "items": items})
            }
            _ => {
                let items: Vec<Value> = entries.iter().map(|e| self.item(e)).collect::<Result<_, _>>()?;
                json!({"kind": self.kind.list_kind, "apiVersion": codec::api_version(self.kind.group, self.version), "metadata": metadata, "items": items})
            }
        };
        Ok(vec![self.encode(&list)?])
    }

    fn item(&self, entry: &Entry) -> Result<Value, ApiError> {
        let mut value = codec::to_version(decode(entry, entry.mod_revision())?, self.kind, self.version);
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| key != "apiVersion" && key != "kind");
        }
        Ok(value)
    }

    /// A list up to its first item.
    fn list_head(&self, meta: &ListMeta) -> Result<Vec<u8>, ApiError> {
        list_head(
            self.kind.list_kind,
            &codec::api_version(self.kind.group, self.version),
            meta,
        )
    }

    fn json_list(&self, entries: &[Entry], meta: &ListMeta) -> Result<Vec<Bytes>, ApiError> {
        let mut pieces = Vec::new();
        let total: usize = entries.iter().map(|e| e.body().len()).sum();
        let mut out = self.list_head(meta)?;
        out.reserve((total + 256).min(PIECE_BYTES + 4096));
        for (i, entry) in entries.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            if self.is_stored_form(entry) {
                list_item(&mut out, entry);
            } else {
                serde_json::to_writer(&mut out, &self.item(entry)?).map_err(ApiError::internal)?;
            }
            if out.len() >= PIECE_BYTES {
                pieces.push(Bytes::from(std::mem::replace(
                    &mut out,
                    Vec::with_capacity(PIECE_BYTES),
                )));
            }
        }
        out.extend_from_slice(b"]}\n");
        pieces.push(Bytes::from(out));
        Ok(pieces)
    }

    /// Trees that lie nowhere, as a list or as its table.
    pub fn list_of(&self, mut items: Vec<Value>) -> Result<Bytes, ApiError> {
        let list = if self.negotiated.form == Form::Table {
            let rows = items.into_iter().map(|item| self.row(item)).collect::<Result<_, _>>()?;
            self.table(rows, json!({}))
        } else {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                item.retain(|key, _| key != "kind" && key != "apiVersion");
            }
            json!({"kind": self.kind.list_kind, "apiVersion": codec::api_version(self.kind.group, self.version), "metadata": {}, "items": items})
        };
        self.encode(&list)
    }

    /// A tree that lies nowhere.
    pub fn one_of(&self, item: Value) -> Result<Bytes, ApiError> {
        if self.negotiated.form == Form::Table {
            let rows = vec![self.row(item)?];
            return self.encode(&self.table(rows, json!({})));
        }
        self.encode(&item)
    }

    fn meta_version(&self) -> &'static str {
        self.negotiated.meta_version()
    }

    fn row(&self, mut value: Value) -> Result<Value, ApiError> {
        let cells = self.kind.row_in(self.version, &value, jiff::Timestamp::now());
        let object = match self.include_object {
            "None" => return Ok(json!({"cells": cells})),
            "Object" => codec::to_version(value, self.kind, self.version),
            _ => partial(&mut value, self.meta_version()),
        };
        Ok(json!({"cells": cells, "object": object}))
    }

    fn table(&self, rows: Vec<Value>, metadata: Value) -> Value {
        let columns: Vec<Value> = self
            .kind
            .columns_in(self.version)
            .iter()
            .map(|c| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority}))
            .collect();
        json!({"kind": "Table", "apiVersion": self.meta_version(), "metadata": metadata, "columnDefinitions": columns, "rows": rows})
    }
}

fn list_head(kind: &str, api_version: &str, meta: &ListMeta) -> Result<Vec<u8>, ApiError> {
    let mut out = Vec::new();
    write!(
        out,
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{},\"items\":[",
        meta.to_value()
    )
    .map_err(ApiError::internal)?;
    Ok(out)
}

fn partial(value: &mut Value, api_version: &str) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": value["metadata"].take()})
}

/// A finished answer with these bytes.
pub(crate) fn bytes(
    code: u16,
    media_type: &str,
    body: Bytes,
    warnings: &[String],
    gzip: bool,
) -> Result<Response<ApiBody>, ApiError> {
    let mut builder = Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, media_type);
    let body = if gzip && body.len() >= GZIP_BYTES_MIN {
        builder = builder
            .header(header::CONTENT_ENCODING, "gzip")
            .header(header::VARY, "Accept-Encoding");
        compressed(&[body])?
    } else {
        body
    };
    let mut response = builder.body(ApiBody::full(body)).map_err(ApiError::internal)?;
    add_warnings(&mut response, warnings);
    Ok(response)
}

fn listed(media_type: &str, listing: Listing, gzip: bool) -> Result<Response<ApiBody>, ApiError> {
    let builder = Response::builder().status(200).header(header::CONTENT_TYPE, media_type);
    if gzip && listing.length().is_none_or(|length| length >= GZIP_BYTES_MIN as u64) {
        let builder = builder
            .header(header::CONTENT_ENCODING, "gzip")
            .header(header::VARY, "Accept-Encoding");
        let body = ApiBody::made(listing.gzipped(), None);
        return builder.body(body).map_err(ApiError::internal);
    }
    let length = listing.length();
    builder.body(ApiBody::made(listing, length)).map_err(ApiError::internal)
}

fn parts(media_type: &str, parts: Vec<Bytes>, gzip: bool) -> Result<Response<ApiBody>, ApiError> {
    let builder = Response::builder().status(200).header(header::CONTENT_TYPE, media_type);
    let total: usize = parts.iter().map(Bytes::len).sum();
    if gzip && total >= GZIP_BYTES_MIN {
        let builder = builder
            .header(header::CONTENT_ENCODING, "gzip")
            .header(header::VARY, "Accept-Encoding");
        return builder
            .body(ApiBody::full(compressed(&parts)?))
            .map_err(ApiError::internal);
    }
    builder.body(ApiBody::parts(parts)).map_err(ApiError::internal)
}

pub(crate) fn compressed(parts: &[Bytes]) -> Result<Bytes, ApiError> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for part in parts {
        encoder.write_all(part).map_err(ApiError::internal)?;
    }
    encoder.finish().map(Bytes::from).map_err(ApiError::internal)
}

/// A tree as the answer, in the view's encoding.
pub(crate) fn value(
    code: u16,
    view: &View<'_>,
    value: &Value,
    warnings: &[String],
) -> Result<Response<ApiBody>, ApiError> {
    bytes(code, view.media_type(), view.encode(value)?, warnings, false)
}

/// A tree as the answer to a request that has no kind's view (documents, reviews).
pub(crate) fn plain(code: u16, accept: &str, value: &Value) -> Result<Response<ApiBody>, ApiError> {
    plain_warned(code, accept, value, &[])
}

pub(crate) fn plain_warned(
    code: u16,
    accept: &str,
    value: &Value,
    warnings: &[String],
) -> Result<Response<ApiBody>, ApiError> {
    let encoding = negotiate(accept, &[]).unwrap_or_default().encoding;
    match codec::encode(encoding, value) {
        Ok(body) => bytes(code, encoding.media_type(), body, warnings, false),
        Err(_) => bytes(
            code,
            Encoding::Json.media_type(),
            codec::encode(Encoding::Json, value)?,
            warnings,
            false,
        ),
    }
}

/// Adds a warning to an answer that is made already.
pub(crate) fn warn(response: &mut Response<ApiBody>, warning: &str) {
    add_warnings(response, &[warning.to_string()]);
}

/// The answer to a path that nobody serves: no `Status`, as upstream.
pub(crate) fn page_not_found() -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::full("404 page not found\n"));
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What the authorizer refused.
pub(crate) fn refused(error: &ApiError, accept: &str) -> Response<ApiBody> {
    let mut response = self::error(error, accept);
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn add_warnings(response: &mut Response<ApiBody>, warnings: &[String]) {
    let total: usize = warnings.iter().map(|text| text.chars().count()).sum();
    let each_max = if total > WARNINGS_CHARS_MAX {
        WARNING_CHARS_MAX
    } else {
        total
    };
    let mut left = WARNINGS_CHARS_MAX;
    for warning in warnings {
        let text: String = warning.chars().filter(|c| !c.is_control()).take(each_max).collect();
        let length = text.chars().count();
        if length > left {
            return;
        }
        left -= length;
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// The `Status` object of an error.
pub(crate) fn status(error: &ApiError) -> Value {
    let mut status = error.to_value();
    let mut details = status.get_mut("details").and_then(Value::as_object_mut);
    let warned = details.as_mut().and_then(|d| d.remove(WARNINGS_DETAIL)).is_some();
    if warned && details.as_ref().is_some_and(|d| d.is_empty()) {
        if let Some(status) = status.as_object_mut() {
            status.remove("details");
        }
        return status;
    }
    if let Some(token) = details.and_then(|d| d.remove(CONTINUE_DETAIL)) {
        status["metadata"]["continue"] = token;
        if let Some(status) = status.as_object_mut() {
            status.remove("details");
        }
    }
    status
}

pub(crate) fn error(error: &ApiError, accept: &str) -> Response<ApiBody> {
    let mut response = plain(error.code, accept, &status(error)).unwrap_or_else(|_| {
        let mut response = Response::new(ApiBody::full(error.message.clone()));
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let retry = error.details.as_ref().and_then(|d| d["retryAfterSeconds"].as_u64());
    if let Some(seconds) = retry {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let warnings = error.details.as_ref().and_then(|d| d.get(WARNINGS_DETAIL)?.as_array());
    let warnings: Vec<String> = warnings
        .into_iter()
        .flatten()
        .filter_map(|text| text.as_str().map(str::to_string))
        .collect();
    add_warnings(&mut response, &warnings);
    response
}

/// What was refused is warned of all the same.
pub(crate) fn with_warnings(mut error: ApiError, warnings: &[String]) -> ApiError {
    if !warnings.is_empty() {
        error.details.get_or_insert_with(|| json!({}))[WARNINGS_DETAIL] = json!(warnings);
    }
    error
}

/// What the store could not do, as clients understand it.
pub(crate) fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => ApiError::expired("The resourceVersion for the provided list is too old."),
        StoreError::FutureRevision { asked, current } => {
            let mut error = ApiError::timeout(format!("Too large resource version: {asked}, current: {current}"), 1);
            if let Some(details) = &mut error.details {
                details["causes"] =
                    json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
            }
            error
        }
        StoreError::TooLarge { bytes, max } => {
            ApiError::too_large(format!("the object is too large: {bytes} bytes, at most {max}"))
        }
        StoreError::NoLeader | StoreError::Closed | StoreError::Unavailable(_) => {
            ApiError::unavailable(error.to_string())
        }
        StoreError::Unknown => ApiError::timeout(error.to_string(), 1),
        other => ApiError::internal(other),
    }
}

/// A time as `metadata` carries it: whole seconds, UTC.
pub(crate) fn time_text(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn now_text() -> String {
    time_text(jiff::Timestamp::now())
}
