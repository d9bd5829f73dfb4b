//! What all controllers share. A controller declares what it reads and writes and decides with a pure function; the
//! harness follows the API, queues keys, carries plans out, and comes back when something fails.
//!
//! A key is reconciled by one worker at a time, and never against a view older than the harness's own last write for
//! that key ([`pending`]): so a plan is never made twice for want of seeing its own effect.

mod act;
mod execute;
mod pending;
mod plan;
mod read;

use std::sync::Arc;
use std::time::Duration;

use api::rbac::v1::{ClusterRole, PolicyRule};
use api::{Target, Typed};
use base::{Clock, Random, TaskGroup};
use client::{Client, Recorder, Reflectors, Served, WorkQueue};
use pki::Issuer;
use tokio::sync::watch;

pub use act::{Acting, Actor};
pub use plan::{Op, Plan, Report, Step};
pub use read::{Answered, Read, View, node_of};

/// Failed keys return after 5 ms, doubling to 1000 s (client-go's defaults).
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(1000);
/// How long a worker waits for the view to catch up with its own writes before it goes on regardless.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// How many objects one decision may ask for.
pub const ASKED_LEN_MAX: usize = 64;

/// What controllers are started with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Shared by all controllers of the process.
    pub reflectors: Reflectors,
    /// The client to write with, by controller name: each has an identity of its own.
    pub client_for: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    pub facts: Arc<Facts>,
    /// With what CertificateSigningRequests are signed; without it they wait for somebody else.
    pub signing: Option<Arc<Signing>>,
    /// Every resource there is, custom ones included.
    pub served: Served,
    pub clock: Clock,
    pub random: Random,
    pub tasks: TaskGroup,
}

/// What controllers must know of the cluster and cannot read from it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The CAs that pods check the API server with, PEM; they may be replaced.
    pub root_ca: watch::Receiver<String>,
    /// The pod network, of which nodes get their ranges; empty if somebody else gives them out.
    pub cluster_cidrs: Vec<String>,
    /// The names and addresses that the API server's own certificate is for: no node may have one for them.
    pub api_server_names: Vec<String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self { root_ca: watch::channel(String::new()).1, cluster_cidrs: Vec::new(), api_server_names: Vec::new() }
    }
}

/// The CA of the signers `kubernetes.io/...`, and its bounds.
#[derive(Debug)]
pub struct Signing {
    pub issuer: Arc<Issuer>,
    /// The longest life of a certificate that is signed on request.
    pub valid_max: Duration,
}

/// Verbs a controller needs on a resource, from which its ClusterRole is made.
#[derive(Debug, Clone)]
pub struct Write {
    pub group: &'static str,
    /// With the subresource, as RBAC has it (`deployments/status`).
    pub resource: String,
    pub verbs: &'static [&'static str],
}

impl Write {
    /// Verbs on the objects of a kind.
    pub fn of<T: Typed>(verbs: &'static [&'static str]) -> Self {
        Self { group: T::KIND.group, resource: T::KIND.plural.to_owned(), verbs }
    }

    /// Updates of the status of a kind's objects.
    pub fn status<T: Typed>() -> Self {
        Self::subresource::<T>("status", &["update", "patch"])
    }

    fn rule(&self) -> PolicyRule {
        PolicyRule {
            api_groups: Some(vec![self.group.to_owned()]),
            resources: Some(vec![self.resource.clone()]),
            verbs: self.verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            ..Default::default()
        }
    }

    /// Verbs on a subresource.
    pub fn subresource<T: Typed>(name: &str, verbs: &'static [&'static str]) -> Self {
        Self { group: T::KIND.group, resource: format!("{}/{name}", T::KIND.plural), verbs }
    }
}

