//! `/containerLogs`: which container is meant, and its log as a body that is read as fast as the client takes it.

use std::path::PathBuf;

use api::core::v1::{ContainerStatus, Pod, PodStatus};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};

use super::reply::{self, BodyError, Failure, Reply};
use super::route::ContainerPath;
use super::{Later, Shared, query};
use crate::logs::options::Refusal;
use crate::logs::{Options, Reader};
use crate::pod;

/// Answers with a container's log.
pub async fn serve(shared: &Shared, path: &ContainerPath, request: &Request<Incoming>) -> Result<Reply, Failure> {
    let pairs = query::pairs(request.uri().query());
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = Options::parse(pairs, shared.clock.now()).map_err(|refusal| match refusal {
        Refusal::Undecodable => Failure::bad_request(r#"{"message": "Unable to decode query."}"#),
        Refusal::Invalid => Failure::new(StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#),
    })?;
    let ContainerPath { namespace, pod: name, container, .. } = path;
    let found = shared.pods.pod(namespace, name);
    let p = found.ok_or_else(|| Failure::not_found(format!("pod {name:?} does not exist")))?;
    if pod::find_container(&p, container).is_none() {
        return Err(Failure::not_found(format!("container {container:?} not found in pod {name:?}")));
    }
    let full_id = container_id(&p, name, container, options.previous).map_err(Failure::bad_request)?;
    let id = full_id.split_once("://").map_or(full_id.as_str(), |(_, id)| id).to_owned();

    let unavailable = || Failure::bad_request(format!("unable to retrieve container logs for {full_id}"));
    let answer = shared.runtime.container_status(&id, false).await.map_err(|error| {
        tracing::debug!(%error, id, "the runtime cannot tell of a container whose log is wanted");
        unavailable()
    })?;
    let log_path = PathBuf::from(answer.status.ok_or_else(unavailable)?.log_path);

    let permit = if options.follow { Some(shared.stream_permit()?) } else { None };
    let ended: Later<()> = if options.follow { shared.exits.ended(id) } else { Box::pin(std::future::pending()) };
    let reader = Reader::open(&log_path, &options, ended).await.map_err(|e| Failure::bad_request(e.to_string()))?;
    let chunks = stream::try_unfold((reader, permit), |(mut reader, permit)| async move {
        let chunk = reader.next().await?;
        Ok::<_, crate::logs::reader::Error>(chunk.map(|chunk| (chunk, (reader, permit))))
    });
    // What goes wrong before the first byte is still an answer; afterwards the body breaks off.
    let mut chunks = Box::pin(chunks.map_err(BodyError::from));
    let first = if options.follow { None } else { chunks.next().await };
    let first = first.transpose().map_err(|error| Failure::bad_request(error.to_string()))?;
    let body = StreamBody::new(stream::iter(first.map(Ok)).chain(chunks).map_ok(Frame::data));
    Ok(reply::typed("text/plain", body.boxed_unsync()))
}

/// The id (`containerd://...`) of the container whose log is meant.
///
/// # Errors
/// Upstream's words (kubelet `validateContainerLogStatus`).
fn container_id(p: &Pod, pod_name: &str, container: &str, previous: bool) -> Result<String, String> {
    let of = |why: &str| format!("container {container:?} in pod {pod_name:?} {why}");
    let status = p.status.as_ref().and_then(|status| container_status(status, container));
    let status = status.ok_or_else(|| of("is not available"))?;
    let some = |id: Option<&String>| id.filter(|id| !id.is_empty()).cloned();
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last_id = some(last.and_then(|last| last.container_id.as_ref()));
    if previous {
        let missing = || format!("previous terminated container {container:?} in pod {pod_name:?} not found");
        return last_id.ok_or_else(missing);
    }
    let (running, terminated, waiting) = match &status.state {
        Some(state) => (state.running.as_ref(), state.terminated.as_ref(), state.waiting.as_ref()),
        None => (None, None, None),
    };
    if running.is_some() {
        return some(status.container_id.as_ref()).ok_or_else(|| of("is not available"));
    }
    if let Some(terminated) = terminated {
        return some(terminated.container_id.as_ref()).or(last_id).ok_or_else(|| of("is terminated"));
    }
    if last.is_some() {
        return last_id.ok_or_else(|| of("is terminated"));
    }
    Err(match waiting {
        Some(waiting) => match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull" => of("is waiting to start: image can't be pulled"),
            "ImagePullBackOff" => of("is waiting to start: trying and failing to pull image"),
            reason => of(&format!("is waiting to start: {reason}")),
        },
        None => of("is waiting to start - no logs yet"),
    })
}

fn container_status<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let kinds = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    kinds.into_iter().flatten().flatten().find(|status| status.name == name)
}

#[cfg(test)]
mod tests {
    use api::Typed;

    use super::*;

    #[test]
    fn whose_log_is_meant() {
        let missing = "previous terminated container \"c\" in pod \"p\" not found";
        let table = [
            (r#"{"containerID":"x://1","state":{"running":{}}}"#, Ok("x://1"), Err(missing)),
            (
                r#"{"containerID":"x://2","state":{"running":{}},
                    "lastState":{"terminated":{"exitCode":1,"containerID":"x://1"}}}"#,
                Ok("x://2"),
                Ok("x://1"),
            ),
            (r#"{"state":{"terminated":{"exitCode":0,"containerID":"x://1"}}}"#, Ok("x://1"), Err(missing)),
            (
                r#"{"state":{"terminated":{"exitCode":0}}}"#,
                Err("container \"c\" in pod \"p\" is terminated"),
                Err(missing),
            ),
            (
                r#"{"state":{"waiting":{"reason":"CrashLoopBackOff"}},
                    "lastState":{"terminated":{"exitCode":1,"containerID":"x://1"}}}"#,
                Ok("x://1"),
                Ok("x://1"),
            ),
            (
                r#"{"state":{"waiting":{"reason":"ContainerCreating"}}}"#,
                Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
                Err(missing),
            ),
            (
                r#"{"state":{"waiting":{"reason":"ErrImagePull"}}}"#,
                Err("container \"c\" in pod \"p\" is waiting to start: image can't be pulled"),
                Err(missing),
            ),
            (
                r#"{"state":{"waiting":{"reason":"ImagePullBackOff"}}}"#,
                Err("container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image"),
                Err(missing),
            ),
            (r#"{"state":{}}"#, Err("container \"c\" in pod \"p\" is waiting to start - no logs yet"), Err(missing)),
        ];
        for (status, now, before) in table {
            let status =
                format!(r#"{{"name":"c","image":"","imageID":"","ready":false,"restartCount":0,{}"#, &status[1..]);
            let json = format!(r#"{{"status":{{"initContainerStatuses":[{status}]}}}}"#);
            let p = Pod::decode(json.as_bytes()).unwrap();
            for (previous, expected) in [(false, now), (true, before)] {
                let id = container_id(&p, "p", "c", previous);
                assert_eq!(id.as_deref().map_err(String::as_str), expected, "{status}");
            }
        }
        let unknown = container_id(&Pod::default(), "p", "c", false);
        assert_eq!(unknown, Err("container \"c\" in pod \"p\" is not available".to_owned()));
    }
}
