//! kube-rs, a client nobody here wrote: typed and generic objects, all kinds of patches, watches by list and by stream,
//! and an operator with its own kind, finalizer, owned objects, status and events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::Discovery;
use kube::runtime::controller::{Action, Config};
use kube::runtime::events::{EventType, Recorder, Reporter};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cluster::Cluster;

const NAMESPACE: &str = "default";
const FINALIZER: &str = "kube-rs.example.com/harbour";
/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kind as its author writes it: the definition is made from this.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, JsonSchema)]
#[kube(group = "kube-rs.example.com", version = "v1", kind = "Ship", namespaced, status = "ShipStatus")]
#[kube(shortname = "sh", printcolumn = r#"{"name":"Cargo","type":"string","jsonPath":".spec.cargo"}"#)]
#[kube(scale(spec_replicas_path = ".spec.masts", status_replicas_path = ".status.masts"))]
#[serde(rename_all = "camelCase")]
struct ShipSpec {
    cargo: String,
    #[serde(default)]
    #[schemars(range(min = 0, max = 5))]
    masts: i32,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default, JsonSchema)]
struct ShipStatus {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    masts: i32,
}

#[test]
fn kube_rs_works() {
    let cluster = Cluster::control_plane();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = connect(&cluster).await;
        within("built-in kinds", built_in_kinds(&client)).await;
        within("patches", patches(&client)).await;
        within("discovery", discovers(&client)).await;
        within("watches", watches(&client)).await;
        operates(&client).await;
    });
    drop(runtime);
    cluster.finish();
}

/// What a step comes to; the test fails if it takes too long.
async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

async fn connect(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.data_dir().join("admin.kubeconfig")).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let version = client.apiserver_version().await.unwrap();
    assert_eq!((&*version.major, &*version.minor), ("1", "37"));
    client
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    let text = json!({ "metadata": { "name": name }, "data": { "key": value } });
    serde_json::from_value(text).unwrap()
}

/// The code with which the server refuses.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("{other}"),
    }
}

async fn built_in_kinds(client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let made = maps.create(&PostParams::default(), &config_map("one", "1")).await.unwrap();
    assert!(made.uid().is_some() && made.creation_timestamp().is_some());
    assert_eq!(maps.get("one").await.unwrap(), made);
    assert!(maps.get_opt("two").await.unwrap().is_none());
    assert_eq!(refused(maps.get("two").await), (404, "NotFound".into()));
    let again = maps.create(&PostParams::default(), &config_map("one", "1")).await;
    assert_eq!(refused(again), (409, "AlreadyExists".into()));
    assert_eq!(
        refused(maps.create(&PostParams::default(), &config_map("Not_A_Name", "1")).await),
        (422, "Invalid".into())
    );

    let mut changed = made.clone();
    changed.data = Some(BTreeMap::from([("key".into(), "2".into())]));
    let newer = maps.replace("one", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(newer.resource_version(), made.resource_version());
    let stale = maps.replace("one", &PostParams::default(), &changed).await;
    assert_eq!(refused(stale), (409, "Conflict".into()));

    for number in 0..7 {
        maps.create(&PostParams::default(), &config_map(&format!("page-{number}"), "1")).await.unwrap();
    }
    let mut names = Vec::new();
    let mut parameters = ListParams::default().limit(3);
    loop {
        let page = maps.list(&parameters).await.unwrap();
        names.extend(page.items.iter().map(ResourceExt::name_any));
        let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else { break };
        parameters = parameters.continue_token(&token);
    }
    assert_eq!(names.iter().filter(|name| name.starts_with("page-")).count(), 7, "{names:?}");
    let metadata = maps.get_metadata("one").await.unwrap();
    assert_eq!(metadata.types.unwrap().kind, "PartialObjectMetadata");
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    assert_eq!(refused(maps.delete("one", &DeleteParams::default()).await), (404, "NotFound".into()));
}

async fn patches(client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let body = |value: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "key": value } });
    let by = |manager: &str| PatchParams::apply(manager);
    maps.patch("patched", &by("first"), &Patch::Apply(body("1"))).await.unwrap();
    let conflict = maps.patch("patched", &by("second"), &Patch::Apply(body("2"))).await;
    assert_eq!(refused(conflict), (409, "Conflict".into()));
    let forced = maps.patch("patched", &by("second").force(), &Patch::Apply(body("2"))).await.unwrap();
    assert_eq!(forced.data.unwrap()["key"], "2");

    let plain = PatchParams::default();
    let merged = maps.patch("patched", &plain, &Patch::Merge(json!({ "data": { "more": "3" } }))).await.unwrap();
    assert_eq!(merged.data.unwrap().len(), 2);
    let strategic = json!({ "data": { "more": null } });
    let strategic = maps.patch("patched", &plain, &Patch::Strategic(strategic)).await.unwrap();
    assert_eq!(strategic.data.unwrap().len(), 1);

    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "example/web:1" }] },
            },
        },
    });
    deployments.create(&plain_post(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
    let scale = Patch::Merge(json!({ "spec": { "replicas": 3 } }));
    let scale = deployments.patch_scale("web", &plain, &scale).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(3));
    deployments.restart("web").await.unwrap();
    let restarted = deployments.get("web").await.unwrap().spec;
    let annotations = restarted.template.metadata.unwrap().annotations.unwrap();
    assert!(annotations.contains_key("kube.kubernetes.io/restartedAt"), "{annotations:?}");
    deployments.delete("web", &DeleteParams::foreground()).await.unwrap();
}

