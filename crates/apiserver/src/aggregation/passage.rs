//! Requests of this process for what another API server serves: in their turn, authorized and recorded as any other,
//! then sent there in the caller's name. How a call is written as HTTP is the sender's affair.

use std::sync::Arc;
use std::time::Duration;

use api::{Call, Status, Target, Verb};
use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;

use super::backend::Backend;
use super::{Failure, identity};
use crate::{Caller, Server, flow};

/// How long the other server has until it begins to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The way to another API server.
pub struct Passage {
    server: Arc<Server>,
    backend: Arc<Backend>,
}

impl Server {
    /// The way to who serves this, if that is another server.
    pub fn passage(self: &Arc<Self>, target: &Target) -> Option<Passage> {
        let backend = self.aggregation().route(&target.group, &target.version)?;
        Some(Passage { server: self.clone(), backend })
    }
}

impl Passage {
    /// Sends `request`, which is `call` in HTTP with a path alone; what comes back, failures of the other server's
    /// included.
    ///
    /// # Errors
    /// 401 to 429 as of any request; 503 if the other server cannot be reached, 504 if it does not answer in time.
    pub async fn send(
        &self,
        caller: &Arc<Caller>,
        call: &Call,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, Status> {
        let trail = self.server.trail(caller, call);
        let result = async {
            // Free again when the answer begins: a watch holds no seat.
            let _seat = self.server.arrive(caller, call).seat(flow::WAIT_MAX).await?;
            self.server.authorize_recorded(caller, call, trail.as_deref()).await?;
            let late = || Err(Status::timeout("the other API server did not answer in time", 0));
            tokio::time::timeout(ANSWER_TIMEOUT, self.pass(caller, request)).await.unwrap_or_else(|_| late())
        }
        .await;
        if let Some(trail) = trail {
            match &result {
                Err(status) => trail.answered(status.code(), Some(status)),
                Ok(response) => trail.sent(response.status().as_u16()),
            }
            if call.verb == Verb::Watch && result.is_ok() {
                trail.begun();
            }
        }
        result
    }

    async fn pass(&self, caller: &Caller, request: Request<Bytes>) -> Result<Response<Incoming>, Status> {
        let name = &self.backend.name;
        if !self.backend.available {
            return Err(Status::unavailable(format!("the API server of APIService {name:?} is not available")));
        }
        let client = self.backend.client.as_ref().map_err(Status::internal)?;
        let mut request = request.map(|body| Either::Right(Full::new(body)));
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        *request.uri_mut() = client.uri(&path).map_err(Status::internal)?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("kube-apiserver"));
        identity::set(request.headers_mut(), caller).map_err(Status::internal)?;
        client.send(request, false).await.map_err(|failure| {
            let (Failure::Unresolved(why) | Failure::Unreachable(why)) = failure;
            Status::unavailable(format!("the API server of APIService {name:?} did not answer: {why}"))
        })
    }
}
