//! What another API server says of itself: its resources.
//!
//! Upstream: kube-aggregator/pkg/apiserver/handler_discovery.go.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::backend::Backend;
use super::client::{self, Client, Question};
use super::priority::Priority;
use crate::discovery::elsewhere::{self, Elsewhere, Resources};

const WITHIN: Duration = Duration::from_secs(5);
const DISCOVERY_BYTES_MAX: usize = 4 << 20;
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// What is known of one version. Without resources: nothing was heard, or not lately.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Described {
    pub resources: Option<Arc<Resources>>,
    /// Of the document that the resources are from.
    etag: String,
}

impl Described {
    pub fn elsewhere(&self, backend: &Backend, priority: Priority) -> Elsewhere {
        Elsewhere {
            group: backend.group.clone(),
            version: backend.version.clone(),
            priority,
            resources: self.resources.clone(),
        }
    }

    /// Nothing was heard: what was known does not count any more.
    pub fn forget(&self) -> Self {
        Self::default()
    }

    /// Asks again.
    pub async fn again(&self, backend: &Backend) -> Self {
        match &backend.client {
            Ok(client) => match self.resources(backend, client).await {
                Ok(described) => described,
                Err(why) => {
                    tracing::debug!(apiservice = backend.name, why, "no discovery from another API server");
                    self.forget()
                }
            },
            Err(_) => self.forget(),
        }
    }

    async fn resources(&self, backend: &Backend, client: &Client) -> Result<Self, String> {
        let caller = client::own("system:kube-aggregator");
        let etag = if self.resources.is_some() { &*self.etag } else { "" };
        let ask = |path, accept, etag| Question { path, accept, etag, caller: &caller, bytes_max: DISCOVERY_BYTES_MAX };
        let all = client.fetch(ask("/apis", ACCEPT, etag), WITHIN).await?;
        match all.code {
            StatusCode::NOT_MODIFIED if !etag.is_empty() => return Ok(self.clone()),
            StatusCode::SERVICE_UNAVAILABLE => return Err("it returned non-success response code: 503".to_owned()),
            StatusCode::OK if all.content_type.contains("as=APIGroupDiscoveryList") => {
                let resources = elsewhere::of_aggregated(&all.body, &backend.group, &backend.version)?;
                return Ok(Self { resources: Some(Arc::new(resources)), etag: all.etag });
            }
            _ => {}
        }
        // It knows the old form alone.
        let path = backend.path();
        let list = client.fetch(ask(&path, "application/json", ""), WITHIN).await?;
        if list.code != StatusCode::OK {
            return Err(format!("{path} returned {}", list.code.as_u16()));
        }
        let resources = elsewhere::of_list(&list.body, &backend.group, &backend.version)?;
        Ok(Self { resources: Some(Arc::new(resources)), etag: String::new() })
    }
}
