//! Patches of all kinds on a Deployment.

use api::codec::Parsed;
use api::schema;
use serde_json::{Value, json};

pub(crate) fn run(data: &[u8]) {
    let Some((kind, patch)) = crate::first(data) else { return };
    let strategy = resources::find("apps", "v1", "deployments").expect("in the catalogue");
    let definition = schema::definition(strategy.kind().definition).expect("in the table");
    let patched = match kind % 3 {
        0 => api::patch::json(deployment(), patch),
        1 => api::patch::merge(deployment(), patch),
        _ => api::patch::strategic(deployment(), patch, definition),
    };
    let Ok(patched) = patched else { return };
    if patched.value.is_object() {
        crate::object::built_in(strategy, Parsed { value: patched.value, duplicates: Vec::new() });
    }
}

pub(crate) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default", "labels": { "app": "web" }, "finalizers": ["example.com/a"] },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": 1 } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": {
                    "containers": [
                        { "name": "a", "image": "a:1", "ports": [{ "containerPort": 80 }, { "containerPort": 81 }] },
                        { "name": "b", "image": "b:1", "env": [{ "name": "X", "value": "1" }], "args": ["x"] },
                    ],
                    "volumes": [{ "name": "v", "emptyDir": {} }],
                },
            },
        },
    })
}
