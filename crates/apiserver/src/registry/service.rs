//! Cluster IPs and node ports: given out by the server itself, between `prepare` and `validate`, one service at a time.
//! Each address that is given has its IPAddress, which is made before the service is stored and goes after it: who is
//! interrupted leaves one too many, never one too few (the controllers take it back).
//!
//! Upstream: pkg/registry/core/service/{storage,ipallocator}.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::Service;
use api::meta::v1::ObjectMeta;
use api::networking::v1::{IPAddress, IPAddressSpec, ParentReference, ServiceCIDR};
use api::{Object, Options, Status, Target, Typed};
use resources::core::service::allocate::{self, Error, Ranges, Used};
use tokio::sync::MutexGuard;

use super::Context;
use crate::cache::Cache;
use crate::catalog::Resource;

/// The labels of an IPAddress that was made here.
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
/// Under which name they are written.
const FIELD_MANAGER: &str = "kube-apiserver";

/// What a service was given. It is nobody else's as long as this is held: hold it until the object is stored.
pub(super) struct Allocated<'a> {
    _guard: MutexGuard<'a, ()>,
    /// Addresses it did not have before.
    taken: Vec<IpAddr>,
    /// Addresses it had and has no more.
    given_up: Vec<IpAddr>,
}

impl<'a> Context<'a> {
    /// Gives a Service what it lacks. Other kinds need nothing.
    ///
    /// # Errors
    /// 422 for what cannot be had, 500 when nothing is left.
    pub(super) async fn allocate(
        &self,
        object: &mut dyn Object,
        old: Option<&dyn Object>,
    ) -> Result<Option<Allocated<'a>>, Status> {
        let Some(service) = object.as_any_mut().downcast_mut::<Service>() else { return Ok(None) };
        let (server, old) = (self.server, old.and_then(|old| old.as_any().downcast_ref::<Service>()));
        // A service that stays as it is asks for nothing.
        if old.is_some_and(|old| old.spec == service.spec) {
            return Ok(None);
        }
        let guard = server.services.lock().await;
        server.lookup.wait_fresh().await?;
        let others = server.lookup.list::<Service>(None);
        let mut used = Used::of(others.iter().map(|service| &**service));
        let known = server.lookup.list::<IPAddress>(None);
        used.hold(known.iter().filter_map(|address| address.name().parse().ok()));
        let random = &server.options.random;
        match allocate::allocate(service, old, &self.ranges(), &used, || random.below(u64::MAX)) {
            Ok(()) => {
                let (now, before) = (allocate::addresses(service), old.map(allocate::addresses).unwrap_or_default());
                Ok(Some(Allocated {
                    _guard: guard,
                    taken: now.difference(&before).copied().collect(),
                    given_up: before.difference(&now).copied().collect(),
                }))
            }
            Err(Error::Invalid(errors)) => Err(self.invalid(service.name(), &errors)),
            Err(Error::Exhausted(why)) => Err(Status::internal(why)),
        }
    }

    /// The ranges that are ready. As long as there is no ServiceCIDR at all, those the server was started with.
    fn ranges(&self) -> Ranges {
        let mut ranges = self.server.options.service_ranges.clone();
        let objects = self.server.lookup.list::<ServiceCIDR>(None);
        if !objects.is_empty() {
            let ready = objects.iter().filter(|range| is_ready(range));
            let cidrs: BTreeSet<&String> = ready.flat_map(|range| range.spec.iter()).flat_map(cidrs).collect();
            ranges.pools = Some(cidrs.into_iter().filter_map(|cidr| cidr.parse().ok()).collect());
        }
        ranges
    }

    /// Makes the IPAddresses of what a service was given.
    ///
    /// # Errors
    /// If one cannot be stored; none of them is kept then.
    pub(super) async fn claim(
        &self,
        allocated: &Option<Allocated<'_>>,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        let Some(allocated) = allocated.as_ref().filter(|_| !self.options.dry_run) else { return Ok(()) };
        for (made, ip) in allocated.taken.iter().enumerate() {
            if let Err(status) = self.make_address(*ip, namespace, name).await {
                self.drop_addresses(&allocated.taken[..made], namespace, name).await;
                return Err(status);
            }
        }
        Ok(())
    }

    /// Ends an allocation: `stored` says whether the service is as it was to be.
    pub(super) async fn conclude(
        &self,
        allocated: Option<Allocated<'_>>,
        (namespace, name): (&str, &str),
        stored: bool,
    ) {
        if let Some(allocated) = allocated.filter(|_| !self.options.dry_run) {
            let dropped = if stored { &allocated.given_up } else { &allocated.taken };
            self.drop_addresses(dropped, namespace, name).await;
        }
    }

    /// A service is gone: its addresses are free.
    pub(super) async fn release(&self, gone: &dyn Object) {
        let Some(service) = gone.as_any().downcast_ref::<Service>().filter(|_| !self.options.dry_run) else { return };
        // Nobody is given an address whose IPAddress is still there: no lock is needed.
        let addresses: Vec<IpAddr> = allocate::addresses(service).into_iter().collect();
        self.drop_addresses(&addresses, service.namespace(), service.name()).await;
    }

    /// Where IPAddresses are kept, if they are served.
    fn addresses(&self) -> Option<(&'a Arc<Resource>, &'a Arc<Cache>)> {
        let resource = self.server.lookup.catalog.of_kind(IPAddress::KIND)?;
        Some((resource, resource.cache.as_ref()?))
    }

    async fn make_address(&self, ip: IpAddr, namespace: &str, name: &str) -> Result<(), Status> {
        let Some((resource, cache)) = self.addresses() else { return Ok(()) };
        let options = Options { field_manager: Some(FIELD_MANAGER.to_owned()), ..Options::default() };
        let target = Target::kind(IPAddress::KIND);
        let context = self.beside(resource, cache, &target, &options, "");
        let mut object = address(ip, namespace, name);
        context.init_metadata(&mut object);
        context.record(None, &mut object).await?;
        context.store_new(&ip.to_string(), Box::new(object)).await.map(drop)
    }

    /// Forgets the IPAddresses of a service. What fails is logged: the controllers take back what is left.
    async fn drop_addresses(&self, addresses: &[IpAddr], namespace: &str, name: &str) {
        if addresses.is_empty() {
            return;
        }
        let Some((resource, cache)) = self.addresses() else { return };
        let (target, options) = (Target::kind(IPAddress::KIND), Options::default());
        let context = self.beside(resource, cache, &target, &options, "");
        for ip in addresses {
            let key = context.cache.key("", &ip.to_string());
            let dropped = async {
                let Some(entry) = super::read::current(self.server, context.cache, &key).await? else { return Ok(()) };
                let object = context.resource.object(&entry)?;
                let ours = api::downcast::<IPAddress>(&*object).is_some_and(|own| is_of(own, namespace, name));
                if ours { context.store_gone(&entry).await.map(drop) } else { Ok(()) }
            };
            if let Err(error) = dropped.await {
                tracing::warn!(%ip, %error, "the IPAddress of a service could not be taken back");
            }
        }
    }
}

fn cidrs(spec: &api::networking::v1::ServiceCIDRSpec) -> impl Iterator<Item = &String> {
    spec.cidrs.iter().flatten()
}

/// As long as nobody says that it is not ready, it is.
fn is_ready(range: &ServiceCIDR) -> bool {
    let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let not_ready = conditions.filter(|condition| condition.type_ == "Ready").any(|ready| ready.status != "True");
    !not_ready && !range.is_terminating()
}

fn is_of(address: &IPAddress, namespace: &str, name: &str) -> bool {
    let parent = &address.spec.parent_ref;
    parent.resource == "services" && parent.namespace.as_deref() == Some(namespace) && parent.name == name
}

fn address(ip: IpAddr, namespace: &str, name: &str) -> IPAddress {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let labels = [(FAMILY, family), MANAGED_BY].map(|(key, value)| (key.to_owned(), value.to_owned()));
    IPAddress {
        metadata: ObjectMeta { name: Some(ip.to_string()), labels: Some(labels.into()), ..ObjectMeta::default() },
        spec: IPAddressSpec {
            parent_ref: ParentReference {
                group: None,
                resource: "services".to_owned(),
                namespace: Some(namespace.to_owned()),
                name: name.to_owned(),
            },
        },
    }
}
