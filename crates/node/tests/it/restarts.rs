//! Containers that end, and come back or do not; the node agent itself coming back.

use ::api::{Object, Typed};
use serde_json::json;

use crate::lab::{Lab, condition, waiting};

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off() {
    let lab = Lab::new().await;
    lab.create("web", json!({"containers": [{"name": "a", "command": ["sh", "-c", "exit 3"]}]})).await;
    let status = lab.until("web", "looping", |s| waiting(s) == "CrashLoopBackOff").await;
    let container = &status["containerStatuses"][0];
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(container["restartCount"], 1, "the first restart is at once");
    let message = container["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("back-off 10s restarting failed container=a pod=web_default("), "{message}");
    lab.sleep(60).await;
    // At 0, 0, 10 and 30 seconds; the next is at 70.
    assert_eq!(lab.status("web").await["containerStatuses"][0]["restartCount"], 3);
    assert!(
        lab.events("web")
            .await
            .iter()
            .any(|e| e.starts_with("BackOff: Back-off restarting failed container a in pod web_default("))
    );
}

#[tokio::test(start_paused = true)]
async fn jobs_succeed_and_fail() {
    let lab = Lab::new().await;
    for (name, command, phase, reason) in
        [("good", "sleep 2", "Succeeded", "Completed"), ("bad", "sleep 2; exit 1", "Failed", "Error")]
    {
        let containers = json!([{"name": "a", "command": ["sh", "-c", command]}]);
        lab.create(name, json!({"restartPolicy": "Never", "containers": containers})).await;
        let status = lab.until(name, phase, |s| s["phase"] == phase).await;
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], reason);
        assert_eq!(condition(&status, "Ready"), "False");
    }
    // And stay as they are.
    lab.sleep(300).await;
    assert_eq!(lab.status("good").await["phase"], "Succeeded");
    let entry = lab.handle.pods().find("default", "good").unwrap();
    assert!(entry.state().is_stopped());
}

#[tokio::test(start_paused = true)]
async fn a_failed_liveness_probe_restarts_and_then_backs_off() {
    let lab = Lab::new().await;
    lab.fake.script_exec(&["alive"], cri::v1::ExecSyncResponse { exit_code: 1, ..Default::default() });
    let probe = json!({"exec": {"command": ["alive"]}, "periodSeconds": 1, "failureThreshold": 2});
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"], "livenessProbe": probe}]})).await;
    lab.until("web", "restarted", |s| s["containerStatuses"][0]["restartCount"] == 1).await;
    let want = "Killing: Container a failed liveness probe, will be restarted";
    assert!(lab.events("web").await.iter().any(|e| e == want));
    lab.until("web", "backing off", |s| waiting(s) == "CrashLoopBackOff").await;
}

#[tokio::test(start_paused = true)]
async fn memory_ran_out() {
    let lab = Lab::new().await;
    lab.create("web", json!({"restartPolicy": "Never", "containers": [{"name": "a", "command": ["server"]}]})).await;
    lab.until_ready("web").await;
    lab.fake.out_of_memory(&lab.container_id("web").await);
    let status = lab.until("web", "failed", |s| s["phase"] == "Failed").await;
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "OOMKilled");
}

#[tokio::test(start_paused = true)]
async fn a_dead_sandbox_is_replaced() {
    let lab = Lab::new().await;
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"]}]})).await;
    lab.until_ready("web").await;
    let before = lab.container_id("web").await;
    let sandbox = lab.handle.pods().find("default", "web").unwrap().state().sandboxes[0].id.clone();
    lab.fake.kill_sandbox(&sandbox);
    lab.until("web", "restarted", |s| s["containerStatuses"][0]["restartCount"] == 1).await;
    lab.until_ready("web").await;
    assert_ne!(lab.container_id("web").await, before);
}

#[tokio::test(start_paused = true)]
async fn running_pods_are_adopted_after_a_restart_of_the_agent() {
    let lab = Lab::new().await;
    lab.fake.script_exec(&["check"], cri::v1::ExecSyncResponse::default());
    let probe = json!({"exec": {"command": ["check"]}, "initialDelaySeconds": 5});
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"], "readinessProbe": probe}]})).await;
    lab.create(
        "orphan",
        json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "a", "command": ["server"]}]}),
    )
    .await;
    let before = lab.until_ready("web").await;
    lab.until_ready("orphan").await;
    let (client, tasks) = (lab.client.clone(), lab.tasks.clone());
    assert!(tasks.shutdown(std::time::Duration::from_secs(10)).await);
    // While the agent is away a pod is removed by force.
    let options = ::api::meta::v1::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
    client.delete::<::api::core::v1::Pod>("default", "orphan", options).await.unwrap();
    let lab = lab.restart().await;
    lab.sleep(60).await;
    let after = lab.status("web").await;
    for field in ["containerStatuses", "conditions", "podIP", "startTime"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert!(lab.handle.pods().find("default", "orphan").is_none(), "what the API does not know is ended");
    let cri::Runtime::Fake(fake) = lab.handle.runtime() else { unreachable!() };
    let left = cri::Runtime::Fake(fake.clone()).list_pod_sandbox(None).await.unwrap();
    assert_eq!(left.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_network_is_told_whose_a_forgotten_pod_was_after_a_restart() {
    let lab = Lab::new().await;
    let pod = json!({
        "metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "busybox:1", "command": ["server"]}]},
    });
    let pod = lab.client.create(::api::core::v1::Pod::from_value(pod).unwrap()).await.unwrap();
    let ip = lab.until_ready("orphan").await["podIP"].clone();
    let client = lab.client.clone();
    assert!(lab.tasks.shutdown(std::time::Duration::from_secs(10)).await);
    let options = ::api::meta::v1::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
    client.delete::<::api::core::v1::Pod>("default", "orphan", options).await.unwrap();
    let lab = lab.restart().await;
    lab.sleep(60).await;
    let admitted = lab.network.admitted.lock().unwrap().clone();
    let [(told, ips)] = &admitted[..] else { panic!("{admitted:?}") };
    assert_eq!((told.uid(), told.name(), told.namespace()), (pod.uid(), "orphan", "default"));
    assert_eq!(told.metadata.labels, Some([("app".to_owned(), "web".to_owned())].into()));
    assert_eq!(told.spec.as_ref().unwrap().node_name.as_deref(), Some("n1"));
    assert_eq!(json!(ips), json!([ip]));
    assert!(lab.network.released.lock().unwrap().contains(&pod.uid().to_owned()), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_away_makes_the_node_unready_and_nothing_else() {
    let lab = Lab::new().await;
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"]}]})).await;
    let before = lab.until_ready("web").await;
    lab.fake.set_unavailable(true);
    lab.sleep(30).await;
    let node = lab.node().await;
    assert_eq!(condition(&node["status"], "Ready"), "False");
    lab.fake.set_unavailable(false);
    lab.sleep(30).await;
    assert_eq!(condition(&lab.node().await["status"], "Ready"), "True");
    assert_eq!(lab.status("web").await, before);
}
