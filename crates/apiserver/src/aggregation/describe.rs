//! What another API server says of itself: its resources, and their OpenAPI.
//!
//! Upstream: kube-aggregator/pkg/apiserver/handler_discovery.go, kube-aggregator/pkg/controllers/{openapi,openapiv3}.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::backend::Backend;
use super::client::{self, Client, Question};
use super::priority::Priority;
use crate::discovery::elsewhere::{self, Elsewhere, Resources};
use crate::openapi::foreign::{self, Foreign};

const WITHIN: Duration = Duration::from_secs(5);
const DISCOVERY_BYTES_MAX: usize = 4 << 20;
const OPENAPI_WITHIN: Duration = Duration::from_secs(30);
const OPENAPI_BYTES_MAX: usize = 8 << 20;
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                      application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// What is known of one version. Without resources: nothing was heard, or not lately.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Described {
    pub resources: Option<Arc<Resources>>,
    /// Of the document that the resources are from.
    etag: String,
    /// What was heard last counts until something else is heard.
    pub openapi: Foreign,
    openapi_etag: String,
}

impl Described {
    pub fn elsewhere(&self, backend: &Backend, priority: Priority) -> Elsewhere {
        Elsewhere {
            group: backend.group.clone(),
            version: backend.version.clone(),
            priority,
            resources: self.resources.clone(),
            openapi: self.openapi.clone(),
        }
    }

    /// Nothing was heard: which resources were known does not count any more.
    pub fn forget(&self) -> Self {
        Self { resources: None, etag: String::new(), ..self.clone() }
    }

    /// Asks for resources again.
    pub async fn again(&self, backend: &Backend) -> Self {
        let Ok(client) = &backend.client else { return self.forget() };
        self.resources(backend, client).await.unwrap_or_else(|why| {
            tracing::debug!(apiservice = backend.name, why, "no discovery from another API server");
            self.forget()
        })
    }

    /// Asks for OpenAPI again.
    pub async fn openapi_again(&self, backend: &Backend) -> Self {
        let mut next = self.clone();
        if let Ok(client) = &backend.client
            && let Err(why) = next.hear_openapi(backend, client).await
        {
            tracing::debug!(apiservice = backend.name, why, "no OpenAPI from another API server");
        }
        next
    }

    async fn hear_openapi(&mut self, backend: &Backend, client: &Client) -> Result<(), String> {
        let caller = client::own("system:aggregator");
        let ask = |path, etag| Question {
            path,
            accept: "application/json",
            etag,
            caller: &caller,
            bytes_max: OPENAPI_BYTES_MAX,
        };
        let (group, version) = (&*backend.group, &*backend.version);
        let index = client.fetch(ask("/openapi/v3", ""), OPENAPI_WITHIN).await?;
        self.openapi.link = match index.code {
            StatusCode::OK => foreign::link(&index.body, group, version)?,
            _ => None,
        };
        let etag = if self.openapi.v2.is_some() { &*self.openapi_etag } else { "" };
        let document = client.fetch(ask("/openapi/v2", etag), OPENAPI_WITHIN).await?;
        match document.code {
            StatusCode::NOT_MODIFIED if !etag.is_empty() => {}
            StatusCode::OK => {
                self.openapi.v2 = Some(Arc::new(foreign::share(&document.body, group, version)?));
                self.openapi_etag = document.etag;
            }
            StatusCode::NOT_FOUND => self.openapi.v2 = None,
            code => return Err(format!("/openapi/v2 returned {}", code.as_u16())),
        }
        Ok(())
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
                return Ok(Self { resources: Some(Arc::new(resources)), etag: all.etag, ..self.clone() });
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
        Ok(Self { resources: Some(Arc::new(resources)), etag: String::new(), ..self.clone() })
    }
}
