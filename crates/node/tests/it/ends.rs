//! Deletion, deadlines, and what is left afterwards: nothing.

use serde_json::json;

use crate::lab::Lab;

async fn assert_nothing_left(lab: &Lab) {
    lab.sleep(5).await;
    assert!(lab.handle.pods().all().is_empty());
    assert!(lab.handle.runtime().list_pod_sandbox(None).await.unwrap().is_empty());
    assert!(lab.handle.runtime().list_containers(None).await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(lab.dir.path().join("data/pods")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(lab.dir.path().join("logs")).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_well_and_leaves_nothing() {
    let lab = Lab::new().await;
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"]}]})).await;
    lab.until_ready("web").await;
    let begun = lab.clock.now();
    lab.delete("web", None).await;
    lab.until_gone("web").await;
    assert!(lab.clock.now().duration_since(begun).as_secs() < 5, "a server that listens ends at once");
    assert!(lab.events("web").await.iter().any(|e| e == "Killing: Stopping container a"));
    assert_nothing_left(&lab).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_listen_is_killed_after_its_grace() {
    let lab = Lab::new().await;
    let containers = json!([{"name": "a", "command": ["sh", "-c", "sleep 100000"]}]);
    lab.create("deaf", json!({"terminationGracePeriodSeconds": 20, "containers": containers})).await;
    lab.until_ready("deaf").await;
    let begun = lab.clock.now();
    lab.delete("deaf", None).await;
    lab.sleep(10).await;
    assert!(lab.find("deaf").await.is_some());
    lab.until_gone("deaf").await;
    let took = lab.clock.now().duration_since(begun).as_secs();
    assert!((20..25).contains(&took), "{took}");
    assert_nothing_left(&lab).await;
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_interrupts_a_longer_one() {
    let lab = Lab::new().await;
    let containers = json!([{"name": "a", "command": ["sh", "-c", "sleep 100000"]}]);
    lab.create("deaf", json!({"terminationGracePeriodSeconds": 600, "containers": containers})).await;
    lab.until_ready("deaf").await;
    lab.delete("deaf", None).await;
    lab.sleep(10).await;
    lab.delete("deaf", Some(1)).await;
    lab.sleep(10).await;
    assert!(lab.find("deaf").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pod_removed_by_force_is_still_stopped() {
    let lab = Lab::new().await;
    lab.create("web", json!({"containers": [{"name": "a", "command": ["sh", "-c", "sleep 100000"]}]})).await;
    lab.until_ready("web").await;
    lab.delete("web", Some(0)).await;
    lab.sleep(40).await;
    assert_nothing_left(&lab).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_started_can_be_deleted() {
    let lab = Lab::new().await;
    lab.create("web", json!({"containers": [{"name": "a", "image": "none:1"}]})).await;
    lab.sleep(7).await;
    lab.delete("web", None).await;
    lab.until_gone("web").await;
    assert_nothing_left(&lab).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_past_its_deadline_is_ended() {
    let lab = Lab::new().await;
    lab.create("slow", json!({"activeDeadlineSeconds": 30, "containers": [{"name": "a", "command": ["server"]}]}))
        .await;
    lab.until_ready("slow").await;
    let status = lab.until("slow", "failed", |s| s["phase"] == "Failed").await;
    assert_eq!(status["reason"], "DeadlineExceeded");
    assert_eq!(status["message"], "Pod was active on the node longer than the specified deadline");
    lab.sleep(5).await;
    let status = lab.status("slow").await;
    assert!(status["containerStatuses"][0]["state"]["terminated"].is_object());
    assert_eq!(status["reason"], "DeadlineExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_pre_stop_hook_counts_towards_the_grace() {
    let lab = Lab::new().await;
    let lifecycle = json!({"preStop": {"sleep": {"seconds": 5}}});
    let containers = json!([{"name": "a", "command": ["server"], "lifecycle": lifecycle}]);
    lab.create("web", json!({"containers": containers})).await;
    lab.until_ready("web").await;
    let begun = lab.clock.now();
    lab.delete("web", None).await;
    lab.until_gone("web").await;
    let took = lab.clock.now().duration_since(begun).as_secs();
    assert!((5..8).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn many_pods_start_a_few_at_a_time() {
    let lab = Lab::new().await;
    for n in 0..30 {
        lab.create(&format!("web-{n}"), json!({"containers": [{"name": "a", "command": ["server"]}]})).await;
    }
    let begun = lab.clock.now();
    for n in 0..30 {
        lab.until_ready(&format!("web-{n}")).await;
    }
    // 180 ms each, four at a time.
    assert!(lab.clock.now().duration_since(begun).as_secs() < 3);
    for n in 0..30 {
        lab.delete(&format!("web-{n}"), None).await;
    }
    for n in 0..30 {
        lab.until_gone(&format!("web-{n}")).await;
    }
    assert_nothing_left(&lab).await;
}
