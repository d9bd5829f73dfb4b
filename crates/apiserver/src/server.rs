//! The request pipeline, apart from any transport: authorization, then flow control, then the registry (with admission
//! inside). HTTP and in-process callers take the same way; for none of them a step is left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Call, Status, Target, Verb};
use base::{Clock, Random, TaskGroup};
use resources::AnyStrategy;
use store::Store;

use crate::aggregation::{self, Aggregation};
use crate::answer::{Answer, WatchStream};
use crate::authn::Authenticator;
use crate::authz::{Attributes, Authorizer, Decision, What};
use crate::cache::{Caches, Filter, WatchOptions, Watcher};
use crate::catalog::{Catalog, Resource};
use crate::custom::{self, follow::Customs};
use crate::discovery::{self, Documents, Served};
use crate::drain::Drain;
use crate::enablement::Enablement;
use crate::flow::queue_set::Work;
use crate::flow::{self, Arriving, Flow};
use crate::http::metrics::Metrics;
use crate::{Caller, Lookup, Outbound, admission, audit, authn, authz, certificates, registry, seal};

/// Shortest default life of a watch without `timeoutSeconds`; the longest is twice that (upstream's
/// `--min-request-timeout`).
const WATCH_MIN: Duration = Duration::from_secs(1800);

/// Says what keeps a part from being ready; `None` if nothing.
pub type ReadyCheck = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What a server is made of. `Options::default()` lets in only client certificates of `system:masters`.
pub struct Options {
    pub clock: Clock,
    pub random: Random,
    /// What is served.
    pub strategies: &'static [&'static dyn AnyStrategy],
    /// What of it clients are shown.
    pub enablement: Enablement,
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    pub admission: admission::Chain,
    /// What its plugins are configured with.
    pub admission_settings: admission::Settings,
    /// What lies sealed in the store, and by which keys.
    pub sealing: seal::Rules,
    /// Where new keys come from; without it they are not changed while serving.
    pub rotation: Option<Arc<dyn seal::Rotation>>,
    /// Who has the keys of the server's own certificates; without it they are not replaced on request.
    pub certificates: Option<Arc<dyn certificates::Certificates>>,
    /// Without one, `serviceaccounts/token` answers 503.
    pub tokens: Option<Arc<pki::token::Signer>>,
    /// The audiences of a token for which none are asked; the API server is in each of them.
    pub token_audiences: Vec<String>,
    /// How kubelets are reached; without it, logs, exec and the like answer 503.
    pub kubelet: Option<Arc<rustls::ClientConfig>>,
    /// What the server shows other API servers it passes requests on to; without it they cannot know it.
    pub front_proxy: Option<Arc<pki::tls::Reloadable>>,
    /// The documents of the service account issuer, `(configuration, JWKS)`.
    pub openid: Option<(String, String)>,
    /// Where requests are recorded.
    pub audit: Option<Arc<audit::Audit>>,
    /// What `/readyz` asks beyond the server's own checks: a name, and what is wrong if anything.
    pub ready_checks: Vec<(String, ReadyCheck)>,
    /// Requests under way at once, as upstream's flags have them; flow control shares out their sum.
    pub reads_len_max: usize,
    pub writes_len_max: usize,
    /// Where Services get their addresses and node ports from.
    pub service_ranges: resources::core::service::allocate::Ranges,
    /// What the server was told, flag by flag, for `/flagz`.
    pub flags: BTreeMap<String, String>,
    /// What tells this server apart from others in figures, which show its hash.
    pub id: String,
    /// The own version, `0.1.0`; shown as `v1.37.0+pintle.0.1.0`.
    pub version: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            random: Random::system(),
            strategies: resources::ALL,
            enablement: Enablement::default(),
            authenticator: Arc::new(authn::Certificates::default()),
            authorizer: Arc::new(authz::Union(vec![Arc::new(authz::AlwaysAllowHealth), Arc::new(authz::Privileged)])),
            admission: admission::Chain::default(),
            admission_settings: admission::Settings::default(),
            sealing: seal::Rules::none(),
            rotation: None,
            certificates: None,
            tokens: None,
            token_audiences: vec!["https://kubernetes.default.svc.cluster.local".to_owned()],
            kubelet: None,
            front_proxy: None,
            openid: None,
            audit: None,
            ready_checks: Vec::new(),
            reads_len_max: 400,
            writes_len_max: 200,
            service_ranges: resources::core::service::allocate::Ranges {
                services: vec!["10.43.0.0/16".parse().expect("a CIDR")],
                pools: None,
                node_ports: resources::core::service::allocate::NODE_PORTS,
            },
            flags: BTreeMap::new(),
            id: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The API server without a transport.
