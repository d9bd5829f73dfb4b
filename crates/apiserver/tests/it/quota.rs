//! Quotas under load: writes at once never exceed one together.

use std::sync::Arc;

use serde_json::json;

use crate::world::World;

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_at_once_do_not_exceed_a_quota_together() {
    let world = Arc::new(World::start().await);
    world.create(QUOTAS, r#"{"metadata":{"name":"q"},"spec":{"hard":{"configmaps":"10"}}}"#).await;
    let early = world.create("/api/v1/namespaces/default/configmaps", r#"{"metadata":{"name":"early"}}"#).await;
    assert_eq!(early.code, 201, "a quota whose limits nobody has taken over yet limits nothing");
    let status = json!({"status": {"hard": {"configmaps": "10"}, "used": {"configmaps": "1"}}}).to_string();
    world.patch(&format!("{QUOTAS}/q/status"), "application/merge-patch+json", &status).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let world = world.clone();
            async move {
                let mut made = 0;
                for number in 0..5 {
                    let body = format!(r#"{{"metadata":{{"name":"m{writer}-{number}"}}}}"#);
                    let answer = world.create("/api/v1/namespaces/default/configmaps", &body).await;
                    match answer.code {
                        201 => made += 1,
                        code => {
                            let message = answer.message();
                            assert_eq!(code, 403, "{message}");
                            let words = "exceeded quota: q, requested: configmaps=1, used: configmaps=10, limited: \
                                         configmaps=10";
                            assert!(message.ends_with(words), "{message}");
                        }
                    }
                }
                made
            }
        })
        .collect();
    let made: i32 = futures_util::future::join_all(writers).await.into_iter().sum();
    assert_eq!(made, 9);
    let quota = world.get(&format!("{QUOTAS}/q")).await.json();
    assert_eq!(quota["status"]["used"]["configmaps"], "10");
    let listed = world.get("/api/v1/namespaces/default/configmaps").await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 10);
}
