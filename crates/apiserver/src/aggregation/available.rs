//! Whether another API server can be reached, as far as the cluster's own objects tell.
//!
//! Pure. Upstream: kube-aggregator/pkg/controllers/status/remote.

use api::apiregistration::v1::APIServiceCondition;
use api::core::v1::Service;
use api::discovery::v1::EndpointSlice;
use api::{Object, Timestamp};

use super::backend;
use crate::Lookup;

/// What the condition `Available` is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    /// Of an APIService that names no Service.
    pub fn local() -> Self {
        let message = "Local APIServices are always available".to_owned();
        Self { status: "True", reason: "Local", message }
    }

    pub fn passed() -> Self {
        Self { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }

    pub fn failed_discovery(why: String) -> Self {
        Self::no("FailedDiscoveryCheck", why)
    }

    /// The condition, with the time of the last change of its status; `None` if it says all that already.
    pub fn condition(&self, own: Option<&APIServiceCondition>, now: Timestamp) -> Option<APIServiceCondition> {
        let same = own.is_some_and(|own| {
            own.status == self.status
                && own.reason.as_deref() == Some(self.reason)
                && own.message.as_deref() == Some(&self.message)
        });
        if same {
            return None;
        }
        let since = own.filter(|own| own.status == self.status).and_then(|own| own.last_transition_time.clone());
        Some(APIServiceCondition {
            type_: "Available".to_owned(),
            status: self.status.to_owned(),
            reason: Some(self.reason.to_owned()),
            message: Some(self.message.clone()),
            last_transition_time: Some(since.unwrap_or(api::meta::v1::Time(now))),
        })
    }
}

/// What there is of a Service, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    service: Option<Found>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// `ClusterIP`: port and endpoints can be looked at.
    cluster_ip: bool,
    external_name: String,
    /// Port and name.
    ports: Vec<(i32, String)>,
    slices: Vec<Slice>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slice {
    ports: Vec<(String, i32)>,
    ready: Vec<String>,
}

impl View {
    pub fn of(lookup: &Lookup, at: &backend::Service) -> Self {
        let Some(service) = lookup.get::<Service>(&at.namespace, &at.name) else { return Self::default() };
        let slices = lookup.list::<EndpointSlice>(Some(&at.namespace));
        let slices = slices.iter().filter(|slice| slice.label("kubernetes.io/service-name") == Some(&at.name));
        Self { service: Some(Found::new(&service, slices.map(|slice| Slice::new(slice)).collect())) }
    }

    /// What is wrong, if it shows without asking the other server.
    pub fn judge(&self, at: &backend::Service) -> Option<Verdict> {
        let backend::Service { namespace, name, port } = at;
        let Some(found) = &self.service else {
            let why = format!("service/{name} in {namespace:?} is not present");
            return Some(Verdict::no("ServiceNotFound", why));
        };
        if !found.cluster_ip {
            return None;
        }
        let Some((_, port_name)) = found.ports.iter().find(|(own, _)| *own == i32::from(*port)) else {
            let why = format!("service/{name} in {namespace:?} is not listening on port {port}");
            return Some(Verdict::no("ServicePortError", why));
        };
        if found.slices.is_empty() {
            let why = format!("cannot find endpointslices for service/{name} in {namespace:?}");
            return Some(Verdict::no("EndpointsNotFound", why));
        }
        let serves = |slice: &Slice| !slice.ready.is_empty() && slice.ports.iter().any(|(own, _)| own == port_name);
        if !found.slices.iter().any(serves) {
            let about = format!("endpointslices for service/{name} in {namespace:?}");
            let why = format!("{about} have no addresses with port name {port_name:?}");
            return Some(Verdict::no("MissingEndpoints", why));
        }
        None
    }
}

impl Found {
    fn new(service: &Service, slices: Vec<Slice>) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let ports = spec.ports.unwrap_or_default();
        Self {
            cluster_ip: spec.type_.as_deref().unwrap_or("ClusterIP") == "ClusterIP",
            external_name: spec.external_name.unwrap_or_default(),
            ports: ports.into_iter().map(|port| (port.port, port.name.unwrap_or_default())).collect(),
            slices,
        }
    }
}

impl Slice {
    fn new(slice: &EndpointSlice) -> Self {
        let port = |own: &api::discovery::v1::EndpointPort| Some((own.name.clone().unwrap_or_default(), own.port?));
        let ready = |one: &&api::discovery::v1::Endpoint| {
            one.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false))
        };
        Self {
            ports: slice.ports.iter().flatten().filter_map(port).collect(),
            ready: slice.endpoints.iter().flatten().filter(ready).flat_map(|one| one.addresses.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> backend::Service {
        backend::Service { namespace: "ns".into(), name: "api".into(), port: 443 }
    }

    fn slice(port: &str, ready: &[&str]) -> Slice {
        let ready = ready.iter().map(|address| (*address).to_owned()).collect();
        Slice { ports: vec![(port.to_owned(), 8443)], ready }
    }

    fn view(ports: &[(i32, &str)], slices: Vec<Slice>) -> View {
        let ports = ports.iter().map(|(port, name)| (*port, (*name).to_owned())).collect();
        View { service: Some(Found { cluster_ip: true, external_name: String::new(), ports, slices }) }
    }

    #[test]
    fn what_is_wrong_in_the_words_of_upstream() {
        let cases = [
            (View::default(), "ServiceNotFound", r#"service/api in "ns" is not present"#),
            (view(&[(80, "")], vec![]), "ServicePortError", r#"service/api in "ns" is not listening on port 443"#),
            (view(&[(443, "")], vec![]), "EndpointsNotFound", r#"cannot find endpointslices for service/api in "ns""#),
            (
                view(&[(443, "https")], vec![slice("https", &[]), slice("other", &["192.0.2.1"])]),
                "MissingEndpoints",
                r#"endpointslices for service/api in "ns" have no addresses with port name "https""#,
            ),
        ];
        for (view, reason, message) in cases {
            let verdict = view.judge(&at()).unwrap();
            assert_eq!((verdict.status, verdict.reason, verdict.message.as_str()), ("False", reason, message));
        }
        assert_eq!(view(&[(443, "https")], vec![slice("https", &["192.0.2.1"])]).judge(&at()), None);
    }

    #[test]
    fn the_time_changes_with_the_status_alone() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let first = Verdict::passed().condition(None, at("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(Verdict::passed().condition(Some(&first), at("2026-01-02T00:00:00Z")), None);
        let local = Verdict::local().condition(Some(&first), at("2026-01-02T00:00:00Z")).unwrap();
        assert_eq!(local.last_transition_time, first.last_transition_time);
        let failed = Verdict::failed_discovery("x".into()).condition(Some(&first), at("2026-01-02T00:00:00Z")).unwrap();
        assert_ne!(failed.last_transition_time, first.last_transition_time);
    }
}
