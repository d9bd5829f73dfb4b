//! Validation of probes and lifecycle handlers.

use api::core::v1::{
    ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use api::field::{FieldErrors, Path};

use crate::checks;

/// What a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Liveness,
    Readiness,
    Startup,
}

/// One probe.
pub fn validate_probe(errors: &mut FieldErrors, path: &Path, probe: &Probe, role: Role) {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    validate_handler(errors, path, &handler, None);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        checks::not_negative(errors, &path.child(name), i64::from(number.unwrap_or_default()));
    }
    let grace_path = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        errors.invalid(&grace_path, seconds, "must be greater than 0");
    }
    match role {
        Role::Liveness | Role::Startup => {
            let threshold = probe.success_threshold.unwrap_or_default();
            if threshold != 1 {
                errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
            }
        }
        Role::Readiness => {
            if let Some(seconds) = probe.termination_grace_period_seconds {
                errors.invalid(&grace_path, seconds, "must not be set for readinessProbes");
            }
        }
    }
}

/// The hooks after start and before stop.
pub fn validate_lifecycle(errors: &mut FieldErrors, path: &Path, lifecycle: &Lifecycle, grace_seconds: Option<i64>) {
    for (name, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(LifecycleHandler { exec, http_get, sleep, tcp_socket }) = handler else { continue };
        let handler = Handler {
            exec: exec.as_ref(),
            http_get: http_get.as_ref(),
            tcp_socket: tcp_socket.as_ref(),
            grpc: None,
            sleep: sleep.as_ref(),
        };
        validate_handler(errors, &path.child(name), &handler, grace_seconds);
    }
}

struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

/// Exactly one action; only the first is looked at more closely.
fn validate_handler(errors: &mut FieldErrors, path: &Path, handler: &Handler<'_>, grace_seconds: Option<i64>) {
    let set = [
        ("exec", handler.exec.is_some()),
        ("httpGet", handler.http_get.is_some()),
        ("tcpSocket", handler.tcp_socket.is_some()),
        ("grpc", handler.grpc.is_some()),
        ("sleep", handler.sleep.is_some()),
    ];
    let mut names = set.iter().filter(|(_, set)| *set).map(|(name, _)| *name);
    let Some(first) = names.next() else {
        errors.required(path, "must specify a handler type");
        return;
    };
    let first_path = path.child(first);
    if let Some(exec) = handler.exec {
        if exec.command.as_ref().is_none_or(Vec::is_empty) {
            errors.required(&first_path.child("command"), "");
        }
    } else if let Some(http) = handler.http_get {
        validate_http(errors, &first_path, http);
    } else if let Some(tcp) = handler.tcp_socket {
        checks::port_or_name(errors, &first_path.child("port"), &tcp.port);
    } else if let Some(grpc) = handler.grpc {
        checks::port(errors, &first_path.child("port"), grpc.port);
    } else if let Some(sleep) = handler.sleep
        && let Some(grace) = grace_seconds
        && !(0..=grace).contains(&sleep.seconds)
    {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.invalid(&first_path, sleep.seconds, why);
    }
    for name in names {
        errors.forbidden(&path.child(name), "may not specify more than 1 handler type");
    }
}

fn validate_http(errors: &mut FieldErrors, path: &Path, http: &HTTPGetAction) {
    if http.path.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("path"), "");
    }
    checks::port_or_name(errors, &path.child("port"), &http.port);
    let scheme = http.scheme.as_deref().unwrap_or_default();
    checks::optional_one_of(errors, &path.child("scheme"), Some(scheme), &["HTTP", "HTTPS"]);
    for header in http.http_headers.iter().flatten() {
        let name = header.name.as_str();
        checks::problems(errors, &path.child("httpHeaders"), name, api::name::http_header(name));
    }
}
