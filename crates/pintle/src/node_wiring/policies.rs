//! The node agent's view of network policies: when a pod may begin, and what the node says of them.

use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Pod;
use base::TaskGroup;
use futures_util::future::BoxFuture;
use net::policy;
use node::network::Enforcement;
use tokio::sync::watch;

/// Network policies as the node agent sees them.
pub struct Network {
    policies: policy::Handle,
    told: watch::Receiver<Enforcement>,
}

impl Network {
    /// Follows what the policies' actor says.
    pub fn start(policies: &policy::Handle, tasks: &TaskGroup) -> Self {
        let mut seen = policies.enforcement();
        let (tell, told) = watch::channel(said(&seen.borrow_and_update()));
        tasks.spawn("network policies' condition", async move {
            // It ends with the actor, and then there is nothing more to say.
            while seen.changed().await.is_ok() {
                let now = said(&seen.borrow_and_update());
                tell.send_replace(now);
            }
        });
        Self { policies: policies.clone(), told }
    }
}

impl node::Network for Network {
    fn admit(&self, pod: Arc<Pod>, ips: Vec<IpAddr>) -> BoxFuture<'static, Result<(), String>> {
        let mut policies = self.policies.clone();
        Box::pin(async move { policies.admit(&pod, &ips).await })
    }

    fn release(&self, pod: &Pod) {
        self.policies.release(pod);
    }

    fn enforcement(&self) -> watch::Receiver<Enforcement> {
        self.told.clone()
    }
}

fn said(enforcement: &policy::Enforcement) -> Enforcement {
    let (whole, reason, message) = match enforcement {
        policy::Enforcement::Starting => {
            (None, "Starting", "NetworkPolicies, namespaces and pods have not all been listed yet".to_owned())
        }
        policy::Enforcement::Whole => (Some(true), "PoliciesApplied", "NetworkPolicies are enforced".to_owned()),
        policy::Enforcement::Partial(why) => (Some(false), "PoliciesPartlyApplied", why.clone()),
        policy::Enforcement::Failing(why) => (Some(false), "PoliciesNotApplied", why.clone()),
    };
    Enforcement { whole, reason, message }
}
