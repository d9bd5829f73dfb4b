//! Lifecycle hooks: what a container does right after its start and right before its end.

use std::time::Duration;

use api::core::v1::LifecycleHandler;

use crate::http;
use crate::probe::Subject;
use crate::probe::http_request;

/// Upstream's user agent of hooks.
const USER_AGENT: &str = "kube-lifecycle/1.37";

/// Runs a hook to its end. It has no limit of its own. The error's text is upstream's.
pub async fn run(subject: &Subject<'_>, handler: &LifecycleHandler) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let line = command.join(" ");
        return match subject.agent.runtime.exec_sync(subject.container_id, command, 0).await {
            Ok(answer) if answer.exit_code == 0 => Ok(()),
            Ok(answer) => {
                let mut text = String::from_utf8_lossy(&answer.stdout).into_owned();
                text.push_str(&String::from_utf8_lossy(&answer.stderr));
                Err(format!(
                    "Exec lifecycle hook ([{line}]) failed - error: command exited with {}, message: {text:?}",
                    answer.exit_code
                ))
            }
            Err(error) => Err(format!("Exec lifecycle hook ([{line}]) failed - error: {error}")),
        };
    }
    if let Some(get) = &handler.http_get {
        let request = http_request(subject, get, USER_AGENT)?;
        return match http::get(&request).await {
            Ok(response) if response.status < 400 => Ok(()),
            Ok(response) => Err(format!("HTTP lifecycle hook ({}) failed - status {}", request.path, response.status)),
            Err(error) => Err(format!("HTTP lifecycle hook ({}) failed - error: {error}", request.path)),
        };
    }
    if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        subject.agent.clock.sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err("invalid handler".into())
}
