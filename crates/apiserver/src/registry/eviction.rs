//! `pods/eviction`: deletes a pod, unless the disruption budget that guards it forbids.
//!
//! Upstream: pkg/registry/core/pod/storage/eviction.go. Its waits between tries are not needed: a try that comes too
//! late decides on the version that was faster.

use api::core::v1::{Pod, PodCondition};
use api::meta::v1::{DeleteOptions, Preconditions, StatusCause, Time};
use api::policy::v1::{Eviction, PodDisruptionBudget, PodDisruptionBudgetStatus};
use api::status::MODIFIED;
use api::{Body, LabelSelector, Object, Reason, Status, Target, Timestamp, Typed};

use super::finish::Written;
use super::{Context, Phase, metadata, pod};
use crate::answer::Answer;

/// How often an eviction is decided anew because a pod or budget changed under it.
const TRIES_MAX: usize = 20;
/// Evictions that the disruption controller has not noticed yet, at most.
const DISRUPTED_PODS_LEN_MAX: usize = 2000;
/// When a client is to come back whose budget is still being worked on.
const RETRY_SECONDS: i32 = 10;

/// What the budgets say to an eviction.
enum Verdict {
    /// No budget, or it was told.
    Go,
    /// The pod counts for nothing as long as it stays as it is; the budget's name.
    GoAsItIs(String),
}

