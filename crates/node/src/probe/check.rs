//! One probe: ask the container once, and read the answer as upstream does (`pkg/probe`).

use std::time::Duration;

use api::IntOrString;
use api::core::v1::{Container, HTTPGetAction, Probe};
use tokio::net::TcpStream;

use super::grpc;
use crate::agent::Agent;
use crate::http;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// It counts as a success, but someone should know.
    Warning(String),
    Failure(String),
    /// The question could not be asked.
    Error(String),
}

/// Who is asked.
pub struct Subject<'a> {
    pub agent: &'a Agent,
    pub container: &'a Container,
    pub container_id: &'a str,
    pub ips: &'a [String],
}

/// Upstream's user agent of probes.
const USER_AGENT: &str = "kube-probe/1.37";

/// Asks once, for at most `timeout`.
pub async fn check(subject: &Subject<'_>, probe: &Probe, timeout: Duration) -> Outcome {
    if let Some(exec) = &probe.exec {
        return run_command(subject, exec.command.clone().unwrap_or_default(), timeout).await;
    }
    if let Some(get) = &probe.http_get {
        let request = match http_request(subject, get, USER_AGENT) {
            Ok(request) => request,
            Err(error) => return Outcome::Error(error),
        };
        return match tokio::time::timeout(timeout, http::get(&request)).await {
            Ok(Ok(response)) => read_http(&response),
            Ok(Err(error)) => Outcome::Failure(error),
            Err(_) => Outcome::Failure(format!(
                "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                request.url()
            )),
        };
    }
    if let Some(socket) = &probe.tcp_socket {
        let host = host(subject, socket.host.as_deref());
        let Some(port) = port(&socket.port, subject.container) else {
            return Outcome::Error(format!("couldn't find port: {:?}", socket.port));
        };
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        return match tokio::time::timeout(timeout, TcpStream::connect(&address)).await {
            Ok(Ok(_)) => Outcome::Success,
            Ok(Err(error)) => Outcome::Failure(http::dial_error(&address, &error)),
            Err(_) => Outcome::Failure(format!("dial tcp {address}: i/o timeout")),
        };
    }
    if let Some(action) = &probe.grpc {
        let host = host(subject, None);
        let Ok(port) = u16::try_from(action.port) else { return Outcome::Error("the port is out of range".into()) };
        return grpc::check(&host, port, action.service.as_deref().unwrap_or_default(), timeout).await;
    }
    Outcome::Error(format!("missing probe handler for {}", subject.container.name))
}

async fn run_command(subject: &Subject<'_>, command: Vec<String>, timeout: Duration) -> Outcome {
    let line = command.join(" ");
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    match subject.agent.runtime.exec_sync(subject.container_id, command, seconds).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => {
            let mut text = String::from_utf8_lossy(&answer.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&answer.stderr));
            Outcome::Failure(text)
        }
        Err(cri::Error::Deadline) => {
            Outcome::Failure(format!("command timed out: {line:?} timed out after {seconds}s"))
        }
        Err(error) => Outcome::Error(crate::agent::rpc_text(&error)),
    }
}

fn read_http(response: &http::Response) -> Outcome {
    match (response.status, &response.foreign_redirect) {
        (_, Some(location)) => {
            Outcome::Warning(format!("Probe terminated redirects, Response body: {} ({location})", response.body))
        }
        (200..400, None) => Outcome::Success,
        (status, None) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

fn host(subject: &Subject<'_>, named: Option<&str>) -> String {
    named
        .filter(|h| !h.is_empty())
        .map(str::to_owned)
        .or_else(|| subject.ips.first().cloned())
        .unwrap_or_else(|| "127.0.0.1".into())
}

/// A port by number, or by the name one of the container's ports has.
fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())?
        }
    };
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// The request an `httpGet` action asks for.
pub fn http_request(
    subject: &Subject<'_>,
    action: &HTTPGetAction,
    user_agent: &'static str,
) -> Result<http::Request, String> {
    let Some(port) = port(&action.port, subject.container) else {
        return Err(format!("couldn't find port: {:?}", action.port));
    };
    let path = action.path.clone().unwrap_or_default();
    Ok(http::Request {
        tls: action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: host(subject, action.host.as_deref()),
        port,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        headers: action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        user_agent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::v1::ContainerPort;

    #[test]
    fn ports_by_number_and_name() {
        let container = Container {
            ports: Some(vec![ContainerPort { name: Some("web".into()), container_port: 8080, ..Default::default() }]),
            ..Default::default()
        };
        assert_eq!(port(&IntOrString::Int(80), &container), Some(80));
        assert_eq!(port(&IntOrString::String("web".into()), &container), Some(8080));
        assert_eq!(port(&IntOrString::String("81".into()), &container), Some(81));
        assert_eq!(port(&IntOrString::String("none".into()), &container), None);
    }

    #[test]
    fn which_statuses_are_well() {
        let of = |status| read_http(&http::Response { status, body: String::new(), foreign_redirect: None });
        assert_eq!(of(204), Outcome::Success);
        assert_eq!(of(399), Outcome::Success);
        assert_eq!(of(500), Outcome::Failure("HTTP probe failed with statuscode: 500".into()));
    }
}
