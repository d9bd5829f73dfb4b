//! Ingress: Which requests from outside go to which services.

use std::collections::BTreeSet;

use api::core::v1::TypedLocalObjectReference;
use api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressSpec, IngressStatus, IngressTLS,
};
use serde_json::json;

use crate::checks;
use crate::column::some_of;
use crate::prelude::*;

/// What named the class before there was a field for it.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_SUFFIXES: [&str; 2] = ["/..", "/."];
const HOSTS_SHOWN_MAX: usize = 3;

pub struct Strategy;

impl crate::Strategy for Strategy {
    type Object = Ingress;

    const NAMES: Names = Names::new("ingresses", "ingress").short(&["ing"]);
    const SCOPE: Scope = Scope::Namespaced;
    const STORAGE: Storage = Storage::Stored { segment: "ingress" };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [Column<Ingress>] = &[
        Column::name(),
        Column::new("Class", "string", |ingress: &Ingress, _| {
            Value::from(spec(ingress).and_then(|spec| spec.ingress_class_name.as_deref()).unwrap_or("<none>"))
        })
        .describe("The class whose controller serves it."),
        Column::new("Hosts", "string", |ingress: &Ingress, _| Value::from(hosts(ingress)))
            .describe("The hosts it is for."),
        Column::new("Address", "string", |ingress: &Ingress, _| Value::from(addresses(ingress)))
            .describe("Where it is reached."),
        Column::new("Ports", "string", |ingress: &Ingress, _| {
            let tls = spec(ingress).and_then(|spec| spec.tls.as_ref()).is_some_and(|tls| !tls.is_empty());
            Value::from(if tls { "80, 443" } else { "80" })
        })
        .describe("The ports it is reached at."),
        Column::age(),
    ];

    fn prepare_create(ingress: &mut Ingress) {
        ingress.status = Some(IngressStatus { load_balancer: Some(Default::default()) });
        ingress.metadata.generation = Some(1);
    }

    fn prepare_update(new: &mut Ingress, old: &Ingress) {
        new.status.clone_from(&old.status);
        checks::count_generation(&mut new.metadata, &old.metadata, !checks::same(&new.spec, &old.spec));
    }

    fn prepare_status_update(new: &mut Ingress, old: &Ingress) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(ingress: &Ingress) -> FieldErrors {
        let mut errors = validate_ingress(ingress);
        let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
        let class = spec(ingress).and_then(|spec| spec.ingress_class_name.as_ref());
        if let (Some(annotation), Some(class)) = (annotation, class)
            && annotation != class
        {
            let path = Path::new("annotations").child(CLASS_ANNOTATION);
            let why = "must match `ingressClassName` when both are specified";
            errors.invalid(&path, annotation.as_str(), why);
        }
        errors
    }

    fn validate_update(new: &Ingress, _old: &Ingress) -> FieldErrors {
        validate_ingress(new)
    }

    fn validate_status_update(new: &Ingress, _old: &Ingress) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let balancer = new.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let path = Path::new("status").child("loadBalancer").child("ingress");
        for (index, ingress) in balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten()).enumerate() {
            let path = path.index(index);
            if let Some(ip) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) {
                checks::ip(&mut errors, &path.child("ip"), ip);
            }
            if let Some(name) = ingress.hostname.as_deref().filter(|name| !name.is_empty()) {
                checks::dns_subdomain(&mut errors, &path.child("hostname"), name);
                no_address(&mut errors, &path.child("hostname"), name);
            }
        }
        errors
    }

    fn warnings(ingress: &Ingress) -> Vec<String> {
        let annotated =
            ingress.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(CLASS_ANNOTATION));
        let named = spec(ingress).is_some_and(|spec| spec.ingress_class_name.is_some());
        let text =
            || format!("annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead");
        (annotated && !named).then(text).into_iter().collect()
    }
}

fn spec(ingress: &Ingress) -> Option<&IngressSpec> {
    ingress.spec.as_ref()
}

fn hosts(ingress: &Ingress) -> String {
    let rules = spec(ingress).into_iter().flat_map(|spec| spec.rules.iter().flatten());
    let hosts = rules.filter_map(|rule| rule.host.clone()).filter(|host| !host.is_empty());
    let hosts: Vec<String> = hosts.collect();
    if hosts.is_empty() { "*".to_owned() } else { some_of(&hosts, HOSTS_SHOWN_MAX) }
}

