//! Cluster IPs and node ports: given out by the server itself, between `prepare` and `validate`, one service at a time.

use api::core::v1::Service;
use api::{Object, Status};
use resources::core::service::allocate::{Error, Used, allocate};
use tokio::sync::MutexGuard;

use super::Context;

impl<'a> Context<'a> {
    /// Gives a Service what it lacks. What is given is nobody else's as long as the guard is held: hold it until the
    /// object is stored. Other kinds need none.
    ///
    /// # Errors
    /// 422 for what cannot be had, 500 when nothing is left.
    pub(super) async fn allocate(
        &self,
        object: &mut dyn Object,
        old: Option<&dyn Object>,
    ) -> Result<Option<MutexGuard<'a, ()>>, Status> {
        let Some(service) = object.as_any_mut().downcast_mut::<Service>() else { return Ok(None) };
        let (server, old) = (self.server, old.and_then(|old| old.as_any().downcast_ref::<Service>()));
        // A service that stays as it is asks for nothing.
        if old.is_some_and(|old| old.spec == service.spec) {
            return Ok(None);
        }
        let guard = server.services.lock().await;
        server.lookup.wait_fresh().await?;
        let others = server.lookup.list::<Service>(None);
        let used = Used::of(others.iter().map(|service| &**service));
        let random = &server.options.random;
        match allocate(service, old, &server.options.service_ranges, &used, || random.below(u64::MAX)) {
            Ok(()) => Ok(Some(guard)),
            Err(Error::Invalid(errors)) => Err(self.invalid(service.name(), &errors)),
            Err(Error::Exhausted(why)) => Err(Status::internal(why)),
        }
    }
}