fn plain_post() -> PostParams {
    PostParams::default()
}

/// Both forms of discovery find the same, and every kind of object can be listed by what they say.
async fn discovers(client: &Client) {
    let aggregated = Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let older = Discovery::new(client.clone()).run().await.unwrap();
    let groups = |found: &Discovery| found.groups().map(|group| group.name().to_owned()).collect::<Vec<_>>();
    let (mut one, mut other) = (groups(&aggregated), groups(&older));
    one.sort();
    other.sort();
    assert_eq!(one, other);
    let mut kinds = 0;
    for group in aggregated.groups() {
        for (resource, can) in group.recommended_resources() {
            if can.supports_operation("list") {
                let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                all.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("{resource:?}: {error}"));
                kinds += 1;
            }
        }
    }
    assert!(kinds > 50, "{kinds}");
    let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
    assert_eq!(aggregated.resolve_gvk(&kind).unwrap().0.plural, "deployments");
}

/// By list and watch, and by a streamed list: the same objects, then the same change.
async fn watches(client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    for (name, config) in
        [("listed", watcher::Config::default()), ("streamed", watcher::Config::default().streaming_lists())]
    {
        let mut stream = watcher(maps.clone(), config).boxed();
        let mut first = Vec::new();
        loop {
            match stream.try_next().await.unwrap().unwrap() {
                watcher::Event::InitApply(object) => first.push(object.name_any()),
                watcher::Event::InitDone => break,
                watcher::Event::Init => {}
                other => panic!("{other:?}"),
            }
        }
        let listed = maps.list(&ListParams::default()).await.unwrap();
        first.sort();
        assert_eq!(first, listed.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), "{name}");
        maps.create(&plain_post(), &config_map(name, "1")).await.unwrap();
        match stream.try_next().await.unwrap().unwrap() {
            watcher::Event::Apply(object) => assert_eq!(object.name_any(), name),
            other => panic!("{other:?}"),
        }
    }
}

/// What the operator works with.
struct Operator {
    client: Client,
    recorder: Recorder,
}

async fn reconcile(ship: Arc<Ship>, operator: Arc<Operator>) -> Result<Action, finalizer::Error<kube::Error>> {
    let ships: Api<Ship> = Api::namespaced(operator.client.clone(), NAMESPACE);
    finalizer(&ships, FINALIZER, ship, |event| async {
        match event {
            finalizer::Event::Apply(ship) => launch(&ship, &operator).await,
            finalizer::Event::Cleanup(ship) => {
                let log: Api<ConfigMap> = Api::namespaced(operator.client.clone(), NAMESPACE);
                log.create(&plain_post(), &config_map(&format!("{}-was-here", ship.name_any()), "1")).await?;
                Ok(Action::await_change())
            }
        }
    })
    .await
}

