//! The health protocol of gRPC.

use super::Outcome;
use super::dial;
use std::time::Duration;

/// As long as a client of upstream waits before it tries to connect again.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub async fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = dial::address(host, port);
    let deadline = tokio::time::Instant::now() + timeout;
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{address}"));
    let endpoint = match endpoint.and_then(|e| e.user_agent(super::USER_AGENT)) {
        Ok(endpoint) => endpoint,
        Err(error) => return Outcome::Failure(format!("error: failed to connect service at {address:?}: {error}")),
    };
    let connected = async {
        loop {
            if let Ok(channel) = endpoint.connect().await {
                return channel;
            }
            tokio::time::sleep(RECONNECT).await;
        }
    };
    let Ok(channel) = tokio::time::timeout_at(deadline, connected).await else {
        return Outcome::Failure(format!(
            "timeout: failed to connect service {address:?} within {timeout:?}: context deadline exceeded"
        ));
    };
    let mut client = tonic::client::Grpc::new(channel);
    let call = async {
        client
            .ready()
            .await
            .map_err(|e| tonic::Status::unavailable(e.to_string()))?;
        let codec = tonic_prost::ProstCodec::<HealthRequest, HealthResponse>::default();
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let request = tonic::Request::new(HealthRequest {
            service: service.to_owned(),
        });
        client.unary(request, path, codec).await
    };
    match tokio::time::timeout_at(deadline, call).await {
        Ok(Ok(answer)) => judge(answer.into_inner().status),
        Ok(Err(status)) => Outcome::Failure(match status.code() {
            tonic::Code::Unimplemented => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                status.message()
            ),
            tonic::Code::DeadlineExceeded => format!("timeout: health rpc did not complete within {timeout:?}"),
            code => format!(
                "error: health rpc probe failed: rpc error: code = {code:?} desc = {}",
                status.message()
            ),
        }),
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {timeout:?}")),
    }
}

fn judge(status: i32) -> Outcome {
    let name = match status {
        1 => return Outcome::Success,
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    };
    Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
}
