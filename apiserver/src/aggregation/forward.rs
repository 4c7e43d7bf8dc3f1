//! Requests that another server answers: passed on under the client's name, and
//! the answer (a watch's stream, an upgraded connection) passed back unread.

use super::remote::{Remote, name_user};
use crate::body::ApiBody;
use crate::handler::ServerCall;
use crate::proxy::{join, passed_on, stream_of};
use crate::server::ApiServer;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use skiff_access::UserInfo;
use skiff_access::authentication::request_header::is_remote_header;
use skiff_api::ApiError;

impl ApiServer {
    /// Answers an authorised request on a remote group version. What goes wrong on
    /// the way is plain text, as upstream.
    pub(crate) async fn forward_remote(&self, mut call: ServerCall, remote: &Remote) -> Response<ApiBody> {
        if !remote.state.load().available {
            return text_error(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
        }
        let upgrade = call
            .upgrade
            .take()
            .filter(|_| call.headers.contains_key(header::UPGRADE));
        let mut headers = without_users(passed_on(&call.headers));
        if let Err(error) = name_user(&mut headers, &call.user) {
            return text_error(StatusCode::INTERNAL_SERVER_ERROR, &error);
        }
        if upgrade.is_some() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        } else {
            headers.remove(header::UPGRADE);
        }
        let path = if call.query.is_empty() {
            call.info.path.clone()
        } else {
            format!("{}?{}", call.info.path, call.query)
        };
        let sent = remote
            .send(call.method, &path, headers, ApiBody::full(call.body), upgrade.is_some())
            .await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                let text = format!("error trying to reach service: {error}");
                return text_error(StatusCode::SERVICE_UNAVAILABLE, &text);
            }
        };
        let mut answer_headers = passed_on(response.headers());
        let status = response.status();
        let body = match upgrade {
            Some(client) if status == StatusCode::SWITCHING_PROTOCOLS => {
                answer_headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                join(client, hyper::upgrade::on(&mut response));
                ApiBody::empty()
            }
            _ => stream_of(response.into_body()),
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = answer_headers;
        answer
    }
}

impl ApiServer {
    /// The OpenAPI v3 document of a remote group version, as its server has it.
    pub(crate) async fn forward_openapi(
        &self,
        call: &ServerCall,
        remote: &Remote,
    ) -> Result<Response<ApiBody>, ApiError> {
        let mut headers = HeaderMap::new();
        for name in [header::ACCEPT, header::ACCEPT_ENCODING, header::IF_NONE_MATCH] {
            if let Some(value) = call.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let user = UserInfo {
            name: "system:aggregator".into(),
            ..UserInfo::default()
        };
        name_user(&mut headers, &user).map_err(ApiError::internal)?;
        let path = if call.query.is_empty() {
            call.info.path.clone()
        } else {
            format!("{}?{}", call.info.path, call.query)
        };
        let response = remote
            .send(call.method.clone(), &path, headers, ApiBody::empty(), false)
            .await
            .map_err(|error| ApiError::unavailable(format!("error trying to reach service: {error}")))?;
        let (parts, body) = response.into_parts();
        let mut answer = Response::new(stream_of(body));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = passed_on(&parts.headers);
        Ok(answer)
    }
}

/// Nobody but this server names users to an extension server.
fn without_users(headers: HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| !is_remote_header(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn text_error(status: StatusCode, text: &str) -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::full(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
