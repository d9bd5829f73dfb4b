//! The node's conditions, in upstream's reasons and words. Pure.

use api::core::v1::NodeCondition;
use base::Timestamp;
use cri::v1;

use super::machine::Pressure;
use super::time;
use crate::network::{CONDITION, Enforcement};

/// What the conditions are read from.
pub struct Reading<'a> {
    pub runtime: &'a cri::Result<v1::StatusResponse>,
    pub machine: &'a Pressure,
    /// What is known of network policies; `None`: they are somebody else's to enforce.
    pub policies: Option<&'a Enforcement>,
}

/// All conditions, `Ready` behind upstream's others and what is not upstream's last; times of transition are kept from
/// `old`.
pub fn conditions(reading: &Reading<'_>, old: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let machine = reading.machine;
    let pressure = |type_, holds: bool, yes: (&str, &str), no: (&str, &str)| {
        let (reason, message) = if holds { yes } else { no };
        condition(type_, holds, reason, message.to_owned(), old, now)
    };
    let problems = problems(reading.runtime);
    let (ready, reason, message) = if problems.is_empty() {
        (true, "KubeletReady", "kubelet is posting ready status".to_owned())
    } else if problems.len() == 1 {
        (false, "KubeletNotReady", problems[0].clone())
    } else {
        (false, "KubeletNotReady", format!("[{}]", problems.join(", ")))
    };
    let mut all = vec![
        pressure(
            "MemoryPressure",
            machine.memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            machine.disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            machine.pid,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        condition("Ready", ready, reason, message, old, now),
    ];
    if let Some(Enforcement { whole, reason, message }) = reading.policies {
        let status = whole.map_or("Unknown", |whole| if whole { "True" } else { "False" });
        all.push(condition_of(CONDITION, status, reason, message.clone(), old, now));
    }
    all
}

/// Why the node is not ready.
fn problems(runtime: &cri::Result<v1::StatusResponse>) -> Vec<String> {
    let status = match runtime {
        Ok(answer) => answer.status.clone().unwrap_or_default(),
        Err(error) => return vec![format!("container runtime is down: {error}")],
    };
    let find = |type_: &str| status.conditions.iter().find(|c| c.r#type == type_);
    let mut problems = Vec::new();
    for (type_, prefix) in
        [("RuntimeReady", "container runtime not ready"), ("NetworkReady", "container runtime network not ready")]
    {
        match find(type_) {
            Some(c) if c.status => {}
            Some(c) => {
                problems.push(format!("{prefix}: {type_}=false reason:{} message:{}", c.reason, c.message));
            }
            None => problems.push(format!("{prefix}: {type_} is not known")),
        }
    }
    problems
}

fn condition(
    type_: &str,
    holds: bool,
    reason: &str,
    message: String,
    old: &[NodeCondition],
    now: Timestamp,
) -> NodeCondition {
    condition_of(type_, if holds { "True" } else { "False" }, reason, message, old, now)
}

fn condition_of(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    old: &[NodeCondition],
    now: Timestamp,
) -> NodeCondition {
    let same = old.iter().find(|c| c.type_ == type_ && c.status == status);
    NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(time(now)),
        last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(time(now))),
    }
}

/// Whether the conditions say that the node is ready.
pub fn is_ready(conditions: &[NodeCondition]) -> bool {
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(network: bool) -> cri::Result<v1::StatusResponse> {
        let condition = |type_: &str, status: bool| v1::RuntimeCondition {
            r#type: type_.into(),
            status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        let conditions = vec![condition("RuntimeReady", true), condition("NetworkReady", network)];
        Ok(v1::StatusResponse { status: Some(v1::RuntimeStatus { conditions }), ..Default::default() })
    }

    #[test]
    fn what_is_known_of_network_policies_is_a_condition_of_its_own() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let of = |whole, message: &str, old: &[NodeCondition], at| {
            let policies = Enforcement { whole, reason: "Reason", message: message.into() };
            let reading = Reading { runtime: &status(true), machine: &Pressure::default(), policies: Some(&policies) };
            conditions(&reading, old, at)
        };
        let unknown = of(None, "", &[], now);
        assert_eq!((unknown[4].type_.as_str(), unknown[4].status.as_str()), (CONDITION, "Unknown"));
        let part = of(Some(false), "not all", &unknown, later);
        assert_eq!((part[4].status.as_str(), part[4].message.as_deref()), ("False", Some("not all")));
        assert_ne!(part[4].last_transition_time, unknown[4].last_transition_time);
        assert_eq!(of(Some(true), "", &[], now)[4].status, "True");
        assert!(is_ready(&part), "a node that cannot enforce them says so, and runs pods that have none");
    }

    #[test]
    fn readiness_follows_the_runtime() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let of = |runtime: &cri::Result<v1::StatusResponse>, old: &[NodeCondition], at| {
            conditions(&Reading { runtime, machine: &Pressure::default(), policies: None }, old, at)
        };
        let up = of(&status(true), &[], now);
        assert!(is_ready(&up));
        let still = of(&status(true), &up, later);
        assert_eq!(still[3].last_transition_time, up[3].last_transition_time);
        assert_ne!(still[3].last_heartbeat_time, up[3].last_heartbeat_time);
        let down = of(&status(false), &up, later);
        assert!(!is_ready(&down));
        assert_eq!(
            down[3].message.as_deref(),
            Some(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                 message:cni plugin not initialized"
            )
        );
        assert_ne!(down[3].last_transition_time, up[3].last_transition_time);
        assert!(!is_ready(&of(&Err(cri::Error::Deadline), &up, later)));
    }
}
