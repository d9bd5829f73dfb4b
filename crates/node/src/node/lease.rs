//! The node's heartbeat: a lease in `kube-node-lease`.

use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::coordination::v1::{Lease, LeaseSpec};
use api::core::v1::Node;
use api::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use base::{Backoff, Timestamp};

use crate::agent::Agent;

const NAMESPACE: &str = "kube-node-lease";
/// The lease's life, seconds; it is renewed after a quarter of that.
const DURATION_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);

/// Renews the lease until the group ends.
pub async fn run(agent: Arc<Agent>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));
    let mut last: Option<Arc<Lease>> = None;
    loop {
        match renew(&agent, last.take()).await {
            Ok(lease) => {
                backoff.reset();
                last = Some(lease);
                agent.clock.sleep(RENEW).await;
            }
            Err(error) => {
                tracing::debug!(%error, "the node's lease is not renewed yet");
                agent.clock.sleep(backoff.next_jittered(&agent.random)).await;
            }
        }
    }
}

async fn renew(agent: &Agent, last: Option<Arc<Lease>>) -> Result<Arc<Lease>, client::Error> {
    let name = &agent.facts.node_name;
    let now = micros(agent.clock.now());
    let current = match last {
        Some(lease) => Some(lease),
        None => agent.client.find::<Lease>(NAMESPACE, name).await?,
    };
    match current {
        Some(lease) => {
            let mut next = (*lease).clone();
            next.spec.get_or_insert_with(LeaseSpec::default).renew_time = Some(MicroTime(now));
            agent.client.update(next).await
        }
        None => {
            // A lease belongs to its node, so that it goes with it.
            let node = agent.client.get::<Node>("", name).await?;
            let owner = OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.clone(),
                uid: node.uid().to_owned(),
                ..Default::default()
            };
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(NAMESPACE.into()),
                    owner_references: Some(vec![owner]),
                    ..Default::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(name.clone()),
                    lease_duration_seconds: Some(DURATION_SECONDS),
                    renew_time: Some(MicroTime(now)),
                    ..Default::default()
                }),
            };
            agent.client.create(lease).await
        }
    }
}

/// The API's finer times have microseconds.
fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
