//! Who serves a version elsewhere: what its APIService says, ready for use.

use std::sync::Arc;

use api::Object;
use api::apiregistration::v1::{APIService, APIServiceSpec};

use super::client::Client;
use crate::Server;

/// The Service of an APIService.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

/// How the other server is called; connections are kept as long as this stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    pub service: Service,
    /// PEM; empty: the machine's own authorities.
    pub ca_bundle: Vec<u8>,
    pub insecure: bool,
}

/// Another server, for one version.
pub struct Backend {
    /// The APIService's.
    pub name: String,
    pub uid: String,
    pub group: String,
    pub version: String,
    pub reach: Reach,
    /// Its condition `Available` is true.
    pub available: bool,
    /// Or why it cannot be called at all.
    pub client: Result<Arc<Client>, String>,
}

impl Backend {
    /// From an APIService that names a Service; `None` for others. `before` is what was made of it last.
    pub fn of(server: &Server, object: &APIService, before: Option<&Self>) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        let reach = reach(spec)?;
        let client = match before.filter(|before| before.reach == reach) {
            Some(before) => before.client.clone(),
            None => Client::new(server, &reach).map(Arc::new),
        };
        Some(Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            group: spec.group.clone().unwrap_or_default(),
            version: spec.version.clone().unwrap_or_default(),
            reach,
            available: is_available(object),
            client,
        })
    }

    /// Where its resources are.
    pub fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }
}

fn reach(spec: &APIServiceSpec) -> Option<Reach> {
    let service = spec.service.as_ref()?;
    let service = Service {
        namespace: service.namespace.clone().unwrap_or_default(),
        name: service.name.clone().unwrap_or_default(),
        port: service.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
    };
    let ca_bundle = spec.ca_bundle.as_ref().map(|bundle| bundle.0.clone()).unwrap_or_default();
    Some(Reach { service, ca_bundle, insecure: spec.insecure_skip_tls_verify == Some(true) })
}

/// Whether the condition `Available` is true.
pub fn is_available(object: &APIService) -> bool {
    let mut conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Available" && condition.status == "True")
}
