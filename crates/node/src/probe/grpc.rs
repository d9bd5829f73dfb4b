//! The gRPC health check (`grpc.health.v1.Health/Check`).

use std::time::Duration;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

use super::Outcome;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

fn status_name(status: i32) -> &'static str {
    match status {
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

/// Asks the health service once.
pub async fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let seconds = timeout.as_secs();
    match tokio::time::timeout(timeout, ask(&address, service)).await {
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with {:?})", status_name(status))),
        Ok(Err(Failure::Dial)) => {
            Outcome::Failure(format!("error: failed to connect service {address:?}: connection refused"))
        }
        Ok(Err(Failure::Status(status))) if status.code() == tonic::Code::Unimplemented => Outcome::Failure(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into(),
        ),
        Ok(Err(Failure::Status(status))) => Outcome::Failure(format!("error: health rpc probe failed: {status}")),
        Err(_) => Outcome::Failure(format!("timeout: failed to connect service {address:?} within {seconds}s")),
    }
}

enum Failure {
    Dial,
    Status(Box<tonic::Status>),
}

async fn ask(address: &str, service: &str) -> Result<i32, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| Failure::Dial)?;
    let channel = endpoint.connect().await.map_err(|_| Failure::Dial)?;
    let mut client = tonic::client::Grpc::new(channel);
    let status = |status| Failure::Status(Box::new(status));
    client.ready().await.map_err(|_| Failure::Dial)?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    let answer = client.unary(request, path, codec).await.map_err(status)?;
    Ok(answer.into_inner().status)
}
