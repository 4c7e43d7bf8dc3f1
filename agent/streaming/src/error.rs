//! Failures of the endpoint and their HTTP status.

#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    BadRequest(String),
    #[error("Unauthorized\n")]
    Unauthorized,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Method(String),
    #[error("{0}")]
    Failed(String),
    #[error("{action} failed")]
    Io {
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the container runtime refused: {0}")]
    Runtime(String),
    #[error("the container runtime's stream broke: {0}")]
    Stream(String),
}

impl EndpointError {
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::NotFound(_) => http::StatusCode::NOT_FOUND,
            Self::BadRequest(_) => http::StatusCode::BAD_REQUEST,
            Self::Unauthorized => http::StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => http::StatusCode::FORBIDDEN,
            Self::Method(_) => http::StatusCode::METHOD_NOT_ALLOWED,
            Self::Failed(_) | Self::Io { .. } | Self::Runtime(_) | Self::Stream(_) => {
                http::StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The error with its causes, for the answer's body.
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        text
    }
}