impl Context<'_> {
    pub(super) async fn evict(&mut self, body: &Body) -> Result<Answer, Status> {
        let mut eviction: Eviction = pod::decoded(self, body)?;
        if eviction.name() != self.name() {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let pod = self.resource.object(&*self.existing().await?)?;
        eviction = self.admit_body(Phase::Mutate, eviction, Some(&pod)).await?;
        eviction = self.admit_body(Phase::Validate, eviction, Some(&pod)).await?;
        let wanted: DeleteOptions = eviction.delete_options.unwrap_or_default();
        let mut options = self.options.clone();
        options.dry_run |= wanted.dry_run.as_ref().is_some_and(|all| !all.is_empty());
        let mut pods = self.beside(self.resource, self.cache, self.target, &options, "");
        let result = pods.evict_pod(wanted).await;
        let warnings = std::mem::take(&mut pods.warnings);
        self.warnings.extend(warnings);
        result.map(|()| pod::done())
    }

    /// The same request about another object.
    pub(super) fn beside<'b>(
        &self,
        resource: &'b std::sync::Arc<crate::catalog::Resource>,
        cache: &'b std::sync::Arc<crate::cache::Cache>,
        target: &'b Target,
        options: &'b api::Options,
        subresource: &'b str,
    ) -> Context<'b>
    where
        Self: 'b,
    {
        let mut beside = Context::new(self.server, self.caller, (resource, cache), target, options, subresource);
        beside.trail = self.trail;
        beside
    }

    async fn evict_pod(&mut self, wanted: DeleteOptions) -> Result<(), Status> {
        let names_version = version_of(&wanted).is_some();
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let pod = self.pod().await?;
            if !is_unguarded(&pod) {
                return self.evict_guarded(&pod, wanted).await;
            }
            let mut options = wanted.clone();
            // It may have become ready meanwhile, and then counts.
            if is_pending(&pod) && !names_version {
                expect_version(&mut options, &pod);
            }
            match self.condemn(options).await {
                Err(status) if status.is(Reason::Conflict) && !names_version => last = Some(status),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| self.conflict(MODIFIED)))
    }

    async fn pod(&self) -> Result<Pod, Status> {
        let object = self.existing().await?.object_to_change()?;
        object.into_any_box().downcast().map(|pod| *pod).map_err(|_| Status::unknown_resource())
    }

    async fn evict_guarded(&mut self, pod: &Pod, wanted: DeleteOptions) -> Result<(), Status> {
        match self.ask_budget(pod).await? {
            Verdict::Go => self.condemn(wanted).await,
            Verdict::GoAsItIs(budget) => {
                let names_version = version_of(&wanted).is_some();
                let mut options = wanted;
                expect_version(&mut options, pod);
                match self.condemn(options).await {
                    Err(status) if status.is(Reason::Conflict) && !names_version => Err(in_progress(&budget)),
                    other => other,
                }
            }
        }
    }

    async fn ask_budget(&self, pod: &Pod) -> Result<Verdict, Status> {
        self.server.caches().wait_fresh().await?;
        let lookup = self.server.lookup();
        let mut budgets = lookup.list::<PodDisruptionBudget>(Some(pod.namespace()));
        budgets.retain(|budget| {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            LabelSelector::from_api(selector)
                .is_ok_and(|selector| selector.matches_labels(pod.metadata.labels.as_ref()))
        });
        let [budget] = budgets.as_slice() else {
            return match budgets.as_slice() {
                [] => Ok(Verdict::Go),
                _ => Err(super::read::plain(
                    Reason::InternalError,
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                )),
            };
        };
        if !is_ready(pod) && needs_no_budget(budget) {
            return Ok(Verdict::GoAsItIs(budget.name().to_owned()));
        }
        self.take_from(budget.name(), pod.name()).await?;
        Ok(Verdict::Go)
    }

    /// Takes one disruption from a budget, by compare-and-swap.
    async fn take_from(&self, budget: &str, pod: &str) -> Result<(), Status> {
        let catalog = &self.server.lookup().catalog;
        let resource = catalog.of_kind(PodDisruptionBudget::KIND).ok_or_else(Status::unknown_resource)?;
        let cache = resource.cache("get")?;
        let target = Target {
            group: PodDisruptionBudget::KIND.group.into(),
            resource: PodDisruptionBudget::KIND.plural.into(),
            subresource: Some("status".into()),
            name: Some(budget.to_owned()),
            ..self.target.clone()
        };
        let budgets = self.beside(resource, cache, &target, self.options, "status");
        for _ in 0..TRIES_MAX {
            let entry = budgets.existing().await?;
            let mut object = entry.object_to_change()?;
            let changed: &mut PodDisruptionBudget =
                object.as_any_mut().downcast_mut().ok_or_else(Status::unknown_resource)?;
            take(changed, pod, metadata::whole_second(self.server.now()))?;
            if let Written::Done(_) = budgets.store_changed(&entry, object).await? {
                return Ok(());
            }
        }
        Err(budgets.conflict(MODIFIED))
    }

    /// Says on the pod why it goes, and deletes it.
    async fn condemn(&mut self, mut options: DeleteOptions) -> Result<(), Status> {
        if !self.options.dry_run {
            let version = self.mark(&options).await?;
            if let Some(expected) = options.preconditions.as_mut().and_then(|wanted| wanted.resource_version.as_mut()) {
                *expected = version;
            }
        }
        self.delete(&Body::Delete(Box::new(options))).await.map(drop)
    }

    /// Sets the condition that tells of the disruption; the pod's version with it.
    async fn mark(&self, options: &DeleteOptions) -> Result<String, Status> {
        for _ in 0..TRIES_MAX {
            let entry = self.existing().await?;
            let mut object = entry.object_to_change()?;
            check_preconditions(options, &*object)?;
            let pod: &mut Pod = object.as_any_mut().downcast_mut().ok_or_else(Status::unknown_resource)?;
            set_disrupted(pod, metadata::whole_second(self.server.now()));
            if let Written::Done(entry) = self.store_changed(&entry, object).await? {
                return Ok(entry.revision.to_string());
            }
        }
        Err(self.conflict(MODIFIED))
    }
}

fn version_of(options: &DeleteOptions) -> Option<&str> {
    options.preconditions.as_ref()?.resource_version.as_deref()
}

fn expect_version(options: &mut DeleteOptions, pod: &Pod) {
    let wanted = options.preconditions.get_or_insert_with(Preconditions::default);
    wanted.resource_version.clone_from(&pod.metadata.resource_version);
}

fn check_preconditions(options: &DeleteOptions, pod: &dyn Object) -> Result<(), Status> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(uid) = given(&wanted.uid).filter(|uid| uid != pod.uid()) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            pod.uid()
        );
        return Err(Status::conflict("", "Pod", pod.name(), &why));
    }
    if let Some(version) = given(&wanted.resource_version).filter(|version| version != pod.resource_version()) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            pod.resource_version()
        );
        return Err(Status::conflict("", "Pod", pod.name(), &why));
    }
    Ok(())
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether a pod runs for nobody: it has finished, has not begun, or goes already.
fn is_unguarded(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed" | "Pending") || pod.is_terminating()
}