/// Keeps an owned ConfigMap and the status as the ship's spec says.
async fn launch(ship: &Ship, operator: &Operator) -> kube::Result<Action> {
    let owner: OwnerReference = ship.controller_owner_ref(&()).unwrap();
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": format!("{}-manifest", ship.name_any()), "ownerReferences": [owner] },
        "data": { "cargo": ship.spec.cargo },
    });
    let maps: Api<ConfigMap> = Api::namespaced(operator.client.clone(), NAMESPACE);
    let by = PatchParams::apply("harbour").force();
    maps.patch(&format!("{}-manifest", ship.name_any()), &by, &Patch::Apply(manifest)).await?;
    let ships: Api<Ship> = Api::namespaced(operator.client.clone(), NAMESPACE);
    let status = json!({
        "apiVersion": "kube-rs.example.com/v1",
        "kind": "Ship",
        "status": ShipStatus { ready: true, masts: ship.spec.masts },
    });
    ships.patch_status(&ship.name_any(), &by, &Patch::Apply(status)).await?;
    let event = kube::runtime::events::Event {
        type_: EventType::Normal,
        reason: "Launched".into(),
        note: Some(format!("{} carries {}", ship.name_any(), ship.spec.cargo)),
        action: "Launching".into(),
        secondary: None,
    };
    operator.recorder.publish(&event, &ship.object_ref(&())).await?;
    Ok(Action::await_change())
}

/// Waits until an object is as `condition` says.
async fn reaches<K>(api: &Api<K>, name: &str, condition: impl Condition<K>)
where
    K: Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let what = format!("{} {name}", api.resource_url());
    within(&what, await_condition(api.clone(), name, condition)).await.unwrap();
}

async fn operates(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let by = PatchParams::apply("harbour").force();
    definitions.patch("ships.kube-rs.example.com", &by, &Patch::Apply(Ship::crd())).await.unwrap();
    reaches(&definitions, "ships.kube-rs.example.com", conditions::is_crd_established()).await;

    let ships: Api<Ship> = Api::namespaced(client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let recorder = Recorder::new(client.clone(), Reporter::from("harbour"));
    let operator = Arc::new(Operator { client: client.clone(), recorder });
    let running = Controller::new(ships.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .with_config(Config::default())
        .graceful_shutdown_on(async move { drop(stopped.await) })
        .run(reconcile, |_, error, _| panic!("{error}"), operator)
        .for_each(|_| async {});
    let running = tokio::spawn(running);

    let bad = Ship::new("bad", ShipSpec { cargo: "tea".into(), masts: 9 });
    assert_eq!(refused(ships.create(&plain_post(), &bad).await), (422, "Invalid".into()));
    let argo =
        ships.create(&plain_post(), &Ship::new("argo", ShipSpec { cargo: "tea".into(), masts: 2 })).await.unwrap();
    let ready = |ship: Option<&Ship>| ship.and_then(|ship| ship.status.as_ref()).is_some_and(|status| status.ready);
    reaches(&ships, "argo", ready).await;
    let manifest = maps.get("argo-manifest").await.unwrap();
    assert_eq!(manifest.owner_references()[0].uid, argo.uid().unwrap());

    // What the operator owns comes back when somebody takes it away, and follows the spec.
    maps.delete("argo-manifest", &DeleteParams::default()).await.unwrap();
    let uid = manifest.uid().unwrap();
    let again = move |map: Option<&ConfigMap>| map.is_some_and(|map| map.uid().as_deref() != Some(&uid));
    reaches(&maps, "argo-manifest", again).await;
    let scale = Patch::Merge(json!({ "spec": { "replicas": 4 } }));
    ships.patch_scale("argo", &PatchParams::default(), &scale).await.unwrap();
    let masts = |ship: Option<&Ship>| ship.and_then(|ship| ship.status.as_ref()).is_some_and(|own| own.masts == 4);
    reaches(&ships, "argo", masts).await;
    let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    let told = events.list(&ListParams::default().fields("involvedObject.name=argo")).await.unwrap();
    assert!(told.items.iter().any(|event| event.message.as_deref() == Some("argo carries tea")), "{told:?}");

    // Its finalizer is heard before it goes, and what it owned goes after it.
    ships.delete("argo", &DeleteParams::default()).await.unwrap();
    reaches(&ships, "argo", conditions::is_deleted(&argo.uid().unwrap())).await;
    assert!(maps.get_opt("argo-was-here").await.unwrap().is_some());
    let manifest = maps.get_opt("argo-manifest").await.unwrap();
    if let Some(manifest) = manifest {
        let uid = manifest.uid().unwrap();
        reaches(&maps, "argo-manifest", conditions::is_deleted(&uid)).await;
    }
    stop.send(()).unwrap();
    running.await.unwrap();
    definitions.delete("ships.kube-rs.example.com", &DeleteParams::default()).await.unwrap();
}
