//! The client's transport within the server's own process: requests take the API server's whole pipeline,
//! authorization and admission included; only sockets and JSON are left out.

use std::sync::Arc;

use api::{Call, Reply, WatchEvent};
use apiserver::{Caller, Server};
use client::{BoxFuture, BoxStream, Client, Error, Transport};
use futures_util::StreamExt;

/// One caller's way to the server.
pub struct InProcess {
    server: Arc<Server>,
    caller: Arc<Caller>,
}

/// A client for a component of this process.
pub fn client(server: &Arc<Server>, caller: Caller) -> Client {
    Client::new(Arc::new(InProcess { server: server.clone(), caller: Arc::new(caller) }))
}

impl Transport for InProcess {
    fn call(&self, call: Call) -> BoxFuture<Result<Reply, Error>> {
        let (server, caller) = (self.server.clone(), self.caller.clone());
        let passing = call.options.passing;
        Box::pin(async move {
            let answer = server.call(&caller, call).await?;
            Ok(if passing { answer.into_passing_reply()? } else { answer.into_reply()? })
        })
    }

    fn watch(&self, call: Call) -> BoxFuture<Result<BoxStream<WatchEvent>, Error>> {
        let (server, caller) = (self.server.clone(), self.caller.clone());
        Box::pin(async move {
            let passing = call.options.passing;
            let stream = server.watch(&caller, call).await?;
            let stream = if passing { stream.passing() } else { stream };
            let events = futures_util::stream::unfold(stream, |mut stream| async move {
                let event = stream.next().await?;
                Some((event, stream))
            });
            Ok(events.boxed() as BoxStream<WatchEvent>)
        })
    }
}
