//! The authorizers of a server in their order, which a new configuration may replace while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use api::rbac::v1::PolicyRule;
use arc_swap::ArcSwap;
use base::{Clock, Random, TaskGroup};
use futures_util::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::config::{Configuration, Kind};
use super::figures::Figures;
use super::webhook::Webhook;
use super::{AlwaysAllowHealth, Attributes, Authorizer, Decision, Node, Privileged, Rbac, Rules, rule};
use crate::{Caller, Lookup};

/// One authorizer, with what it decided.
struct Named {
    mode: &'static str,
    authorizer: Arc<dyn Authorizer>,
    allowed: Counter,
    denied: Counter,
}

/// Health endpoints and `system:masters` first, then what is configured.
pub struct Chain {
    always: [Arc<dyn Authorizer>; 2],
    configured: ArcSwap<Vec<Named>>,
    /// These keep what they have compiled when the configuration changes.
    node: Arc<Node>,
    rbac: Arc<Rbac>,
    clock: Clock,
    random: Random,
    figures: Figures,
}

impl Chain {
    /// With upstream's own order: nodes, then RBAC.
    pub fn standard(clock: Clock, random: Random) -> Self {
        let chain = Self {
            always: [Arc::new(AlwaysAllowHealth), Arc::new(Privileged)],
            configured: ArcSwap::default(),
            node: Arc::default(),
            rbac: Arc::default(),
            clock,
            random,
            figures: Figures::default(),
        };
        chain.apply(&Configuration::standard()).expect("nothing in it can be wrong");
        chain
    }

    /// Decides by this from now on.
    ///
    /// # Errors
    /// What a webhook's kubeconfig lacks; then everything stays as it was.
    pub fn apply(&self, configuration: &Configuration) -> Result<(), String> {
        let mut all = Vec::new();
        for one in &configuration.authorizers {
            let authorizer: Arc<dyn Authorizer> = match &one.kind {
                Kind::Node => self.node.clone(),
                Kind::Rbac => self.rbac.clone(),
                Kind::AlwaysAllow => Arc::new(AlwaysAllow),
                Kind::AlwaysDeny => Arc::new(AlwaysDeny),
                Kind::Webhook(settings) => {
                    let made = Webhook::new(settings, self.clock, self.random.clone(), self.figures.clone());
                    Arc::new(made?)
                }
            };
            let (allowed, denied) = self.figures.decisions(one.kind.name(), &one.name);
            all.push(Named { mode: one.kind.name(), authorizer, allowed, denied });
        }
        self.configured.store(Arc::new(all));
        Ok(())
    }

    /// Counts how often the file was taken or refused after it changed.
    pub fn reloads(&self) -> tokio::sync::watch::Receiver<u64> {
        self.figures.reloads.outcomes()
    }

    /// Decides by the file from now on, and follows it. `server_id` tells servers apart in figures.
    ///
    /// # Errors
    /// What is wrong with the file at the start.
    pub fn follow(self: &Arc<Self>, path: PathBuf, server_id: &str, tasks: &TaskGroup) -> Result<(), String> {
        let failed = |why: String| format!("failed to load AuthorizationConfiguration from file: {why}");
        let text = crate::reload::read(&path).map_err(failed)?;
        self.apply(&Configuration::decode(&text)?)?;
        self.figures.reloads.started(server_id, &text);
        let chain = self.clone();
        tasks.spawn("authorization configuration", async move {
            let apply = |text: &[u8]| chain.apply(&Configuration::decode(text)?);
            crate::reload::follow(&path, text, chain.clock, &chain.figures.reloads, apply).await;
        });
        Ok(())
    }
}

/// What several authorizers said so far.
#[derive(Default)]
struct Heard {
    reasons: Vec<String>,
    errors: Vec<String>,
}

impl Heard {
    /// The decision, if it is one that ends the asking.
    fn hear(&mut self, decision: Decision) -> Option<Decision> {
        match decision {
            Decision::NoOpinion(reason) if reason.is_empty() => None,
            Decision::NoOpinion(reason) => {
                self.reasons.push(reason);
                None
            }
            Decision::Failed { why, denies: false } => {
                self.errors.push(why);
                None
            }
            decision => Some(decision),
        }
    }

    fn end(self) -> Decision {
        if self.errors.is_empty() {
            return Decision::NoOpinion(self.reasons.join("\n"));
        }
        Decision::Failed { why: rule::aggregate(&self.errors), denies: false }
    }
}

impl Named {
    fn count(&self, decision: &Decision) {
        match decision {
            Decision::Allow(_) => drop(self.allowed.inc()),
            Decision::Deny(_) | Decision::Failed { denies: true, .. } => drop(self.denied.inc()),
            _ => {}
        }
    }
}

impl Authorizer for Chain {
    fn authorize(&self, attributes: &Attributes<'_>, lookup: &Lookup) -> Decision {
        let mut heard = Heard::default();
        for authorizer in &self.always {
            if let Some(end) = heard.hear(authorizer.authorize(attributes, lookup)) {
                return end;
            }
        }
        for one in self.configured.load().iter() {
            let decision = one.authorizer.authorize(attributes, lookup);
            one.count(&decision);
            if let Some(end) = heard.hear(decision) {
                return end;
            }
        }
        heard.end()
    }

    fn ask<'a>(&'a self, attributes: &'a Attributes<'a>, lookup: &'a Lookup) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            let mut heard = Heard::default();
            for authorizer in &self.always {
                if let Some(end) = heard.hear(authorizer.authorize(attributes, lookup)) {
                    return end;
                }
            }
            for one in self.configured.load_full().iter() {
                let decision = match one.authorizer.waits() {
                    true => one.authorizer.ask(attributes, lookup).await,
                    false => one.authorizer.authorize(attributes, lookup),
                };
                one.count(&decision);
                if let Some(end) = heard.hear(decision) {
                    return end;
                }
            }
            heard.end()
        })
    }

    fn rules(&self, caller: &Caller, namespace: &str, lookup: &Lookup) -> Rules {
        let mut all = Rules::default();
        let mut add = |rules: Rules| {
            all.rules.extend(rules.rules);
            all.errors.extend(rules.errors);
            all.incomplete |= rules.incomplete;
        };
        self.always.iter().for_each(|one| add(one.rules(caller, namespace, lookup)));
        self.configured.load().iter().for_each(|one| add(one.authorizer.rules(caller, namespace, lookup)));
        all
    }

    fn register(&self, registry: &mut Registry) {
        self.figures.register(registry);
    }

    fn modes(&self) -> Vec<&'static str> {
        self.configured.load().iter().map(|one| one.mode).collect()
    }
}

/// Lets everybody do everything.
#[derive(Debug, Default, Clone, Copy)]
struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize(&self, _attributes: &Attributes<'_>, _lookup: &Lookup) -> Decision {
        Decision::Allow(String::new())
    }

    fn rules(&self, _caller: &Caller, _namespace: &str, _lookup: &Lookup) -> Rules {
        let all: Vec<PolicyRule> = vec![rule::resources(&["*"], &["*"], &["*"]), rule::paths(&["*"], &["*"])];
        Rules { rules: all, ..Rules::default() }
    }
}

/// Lets nobody do anything that no authorizer before it allowed.
#[derive(Debug, Default, Clone, Copy)]
struct AlwaysDeny;

impl Authorizer for AlwaysDeny {
    fn authorize(&self, _attributes: &Attributes<'_>, _lookup: &Lookup) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".to_owned())
    }
}
