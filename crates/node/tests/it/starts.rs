//! From a bound pod to a ready one, and what keeps it from getting there.

use ::api::Typed;
use ::api::core::v1::ConfigMap;
use serde_json::json;

use crate::lab::{Lab, condition, waiting};

#[tokio::test(start_paused = true)]
async fn a_pod_becomes_ready() {
    let lab = Lab::new().await;
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"]}]})).await;
    let status = lab.until_ready("web").await;
    assert_eq!(status["phase"], "Running");
    assert!(status["podIP"].is_string());
    assert_eq!(status["hostIP"], "192.0.2.1");
    assert_eq!(status["containerStatuses"][0]["started"], true);
    lab.sleep(1).await;
    let events = lab.events("web").await;
    let reasons: Vec<&str> = events.iter().map(|e| e.split(':').next().unwrap()).collect();
    assert_eq!(reasons, ["Pulled", "Created", "Started"], "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_an_address_does_not_begin() {
    let lab = Lab::new().await;
    lab.fake.set_addressless(true);
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"]}]})).await;
    lab.create("host", json!({"hostNetwork": true, "containers": [{"name": "a", "command": ["server"]}]})).await;
    lab.until_ready("host").await;
    lab.sleep(60).await;
    let events = lab.events("web").await;
    let told = "NetworkNotReady: network is not ready: the container runtime tells no address of the pod's sandbox";
    assert!(events.iter().any(|e| e == told), "{events:?}");
    assert!(!events.iter().any(|e| e.starts_with("Started")), "{events:?}");
    assert_eq!(waiting(&lab.status("web").await), "ContainerCreating");
    assert!(lab.network.admitted.lock().unwrap().is_empty());
    // It is tried again.
    lab.fake.set_addressless(false);
    let status = lab.until_ready("web").await;
    let admitted = lab.network.admitted.lock().unwrap().clone();
    let [(_, ips)] = &admitted[..] else { panic!("{admitted:?}") };
    assert_eq!(json!(ips), json!([status["podIP"]]));
}

#[tokio::test(start_paused = true)]
async fn the_node_is_registered_and_beats() {
    let lab = Lab::new().await;
    let node = lab.node().await;
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(condition(&node["status"], "Ready"), "True");
    assert_eq!(node["spec"]["podCIDR"], "10.42.0.0/24");
    assert_eq!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
    let lease = || async {
        let lease = lab.client.get::<::api::coordination::v1::Lease>("kube-node-lease", "n1").await.unwrap();
        lease.spec.clone().unwrap().renew_time.unwrap()
    };
    lab.sleep(1).await;
    let first = lease().await;
    lab.sleep(15).await;
    assert!(lease().await > first);
}

#[tokio::test(start_paused = true)]
async fn init_containers_and_sidecars_come_first() {
    let lab = Lab::new().await;
    lab.create(
        "web",
        json!({
            "initContainers": [
                {"name": "one", "image": "busybox:1", "command": ["sh", "-c", "sleep 5"]},
                {"name": "side", "image": "busybox:1", "restartPolicy": "Always", "command": ["server"]},
                {"name": "two", "image": "busybox:1", "command": ["sh", "-c", "sleep 5"]},
            ],
            "containers": [{"name": "a", "command": ["server"]}],
        }),
    )
    .await;
    lab.sleep(3).await;
    let status = lab.status("web").await;
    assert_eq!(status["phase"], "Pending");
    assert_eq!(waiting(&status), "PodInitializing");
    assert_eq!(condition(&status, "Initialized"), "False");
    let status = lab.until_ready("web").await;
    let names: Vec<_> =
        status["initContainerStatuses"].as_array().unwrap().iter().map(|s| s["ready"] == true).collect();
    assert_eq!(names, [true, true, true]);
    assert!(status["initContainerStatuses"][1]["state"]["running"].is_object());
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_is_waited_for_and_then_found() {
    let lab = Lab::new().await;
    lab.create("web", json!({"containers": [{"name": "a", "image": "late:1", "command": ["server"]}]})).await;
    lab.until("web", "told of the error", |s| waiting(s) == "ErrImagePull").await;
    let status = lab.until("web", "backing off", |s| waiting(s) == "ImagePullBackOff").await;
    let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("Back-off pulling image \"late:1\": ErrImagePull: "), "{message}");
    lab.fake.publish_image("late:1");
    lab.until_ready("web").await;
    let events = lab.events("web").await;
    assert!(events.iter().any(|e| e == "BackOff: Back-off pulling image \"late:1\""), "{events:?}");
    assert!(events.iter().any(|e| e.starts_with("Pulled: Successfully pulled image \"late:1\" in ")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_may_not_be_pulled_is_told_of() {
    let lab = Lab::new().await;
    let container = json!({"name": "a", "image": "none:1", "imagePullPolicy": "Never"});
    lab.create("web", json!({"containers": [container]})).await;
    let status = lab.until("web", "refused", |s| waiting(s) == "ErrImageNeverPull").await;
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["message"],
        "Container image \"none:1\" is not present with pull policy of Never"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_waited_for_without_polling() {
    let lab = Lab::new().await;
    lab.create(
        "volume",
        json!({
            "containers": [{"name": "a", "command": ["server"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "configMap": {"name": "later"}}],
        }),
    )
    .await;
    lab.create(
        "env",
        json!({"containers": [{"name": "a", "command": ["server"], "envFrom": [{"configMapRef": {"name": "later"}}]}]}),
    )
    .await;
    lab.sleep(120).await;
    assert_eq!(waiting(&lab.status("volume").await), "ContainerCreating");
    assert_eq!(waiting(&lab.status("env").await), "CreateContainerConfigError");
    let events = lab.events("volume").await;
    let want = "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"later\" not found";
    assert_eq!(events, [want]);
    let map = json!({"metadata": {"name": "later", "namespace": "default"}, "data": {"k": "v"}});
    lab.client.create(ConfigMap::from_value(map).unwrap()).await.unwrap();
    lab.sleep(1).await;
    for name in ["volume", "env"] {
        assert_eq!(condition(&lab.status(name).await, "Ready"), "True", "{name} starts as soon as it can");
    }
    let uid = lab.find("volume").await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let file = lab.dir.path().join("data/pods").join(uid).join("volumes/kubernetes.io~configmap/v/k");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "v");
    let map = json!({"metadata": {"name": "later", "namespace": "default"}, "data": {"k": "w"}});
    lab.client.update(ConfigMap::from_value(map).unwrap()).await.unwrap();
    lab.sleep(1).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "w", "volumes follow live");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_probe_decides() {
    let lab = Lab::new().await;
    let answer = |exit_code| cri::v1::ExecSyncResponse { exit_code, stdout: b"no".to_vec(), ..Default::default() };
    lab.fake.script_exec(&["check"], answer(1));
    let probe = json!({"exec": {"command": ["check"]}, "initialDelaySeconds": 1, "periodSeconds": 5});
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"], "readinessProbe": probe}]})).await;
    lab.sleep(20).await;
    let status = lab.status("web").await;
    assert_eq!((status["phase"].as_str(), condition(&status, "Ready").as_str()), (Some("Running"), "False"));
    lab.fake.script_exec(&["check"], answer(0));
    lab.sleep(6).await;
    assert_eq!(condition(&lab.status("web").await, "Ready"), "True");
    let events = lab.events("web").await;
    assert!(events.iter().any(|e| e == "Unhealthy: Readiness probe failed: no"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_fails_is_tried_again() {
    let lab = Lab::new().await;
    for message in ["no network", "still no network"] {
        lab.fake.fail_next("run_pod_sandbox", cri::Error::Failed { code: 2, message: message.into() });
    }
    lab.create("web", json!({"containers": [{"name": "a", "command": ["server"]}]})).await;
    lab.until_ready("web").await;
    let want =
        "FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = still no network";
    assert!(lab.events("web").await.iter().any(|e| e == want));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_fit_is_refused() {
    let lab = Lab::new().await;
    let container = json!({"name": "a", "command": ["server"], "resources": {"requests": {"memory": "100Ti"}}});
    lab.create("huge", json!({"containers": [container]})).await;
    let status = lab.until("huge", "refused", |s| s["phase"] == "Failed").await;
    assert_eq!(status["reason"], "OutOfmemory");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("Pod was rejected: Node didn't have enough resource: memory, requested: "),
        "{message}"
    );
    lab.create("elsewhere", json!({"nodeSelector": {"no": "such"}, "containers": [{"name": "a"}]})).await;
    let status = lab.until("elsewhere", "refused", |s| s["phase"] == "Failed").await;
    assert_eq!(status["reason"], "NodeAffinity");
}