/// One controller.
pub trait Controller: Send + Sync + 'static {
    /// As upstream names it, `replicaset-controller`: its service account and the source of its events.
    const NAME: &'static str;
    /// The kind whose objects are reconciled.
    type Primary: Typed;
    /// Keys reconciled at the same time.
    const WORKERS: usize = 4;
    /// Of the primary kind, only the objects that this field selector matches; empty: all of them.
    const SELECTOR: &'static str = "";
    /// Whether its service account has a ClusterRole made of what it reads and writes. Without one its default Roles
    /// must be enough to write by.
    const CLUSTER_ROLE: bool = true;

    /// What else is read, and how its changes map to keys of the primary kind.
    fn reads() -> Vec<Read>;
    /// What is written.
    fn writes() -> Vec<Write>;
    /// What must be asked of the API before deciding, one after another in this order, because nobody follows it or the
    /// view may be behind: the answers are [`View::answer`]. Pure; of more than [`ASKED_LEN_MAX`] the rest is left out.
    fn asks(&self, _primary: &Arc<Self::Primary>, _view: &View<'_>) -> Vec<Target> {
        Vec::new()
    }
    /// Decides. Pure: the same object, view and time give the same plan.
    fn plan(&self, primary: &Arc<Self::Primary>, view: &View<'_>, now: api::Timestamp) -> Plan;
    /// Decides about a key whose object is gone.
    fn plan_gone(&self, _key: &str, _view: &View<'_>, _now: api::Timestamp) -> Plan {
        Plan::default()
    }
}

/// A [`Controller`] behind one vtable, or a service of another shape (garbage collection).
pub trait AnyController: Send + Sync {
    fn name(&self) -> &'static str;
    /// The rules its service account needs; none: it has no ClusterRole.
    fn rules(&self) -> Vec<PolicyRule>;
    /// Starts it; it ends with `context.tasks`.
    fn start(&'static self, context: Context);
}

/// Turns a [`Controller`] into an [`AnyController`]: `&Erased(deployment::Controller)` is a line of `ALL`.
pub struct Erased<C>(pub C);

impl<C: Controller> AnyController for Erased<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn rules(&self) -> Vec<PolicyRule> {
        if !C::CLUSTER_ROLE {
            return Vec::new();
        }
        let mut rules: Vec<PolicyRule> = C::reads().iter().map(|read| rule(read.kind(), "", READ)).collect();
        rules.push(rule(C::Primary::KIND, "", READ));
        rules.extend(C::writes().iter().map(Write::rule));
        rules.push(events_rule());
        rules
    }

    fn start(&'static self, context: Context) {
        let queue = WorkQueue::new(RETRY_FIRST, RETRY_MAX);
        read::follow::<C::Primary>(&context, &queue, C::NAME, C::SELECTOR);
        for read in C::reads() {
            read.follow(&context, &queue);
        }
        let client = (context.client_for)(C::NAME);
        let recorder = Recorder::start(client.clone(), C::NAME, "", context.clock, &context.tasks);
        let pending = Arc::new(pending::Pending::default());
        for _ in 0..C::WORKERS {
            let worker = execute::Worker {
                context: context.clone(),
                queue: queue.clone(),
                client: client.clone(),
                recorder: recorder.clone(),
                pending: pending.clone(),
                writes: C::writes(),
            };
            context.tasks.supervise(C::NAME, move || execute::work(&self.0, worker.clone()));
        }
    }
}

const READ: &[&str] = &["get", "list", "watch"];

/// A rule for verbs on a kind (`subresource` may be empty).
pub fn rule(kind: &api::Kind, subresource: &str, verbs: &[&str]) -> PolicyRule {
    let resource =
        if subresource.is_empty() { kind.plural.to_owned() } else { format!("{}/{subresource}", kind.plural) };
    PolicyRule {
        api_groups: Some(vec![kind.group.to_owned()]),
        resources: Some(vec![resource]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..Default::default()
    }
}

/// Every controller may write events.
pub fn events_rule() -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![String::new(), "events.k8s.io".to_owned()]),
        resources: Some(vec!["events".to_owned()]),
        verbs: ["create", "patch", "update"].map(str::to_owned).to_vec(),
        ..Default::default()
    }
}

/// The ClusterRole `system:controller:<name>` of a controller, if it has one.
pub fn role(controller: &dyn AnyController) -> Option<ClusterRole> {
    let rules = Some(controller.rules()).filter(|rules| !rules.is_empty())?;
    let name = Some(format!("system:controller:{}", controller.name()));
    let metadata = api::meta::v1::ObjectMeta { name, ..Default::default() };
    Some(ClusterRole { metadata, rules: Some(rules), ..Default::default() })
}
