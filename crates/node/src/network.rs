//! What the node agent asks of the pods' network, whoever makes it.

use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Pod;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// The condition of a Node that says whether NetworkPolicies hold there. It is not one of upstream's, whose network
/// plugins do not say.
pub const CONDITION: &str = "NetworkPolicyEnforced";

/// The network of the node's pods.
pub trait Network: Send + Sync + 'static {
    /// Returns once what isolates the pod at these addresses is in effect, so that its containers may begin; at once if
    /// nothing does. Bounded. There is at least one address.
    ///
    /// # Errors
    /// Why it is not in effect. Retryable.
    fn admit(&self, pod: Arc<Pod>, ips: Vec<IpAddr>) -> BoxFuture<'static, Result<(), String>>;

    /// The pod's network has been taken away: nothing has to isolate it any more. Until then it stays isolated,
    /// whatever the API says of it.
    fn release(&self, pod: &Pod);

    /// What the node says of network policies, as a condition of its own.
    fn enforcement(&self) -> watch::Receiver<Enforcement>;
}

/// The addresses of a pod's sandbox as the runtime tells them. What is not known cannot be isolated.
///
/// # Errors
/// There is none, or one cannot be read.
pub(crate) fn addresses(told: &[String]) -> Result<Vec<IpAddr>, String> {
    if told.is_empty() {
        return Err("the container runtime tells no address of the pod's sandbox".into());
    }
    let read = |text: &String| {
        let ip = text.parse();
        ip.map_err(|_| format!("the container runtime tells an address of the pod's sandbox that is none: {text:?}"))
    };
    told.iter().map(read).collect()
}

/// Whether NetworkPolicies hold on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// `None`: it is not known yet.
    pub whole: Option<bool>,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_all_known_or_none_is() {
        let told = |ips: &[&str]| addresses(&ips.iter().map(ToString::to_string).collect::<Vec<_>>());
        let both = ["10.42.0.2", "fd00::2"];
        assert_eq!(told(&both).unwrap(), both.map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(told(&[]).unwrap_err(), "the container runtime tells no address of the pod's sandbox");
        let wrong = "the container runtime tells an address of the pod's sandbox that is none: \"10.42.0.2/24\"";
        assert_eq!(told(&["fd00::2", "10.42.0.2/24"]).unwrap_err(), wrong);
    }
}