pub struct Server {
    pub(crate) options: Options,
    pub(crate) lookup: Lookup,
    pub(crate) outbound: Outbound,
    external: admission::External,
    pub(crate) flow: Flow,
    pub(crate) drain: Drain,
    /// Held by whoever gives out cluster IPs and node ports.
    pub(crate) services: tokio::sync::Mutex<()>,
    pub(crate) metrics: Metrics,
    /// Made when they are asked for; `None` since what is served has changed.
    documents: parking_lot::Mutex<Option<Arc<Documents>>>,
    description_changes: tokio::sync::watch::Sender<u64>,
    customs: Customs,
    aggregation: Aggregation,
    tasks: TaskGroup,
    pub(crate) started: api::Timestamp,
}

impl Server {
    /// Reads the store and begins to follow it. Ends with `tasks`: watches are then ended in good order.
    ///
    /// # Errors
    /// 500 or 503 if the store cannot be read; 500 if it needs a KMS plugin that does not serve.
    pub async fn start(store: Store, mut options: Options, tasks: TaskGroup) -> Result<Arc<Self>, Status> {
        let rules = std::mem::replace(&mut options.sealing, seal::Rules::none());
        let around = seal::Surroundings {
            clock: options.clock,
            random: options.random.clone(),
            figures: Arc::new(seal::Figures::new(&options.id)),
        };
        let sealing = Arc::new(seal::Sealing::begin(rules, around).await.map_err(Status::internal)?);
        let caches = Arc::new(Caches::new(store, options.clock, sealing.clone()));
        let catalog = Arc::new(Catalog::new(&options.enablement.strategies(options.strategies), &caches));
        let customs = Customs::default();
        caches.fill_then(|| customs.load(&catalog, &caches)).await?;
        let feed = caches.clone();
        tasks.spawn("watch cache", async move { feed.follow().await });
        let seats = options.reads_len_max.saturating_add(options.writes_len_max);
        let flow = Flow::new(seats, options.clock, tasks.clone());
        let audit = options.audit.as_ref().map(|audit| audit.figures().clone()).unwrap_or_default();
        let lookup = Lookup { caches, catalog };
        let metrics = Metrics::new(flow.figures(), &audit, |registry| {
            options.authenticator.register(registry);
            options.authorizer.register(registry);
            sealing.figures().register(registry);
            if let Some(certificates) = options.certificates.clone() {
                registry.register_collector(Box::new(certificates::Lives { certificates, clock: options.clock }));
            }
        });
        flow.take_in(&lookup);
        let drain = Drain::new(&tasks.cancelled());
        let outbound = Outbound::new(lookup.clone());
        let services = tokio::sync::Mutex::default();
        let external = admission::External::default();
        let started = options.clock.now();
        let server = Arc::new(Self {
            options,
            lookup,
            outbound,
            external,
            flow,
            drain,
            services,
            metrics,
            documents: parking_lot::Mutex::default(),
            description_changes: tokio::sync::watch::Sender::new(0),
            customs,
            aggregation: Aggregation::default(),
            tasks,
            started,
        });
        server.describe_anew();
        server.tasks.spawn("custom resources", custom::follow::follow(server.clone()));
        server.tasks.spawn("KMS plugins", seal::follow(sealing, server.options.clock));
        server.tasks.spawn("policies", admission::type_check::follow(server.clone()));
        server.tasks.spawn("flow control", flow::follow(server.clone()));
        server.tasks.spawn("aggregation", aggregation::follow::follow(server.clone()));
        Ok(server)
    }

    /// The server's own view of the cluster.
    pub fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    /// What was compiled from the cluster's own configuration of admission.
    pub(crate) fn external(&self) -> &admission::External {
        &self.external
    }

    /// Calls webhooks.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// What the server was made of.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The store, for compaction and backups.
    pub fn store(&self) -> &Store {
        &self.lookup.caches.store
    }

    /// Discovery and OpenAPI of what is served.
    pub(crate) fn documents(&self) -> Arc<Documents> {
        self.documents.lock().get_or_insert_with(|| Arc::new(self.describe())).clone()
    }