fn is_pending(pod: &Pod) -> bool {
    phase(pod) == "Pending" && !pod.is_terminating()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a pod that is not ready may go without asking how many disruptions are left.
fn needs_no_budget(budget: &PodDisruptionBudget) -> bool {
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let status = budget.status.clone().unwrap_or_default();
    let (healthy, desired) = (status.current_healthy.unwrap_or_default(), status.desired_healthy.unwrap_or_default());
    policy == Some("AlwaysAllow") || (healthy >= desired && desired > 0)
}

fn too_many(cause: String, retry_seconds: i32) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_seconds);
    let cause = StatusCause { reason: Some("DisruptionBudget".to_owned()), message: Some(cause), field: None };
    status.0.details.get_or_insert_default().causes = Some(vec![cause]);
    status
}

fn in_progress(budget: &str) -> Status {
    too_many(format!("The disruption budget {budget} is still being processed by the server."), RETRY_SECONDS)
}

/// Writes into a budget that a pod is about to go; the error says why it may not.
fn take(budget: &mut PodDisruptionBudget, pod: &str, now: Timestamp) -> Result<(), Status> {
    let name = budget.name().to_owned();
    let generation = budget.metadata.generation.unwrap_or_default();
    let status: &mut PodDisruptionBudgetStatus = budget.status.get_or_insert_default();
    if status.observed_generation.unwrap_or_default() < generation {
        return Err(in_progress(&name));
    }
    let allowed = status.disruptions_allowed.unwrap_or_default();
    let forbidden = |why: &str| Err(Status::forbidden("policy", "poddisruptionbudget", &name, why));
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > DISRUPTED_PODS_LEN_MAX) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let cause = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status.desired_healthy.unwrap_or_default(),
            status.current_healthy.unwrap_or_default()
        );
        return Err(too_many(cause, 0));
    }
    status.disruptions_allowed = Some(allowed - 1);
    if allowed == 1 {
        api::disruption::set_allowed(status, now);
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), Time(now));
    Ok(())
}

fn set_disrupted(pod: &mut Pod, now: Timestamp) {
    let observed_generation = pod.metadata.generation;
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let known = conditions.iter().position(|condition| condition.type_ == "DisruptionTarget");
    let since = known.map(|index| &conditions[index]).filter(|condition| condition.status == "True");
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        last_transition_time: since.map_or(Some(Time(now)), |condition| condition.last_transition_time.clone()),
        observed_generation,
        ..Default::default()
    };
    match known {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(status: Value) -> PodDisruptionBudget {
        PodDisruptionBudget::from_value(json!({"metadata": {"name": "b", "generation": 2}, "status": status})).unwrap()
    }

    #[test]
    fn a_disruption_is_taken_once() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut budget =
            budget(json!({"observedGeneration": 2, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1}));
        take(&mut budget, "p", now).unwrap();
        let status = budget.status.clone().unwrap();
        assert_eq!(status.disruptions_allowed, Some(0));
        assert_eq!(status.disrupted_pods.unwrap()["p"].0, now);
        assert_eq!(status.conditions.unwrap()[0].reason, "InsufficientPods");
        let refused = take(&mut budget, "q", now).unwrap_err();
        let details = refused.0.details.clone().unwrap();
        assert_eq!((refused.code(), details.retry_after_seconds), (429, None));
        assert_eq!(
            details.causes.unwrap()[0].message.as_deref(),
            Some("The disruption budget b needs 1 healthy pods and has 2 currently")
        );
    }

    #[test]
    fn a_budget_that_is_not_worked_out_yet_answers_later() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let refused = take(&mut budget(json!({"observedGeneration": 1, "disruptionsAllowed": 5})), "p", now);
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), refused.0.details.unwrap().retry_after_seconds), (429, Some(10)));
        let refused = take(&mut budget(json!({"observedGeneration": 2, "disruptionsAllowed": -1})), "p", now);
        assert_eq!(
            refused.unwrap_err().message(),
            "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative"
        );
    }

    #[test]
    fn unhealthy_pods_of_a_healthy_application_are_free() {
        let needs = |policy: Value, healthy: i32, desired: i32| {
            let mut budget = budget(json!({"currentHealthy": healthy, "desiredHealthy": desired}));
            budget.spec = serde_json::from_value(json!({"unhealthyPodEvictionPolicy": policy})).unwrap();
            !needs_no_budget(&budget)
        };
        assert!(!needs(Value::Null, 1, 1) && needs(Value::Null, 0, 1) && needs(Value::Null, 0, 0));
        assert!(!needs(json!("AlwaysAllow"), 0, 1) && needs(json!("IfHealthyBudget"), 0, 1));
    }
}
