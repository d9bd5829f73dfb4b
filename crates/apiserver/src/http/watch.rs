//! A watch as a response: one JSON object per line, or one protobuf message per frame; several events per chunk where
//! they come fast.

use std::sync::Arc;

use api::protobuf::watch_event;
use api::{Status, Timestamp};
use base::Clock;
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;

use super::metrics::Long;
use super::negotiate::{Form, Shape, Syntax};
use super::payload::Payload;
use super::protobuf::Writer;
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
    events: Counter,
    _under_way: Long,
    /// Table columns are sent with the first event only.
    headed: bool,
    ended: bool,
    protobuf: Writer,
}

/// The body of a watch.
pub fn body(
    stream: WatchStream,
    form: Form,
    include: Included,
    clock: Clock,
    (events, under_way): (Counter, Long),
) -> Payload {
    let state = State {
        stream,
        form,
        include,
        clock,
        events,
        _under_way: under_way,
        headed: false,
        ended: false,
        protobuf: Writer::default(),
    };
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
                    let before = out.len();
                    let written = match self.form.syntax {
                        Syntax::Protobuf => self.framed(type_, &mut out, |own, out| {
                            own.protobuf.entry(&resource, entry, own.form.shape, out)
                        }),
                        _ => self.line(&resource, type_, entry, now, &mut out),
                    };
                    if let Err(status) = written {
                        out.truncate(before);
                        self.fail(&status, &mut out);
                        break;
                    }
                }
                self.events.inc_by(events.len() as u64);
            }
            Step::Bookmark { revision, initial_events_end } => {
                if let Err(status) = self.bookmark(revision, initial_events_end, &mut out) {
                    out.clear();
                    self.fail(&status, &mut out);
                }
                self.events.inc();
            }
            Step::End(Some(status)) => self.fail(&status, &mut out),
            Step::End(None) => return None,
        }
        Some(out.into())
    }

    fn fail(&mut self, status: &Status, out: &mut Vec<u8>) {
        self.ended = true;
        if self.form.syntax == Syntax::Protobuf {
            let write = |own: &mut Self, out: &mut Vec<u8>| {
                own.protobuf.status(status, out);
                Ok(())
            };
            if let Err(error) = self.framed("ERROR", out, write) {
                tracing::error!(%error, "a watch ends without its error");
            }
            return;
        }
        head("ERROR", out);
        out.extend_from_slice(&status.encode());
        out.extend_from_slice(b"}\n");
    }

    /// Appends an event in its frame; `document` appends its object.
    fn framed(
        &mut self,
        type_: &str,
        out: &mut Vec<u8>,
        document: impl FnOnce(&mut Self, &mut Vec<u8>) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut object = Vec::new();
        document(self, &mut object)?;
        watch_event(type_, &object, out).map_err(Status::internal)
    }

    fn line(
        &mut self,
        resource: &Arc<Resource>,
        type_: &str,
        entry: &Entry,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        head(type_, out);
        self.object(resource, entry, now, out)?;
        out.extend_from_slice(b"}\n");
        Ok(())
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

    fn bookmark(&mut self, revision: u64, initial_events_end: bool, out: &mut Vec<u8>) -> Result<(), Status> {
        let revision = revision.to_string();
        let mut metadata = serde_json::json!({"resourceVersion": revision, "creationTimestamp": null});
        if initial_events_end {
            metadata["annotations"] = serde_json::json!({"k8s.io/initial-events-end": "true"});
        }
        let kind = self.stream.resource().kind();
        if self.form.syntax == Syntax::Protobuf {
            let metadata = metadata.to_string();
            return self.framed("BOOKMARK", out, |own, out| own.protobuf.bare(kind, own.form.shape, &metadata, out));
        }
        head("BOOKMARK", out);
        match self.form.shape {
            Shape::Whole => bare(kind.api_version, kind.kind, metadata, out),
            Shape::Partial => bare("meta.k8s.io/v1", "PartialObjectMetadata", metadata, out),
            Shape::Table => {
                let columns = !std::mem::replace(&mut self.headed, true);
                table::head(self.stream.resource(), &revision, "", None, columns, out);
                if initial_events_end {
                    out.extend_from_slice(br#"{"cells":[],"object":"#);
                    bare("meta.k8s.io/v1", "PartialObjectMetadata", metadata, out);
                    out.push(b'}');
                }
                table::tail(out);
            }
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }
}

/// Appends an object of which only the metadata is known.
fn bare(api_version: &str, kind: &str, metadata: serde_json::Value, out: &mut Vec<u8>) {
    let object = serde_json::json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
    out.extend_from_slice(object.to_string().as_bytes());
}

fn head(type_: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(type_.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
}