    /// What is served has changed: discovery and OpenAPI are written anew when they are next asked for.
    pub(crate) fn describe_anew(&self) {
        drop(self.documents.lock().take());
        self.description_changed();
    }

    fn describe(&self) -> Documents {
        let elsewhere = self.aggregation.elsewhere();
        let strategies = self.options.enablement.strategies(self.options.strategies);
        let mut served: Vec<Arc<Served>> = discovery::built_in(&strategies).into_iter().map(Arc::new).collect();
        served.retain(|own| self.options.enablement.serves(&own.group, &own.version, &own.plural));
        let custom = self.lookup.catalog.custom();
        served.extend(custom.values().filter_map(|resource| Some(resource.custom.as_ref()?.described.clone())));
        served.retain(|own| self.aggregation.route(&own.group, &own.version).is_none());
        Documents::new(served, elsewhere, self.aggregation.priorities())
    }

    /// Counts how often it changed who serves what, or what is said of it.
    pub fn description_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.description_changes.subscribe()
    }

    pub(crate) fn description_changed(&self) {
        self.description_changes.send_modify(|count| *count += 1);
    }

    /// What other API servers serve.
    pub(crate) fn aggregation(&self) -> &Aggregation {
        &self.aggregation
    }

    pub(crate) fn customs(&self) -> &Customs {
        &self.customs
    }

    pub(crate) fn caches(&self) -> &Arc<Caches> {
        &self.lookup.caches
    }

    pub(crate) fn tasks(&self) -> &TaskGroup {
        &self.tasks
    }

    pub(crate) fn now(&self) -> api::Timestamp {
        self.options.clock.now()
    }

    /// Answers one request. For [`Verb::Watch`] see [`Server::watch`].
    ///
    /// # Errors
    /// What the client is answered instead.
    pub async fn call(&self, caller: &Arc<Caller>, call: Call) -> Result<Answer, Status> {
        let trail = self.trail(caller, &call);
        let result = async {
            let _seat = self.arrive(caller, &call).seat(flow::WAIT_MAX).await?;
            self.authorize_recorded(caller, &call, trail.as_deref()).await?;
            self.proceed(caller, call, trail.as_ref()).await
        }
        .await;
        if let Some(trail) = trail {
            match &result {
                Err(status) => trail.answered(status.code(), Some(status)),
                Ok(answer) => trail.sent(answer.code),
            }
        }
        result
    }

    /// The rest of [`Server::call`], for a caller that has its seat and is authorized.
    pub(crate) async fn proceed(
        &self,
        caller: &Arc<Caller>,
        call: Call,
        trail: Option<&Arc<audit::Trail>>,
    ) -> Result<Answer, Status> {
        let resource = self.resource(&call)?;
        let answer = registry::call(self, caller, &resource, call, trail).await?;
        if let Some(trail) = trail {
            answer.record(trail);
        }
        Ok(answer)
    }

    /// Starts a watch.
    ///
    /// # Errors
    /// What the client is answered instead; errors later on are events.
    pub async fn watch(self: &Arc<Self>, caller: &Arc<Caller>, call: Call) -> Result<WatchStream, Status> {
        let trail = self.trail(caller, &call);
        let result = async {
            let seat = self.arrive(caller, &call).seat(flow::WAIT_MAX).await?;
            self.authorize_recorded(caller, &call, trail.as_deref()).await?;
            let resource = self.resource(&call)?;
            Ok(self.start_watch(resource, &call, true).await?.seated(seat))
        }
        .await;
        let Some(trail) = trail else { return result };
        match result {
            Err(status) => {
                trail.answered(status.code(), Some(&status));
                Err(status)
            }
            Ok(stream) => {
                trail.sent(200);
                trail.begun();
                Ok(stream.recorded(trail))
            }
        }
    }

    /// Reads a document that describes the API (discovery, OpenAPI), in the media type `accept`.
    ///
    /// # Errors
    /// What the client is answered instead; 404 for any other path.
    pub async fn document(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        path: &str,
        accept: &'static str,
    ) -> Result<bytes::Bytes, Status> {
        let attributes = Attributes { caller, verb: "get", what: What::Path(path) };
        let _seat = self.flow.arrive(&attributes, |_, _| Work::seats(1)).seat(flow::WAIT_MAX).await?;
        self.authorize(&attributes).await?;
        let headers =
            ::http::HeaderMap::from_iter([(::http::header::ACCEPT, ::http::HeaderValue::from_static(accept))]);
        let found = discovery::answer(self, path, None, &headers).ok_or_else(Status::unknown_resource)?;
        Ok(found?.bytes)
    }

    /// The trail of a request in this process.
    pub(crate) fn trail(&self, caller: &Arc<Caller>, call: &Call) -> Option<Arc<audit::Trail>> {
        let audit = self.options.audit.as_ref()?;
        let asked = Asked::of(call);
        let attributes = asked.attributes(caller, call);
        let request = audit::policy::Request { caller: Some(caller), verb: attributes.verb, what: attributes.what };
        audit.follow(&request, || audit::Head {
            audit_id: self.options.random.uid(),
            uri: path_of(&call.target),
            verb: attributes.verb.to_owned(),
            caller: Some(caller.clone()),
            source_ips: vec![std::net::Ipv6Addr::LOCALHOST.into()],
            user_agent: "in-process".to_owned(),
            received: self.now(),
            target: Some(call.target.clone()),
        })
    }

    pub(crate) async fn authorize_recorded(
        &self,
        caller: &Caller,
        call: &Call,
        trail: Option<&audit::Trail>,
    ) -> Result<(), Status> {
        let decision = self.authorize_call(caller, call).await;
        if let Some(trail) = trail {
            trail.decided(decision.as_deref().ok());
        }
        decision.map(drop)
    }

    /// As [`Server::watch`] once the caller is authorized. `in_process`: the reader is a part of this process.
    pub(crate) async fn start_watch(
        self: &Arc<Self>,
        resource: Arc<Resource>,
        call: &Call,
        in_process: bool,
    ) -> Result<WatchStream, Status> {
        let cache = resource.cache("watch")?.clone();
        registry::check_scope(&resource, call.verb, &call.target)?;
        registry::check_watch_options(&call.options)?;
        let options = WatchOptions {
            filter: self.filter(&resource, call)?,
            revision: registry::revision(call.options.resource_version.as_deref())?,
            send_initial_events: call.options.send_initial_events,
            bookmarks: call.options.allow_watch_bookmarks,
            timeout: call.options.timeout_seconds.filter(|seconds| *seconds > 0).map_or_else(
                || WATCH_MIN.mul_f64(1.0 + self.options.random.fraction()),
                |seconds| Duration::from_secs(seconds.min(u64::from(u32::MAX))),
            ),
            lean: in_process && call.options.lean,
        };
        // Who watches in process is a part of this one and ends with it; others are sent elsewhere before.
        let ending =
            if in_process { self.tasks.cancelled() } else { self.drain.watch_end(self.options.random.fraction()) };
        let watcher = Watcher::start(self.caches().clone(), cache, options, ending).await?;
        Ok(WatchStream::new(self.clone(), resource, watcher))
    }

    pub(crate) fn filter(&self, resource: &Resource, call: &Call) -> Result<Filter, Status> {
        let cache = resource.cache(call.verb.as_str())?;
        Filter::parse(
            &*cache.strategy,
            call.target.namespace.as_deref(),
            call.target.name.as_deref(),
            call.options.label_selector.as_deref(),
            call.options.field_selector.as_deref(),
            resource.convert.map(|convert| convert.stored_path),
            resource.custom.as_deref().map(|version| version as &dyn AnyStrategy),
        )
    }

    /// The resource asked for.
    ///
    /// # Errors
    /// 404 if it is not served.
    pub(crate) fn resource(&self, call: &Call) -> Result<Arc<Resource>, Status> {
        let target = &call.target;
        let found = self.lookup.catalog.find(&target.group, &target.version, &target.resource);
        found.ok_or_else(Status::unknown_resource)
    }

    /// As [`Server::resource`], for clients over HTTP: they are not shown what is turned off.
    ///
    /// # Errors
    /// 404 if it is not served to them.
    pub(crate) fn shown_resource(&self, call: &Call) -> Result<Arc<Resource>, Status> {
        let Target { group, version, resource, .. } = &call.target;
        if !self.options.enablement.serves(group, version, resource) {
            return Err(Status::unknown_resource());
        }
        self.resource(call)
    }

    /// Asks flow control for a seat.
    pub(crate) fn arrive(&self, caller: &Caller, call: &Call) -> Arriving {
        let seen = Asked::of(call);
        let attributes = seen.attributes(caller, call);
        self.flow.arrive(&attributes, |seats_max, watches| self.work(call, seats_max, watches))
    }

    /// What a request is reckoned to cost.
    fn work(&self, call: &Call, seats_max: u32, watches: &mut Option<usize>) -> Work {
        let target = &call.target;
        let found = self.lookup.catalog.find(&target.group, &target.version, &target.resource);
        let Some(cache) = found.as_ref().and_then(|resource| resource.cache.as_ref()) else { return Work::seats(1) };
        let options = &call.options;
        match call.verb {
            Verb::List | Verb::Watch if call.verb == Verb::List || options.send_initial_events == Some(true) => {
                let named = |selector: &str| name_in_field_selector(selector).is_some();
                let single = target.name.is_some() || options.field_selector.as_deref().is_some_and(named);
                let (objects, bytes_each) = cache.reckoned_size();
                flow::width::list(objects, bytes_each, options.limit, single, seats_max)
            }
            // A token is made, not stored.
            Verb::Create if target.subresource.as_deref() == Some("token") => Work::seats(1),
            Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => {
                let count = cache.watches();
                *watches = Some(count);
                flow::width::write(count, seats_max)
            }
            _ => Work::seats(1),
        }
    }

    /// Asks the authorizers about a request; the reason of their consent.
    pub(crate) async fn authorize_call(&self, caller: &Caller, call: &Call) -> Result<String, Status> {
        let seen = Asked::of(call);
        self.authorize(&seen.attributes(caller, call)).await
    }

    /// Asks the authorizers; the reason of their consent.
    ///
    /// # Errors
    /// 403 unless one of them allows it; 500 if that could not be told.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Result<String, Status> {
        match self.options.authorizer.ask(attributes, &self.lookup).await {
            Decision::Allow(reason) => Ok(reason),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(authz::forbidden(attributes, &reason)),
            Decision::Failed { why, .. } => {
                tracing::error!(%why, user = attributes.caller.name, "a request could not be authorized");
                Err(Status::internal(why))
            }
        }
    }
}

