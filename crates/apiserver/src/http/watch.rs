//! A watch as a response: one JSON object per line, several events per chunk where they come fast.

use std::sync::Arc;

use api::{Status, Timestamp};
use base::Clock;
use bytes::Bytes;

use super::metrics::Watching;
use super::negotiate::{Form, Shape};
use super::payload::Payload;
use super::table::{self, Included};
use super::write::write_partial;
use crate::WatchStream;
use crate::cache::{Entry, Step};
use crate::catalog::Resource;

/// What the stream carries along.
struct State {
    stream: WatchStream,
    form: Form,
    include: Included,
    clock: Clock,
    counting: Watching,
    /// Table columns are sent with the first event only.
    headed: bool,
    ended: bool,
}

/// The body of a watch.
pub fn body(stream: WatchStream, form: Form, include: Included, clock: Clock, counting: Watching) -> Payload {
    let state = State { stream, form, include, clock, counting, headed: false, ended: false };
    Payload::Stream(Box::pin(futures_util::stream::unfold(state, |mut state| async move {
        let chunk = state.next().await?;
        Some((chunk, state))
    })))
}

impl State {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = Vec::new();
        match self.stream.next_step().await {
            Step::Events(events) => {
                let resource = self.stream.resource().clone();
                let now = self.clock.now();
                out.reserve(events.iter().map(|event| event.parts().1.wire_len_max() + 40).sum());
                for event in &events {
                    let (type_, entry) = event.parts();
                    head(type_, &mut out);
                    if let Err(status) = self.object(&resource, entry, now, &mut out) {
                        out.clear();
                        self.fail(&status, &mut out);
                        break;
                    }
                    out.extend_from_slice(b"}\n");
                }
                self.counting.sent(events.len() as u64);
            }
            Step::Bookmark { revision, initial_events_end } => {
                head("BOOKMARK", &mut out);
                self.bookmark(revision, initial_events_end, &mut out);
                out.extend_from_slice(b"}\n");
                self.counting.sent(1);
            }
            Step::End(Some(status)) => self.fail(&status, &mut out),
            Step::End(None) => return None,
        }
        Some(out.into())
    }

    fn fail(&mut self, status: &Status, out: &mut Vec<u8>) {
        self.ended = true;
        head("ERROR", out);
        out.extend_from_slice(&status.encode());
        out.extend_from_slice(b"}\n");
    }

    fn object(
        &mut self,
        resource: &Arc<Resource>,
        entry: &Entry,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        match self.form.shape {
            Shape::Whole => resource.write(entry, out),
            Shape::Partial => write_partial(entry, true, out),
            Shape::Table => {
                let columns = !std::mem::replace(&mut self.headed, true);
                table::head(resource, &entry.revision.to_string(), "", None, columns, out);
                table::row(resource, entry, self.include, now, out)?;
                table::tail(out);
            }
        }
        Ok(())
    }

    fn bookmark(&mut self, revision: u64, initial_events_end: bool, out: &mut Vec<u8>) {
        let resource = self.stream.resource();
        let revision = revision.to_string();
        let mut metadata = serde_json::json!({"resourceVersion": revision, "creationTimestamp": null});
        if initial_events_end {
            metadata["annotations"] = serde_json::json!({"k8s.io/initial-events-end": "true"});
        }
        let kind = resource.kind();
        let (api_version, kind) = match self.form.shape {
            Shape::Whole => (kind.api_version, kind.kind),
            Shape::Partial => ("meta.k8s.io/v1", "PartialObjectMetadata"),
            Shape::Table => {
                let columns = !std::mem::replace(&mut self.headed, true);
                table::head(resource, &revision, "", None, columns, out);
                if initial_events_end {
                    let object = serde_json::json!({
                        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                    });
                    let row = serde_json::json!({"cells": [], "object": object});
                    out.extend_from_slice(row.to_string().as_bytes());
                }
                table::tail(out);
                return;
            }
        };
        let object = serde_json::json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        out.extend_from_slice(object.to_string().as_bytes());
    }
}

fn head(type_: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(type_.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
}
