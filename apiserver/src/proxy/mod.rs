//! interim
use crate::body::ApiBody;
use crate::handler::{ServerCall, Target};
use crate::server::ApiServer;
use http::Response;
use skiff_api::ApiError;
use std::sync::Arc;

impl ApiServer {
    pub(crate) async fn proxy(
        self: &Arc<Self>,
        _call: ServerCall,
        _target: Target,
        _sub: &'static str,
    ) -> Result<Response<ApiBody>, ApiError> {
        Err(ApiError::unavailable("not there yet"))
    }
}