/// What authorization and flow control read out of a request.
pub(crate) struct Asked {
    /// The one object that a field selector narrows a request down to.
    selected: Option<String>,
}

impl Asked {
    pub(crate) fn of(call: &Call) -> Self {
        let collective = matches!(call.verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
        let selector = call.options.field_selector.as_deref().filter(|_| collective);
        Self { selected: selector.and_then(name_in_field_selector) }
    }

    pub(crate) fn attributes<'a>(&'a self, caller: &'a Caller, call: &'a Call) -> Attributes<'a> {
        let mut what = what_of(&call.target, self.selected.as_deref());
        if let What::Resource { field_selector, label_selector, .. } = &mut what {
            *field_selector = call.options.field_selector.as_deref();
            *label_selector = call.options.label_selector.as_deref();
        }
        Attributes { caller, verb: call.verb.as_str(), what }
    }
}

/// What a request is about. `selected`: the one object that a list is narrowed to.
pub(crate) fn what_of<'a>(target: &'a api::Target, selected: Option<&'a str>) -> What<'a> {
    // The path of a namespace is within it: a Role in it may allow reading it.
    let namespace = match (&*target.group, &*target.resource) {
        ("", "namespaces") => target.name.as_deref(),
        _ => target.namespace.as_deref(),
    };
    What::Resource {
        group: &target.group,
        version: &target.version,
        resource: &target.resource,
        subresource: target.subresource.as_deref().unwrap_or_default(),
        namespace: namespace.unwrap_or_default(),
        name: target.name.as_deref().or(selected).unwrap_or_default(),
        field_selector: None,
        label_selector: None,
    }
}

/// The path that a request in process would have over HTTP.
fn path_of(target: &api::Target) -> String {
    let mut path = match &*target.group {
        "" => format!("/api/{}", target.version),
        group => format!("/apis/{group}/{}", target.version),
    };
    if let Some(namespace) = &target.namespace {
        path.push_str(&format!("/namespaces/{namespace}"));
    }
    path.push_str(&format!("/{}", target.resource));
    for part in [target.name.as_deref(), target.subresource.as_deref()].into_iter().flatten() {
        path.push_str(&format!("/{part}"));
    }
    path
}

/// The name in `metadata.name=x`: a list narrowed to one object is authorized as one (upstream's RequestInfo).
pub(crate) fn name_in_field_selector(selector: &str) -> Option<String> {
    Some(api::FieldSelector::parse(selector).ok()?.exact("metadata.name")?.to_owned())
}