fn addresses(ingress: &Ingress) -> String {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let all: BTreeSet<String> = ingress.filter_map(|one| set(&one.ip).or_else(|| set(&one.hostname))).collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

fn no_address(errors: &mut FieldErrors, path: &Path, name: &str) {
    if checks::parse_ip(name).is_some() {
        errors.invalid(path, name, "must be a DNS name, not an IP address");
    }
}

fn validate_ingress(ingress: &Ingress) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = IngressSpec::default();
    let spec = spec(ingress).unwrap_or(&empty);
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        let rules = spec.rules.as_ref().map_or(Value::Null, |_| json!([]));
        errors.invalid(&path, rules, "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = &spec.default_backend {
        validate_backend(&mut errors, &path.child("defaultBackend"), backend);
    }
    for (index, rule) in rules.iter().enumerate() {
        validate_rule(&mut errors, &path.child("rules").index(index), rule);
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        validate_tls(&mut errors, &path.child("tls").index(index), tls);
    }
    if let Some(class) = &spec.ingress_class_name {
        checks::dns_subdomain(&mut errors, &path.child("ingressClassName"), class);
    }
    errors
}

fn validate_host(errors: &mut FieldErrors, path: &Path, host: &str) {
    let problems = if host.contains('*') {
        api::name::wildcard_dns1123_subdomain(host)
    } else {
        api::name::dns1123_subdomain(host, false)
    };
    checks::problems(errors, path, host, problems);
}

fn validate_tls(errors: &mut FieldErrors, path: &Path, tls: &IngressTLS) {
    for (index, host) in tls.hosts.iter().flatten().enumerate() {
        validate_host(errors, &path.child("hosts").index(index), host);
    }
    if let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) {
        checks::dns_subdomain(errors, &path.child("secretName"), name);
    }
}

fn validate_rule(errors: &mut FieldErrors, path: &Path, rule: &IngressRule) {
    if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
        no_address(errors, &path.child("host"), host);
        validate_host(errors, &path.child("host"), host);
    }
    let Some(http) = &rule.http else { return };
    let path = path.child("http").child("paths");
    if http.paths.is_empty() {
        errors.required(&path, "");
    }
    for (index, one) in http.paths.iter().enumerate() {
        validate_path(errors, &path.index(index), one);
    }
}

fn validate_path(errors: &mut FieldErrors, path: &Path, one: &HTTPIngressPath) {
    let (text, path_path) = (one.path.as_deref().unwrap_or_default(), path.child("path"));
    match one.path_type.as_str() {
        "" => return errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.invalid(&path_path, text, "must be an absolute path");
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| text.contains(**bad)) {
                errors.invalid(&path_path, text, format!("must not contain '{bad}'"));
            }
            for bad in BAD_SUFFIXES.iter().filter(|bad| text.ends_with(**bad)) {
                errors.invalid(&path_path, text, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&path_path, text, "must be an absolute path");
            }
        }
        other => errors.not_supported(&path.child("pathType"), other, &PATH_TYPES),
    }
    validate_backend(errors, &path.child("backend"), &one.backend);
}

fn validate_backend(errors: &mut FieldErrors, path: &Path, backend: &IngressBackend) {
    let service = match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => return errors.invalid(path, "", "cannot set both resource and service backends"),
        (Some(resource), None) => return validate_reference(errors, &path.child("resource"), resource),
        (None, None) => return errors.invalid(path, "", "resource or service backend is required"),
        (None, Some(service)) => service,
    };
    let service_path = path.child("service");
    match service.name.as_str() {
        "" => errors.required(&service_path.child("name"), ""),
        name => checks::problems(errors, &service_path.child("name"), name, api::name::dns1035_label(name, false)),
    }
    let port = service.port.clone().unwrap_or_default();
    let port_path = service_path.child("port");
    match (port.name.as_deref().unwrap_or_default(), port.number.unwrap_or_default()) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => checks::port(errors, &port_path.child("number"), number),
        (name, 0) => checks::problems(errors, &port_path.child("name"), name, api::name::port_name(name)),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

fn validate_reference(errors: &mut FieldErrors, path: &Path, reference: &TypedLocalObjectReference) {
    if let Some(group) = &reference.api_group {
        checks::dns_subdomain(errors, &path.child("apiGroup"), group);
    }
    for (field, value) in [("kind", &reference.kind), ("name", &reference.name)] {
        checks::required_segment(errors, &path.child(field), value);
    }
}
