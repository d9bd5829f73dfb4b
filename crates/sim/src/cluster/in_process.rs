//! The client's transport within the simulation: requests take the API server's whole pipeline, authorization and
//! admission included; only sockets and JSON are left out. What another API server serves is asked there.

use std::sync::Arc;

use api::{Call, Reply, WatchEvent};
use apiserver::{Caller, Server};
use client::{BoxFuture, BoxStream, Bytes, Client, Error, Transport, wire};
use futures_util::StreamExt;

struct InProcess {
    server: Arc<Server>,
    caller: Arc<Caller>,
}

/// A client that acts as `caller`.
pub fn client(server: &Arc<Server>, caller: Arc<Caller>) -> Client {
    Client::new(Arc::new(InProcess { server: server.clone(), caller }))
}

impl Transport for InProcess {
    fn call(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let (server, caller) = (self.server.clone(), self.caller.clone());
        let options = call.options.clone();
        Box::pin(async move {
            if let Some(passage) = server.passage(&call.target) {
                let response = passage.send(&caller, &call, wire::request(&call)?).await?;
                return wire::reply(&call, response).await;
            }
            Ok(server.call(&caller, call).await?.into_reply_for(&options)?)
        })
    }

    fn watch(&self, call: Call) -> BoxFuture<Result<BoxStream<WatchEvent>, Error>> {
        let (server, caller) = (self.server.clone(), self.caller.clone());
        Box::pin(async move {
            if let Some(passage) = server.passage(&call.target) {
                let response = passage.send(&caller, &call, wire::request(&call)?).await?;
                return wire::events(&call, response).await;
            }
            let options = call.options.clone();
            let stream = server.watch(&caller, call).await?.in_form_of(&options);
            let events = futures_util::stream::unfold(stream, |mut stream| async move {
                let event = stream.next().await?;
                Some((event, stream))
            });
            Ok(events.boxed() as BoxStream<WatchEvent>)
        })
    }

    fn document(&self, path: &'static str, accept: &'static str) -> BoxFuture<Result<Bytes, Error>> {
        let (server, caller) = (self.server.clone(), self.caller.clone());
        Box::pin(async move { Ok(server.document(&caller, path, accept).await?) })
    }
}
