//! The API server: HTTP, authentication, authorization, admission, the generic registry and the watch cache.
//!
//! [`Server`] is the pipeline that every request takes, over the wire or in the same process; [`http`] puts it on a
//! port. This crate is nobody's client: what it must know of the cluster it reads from its own caches ([`Lookup`]).

mod aggregation;
mod answer;
mod cache;
mod catalog;
pub mod certificates;
mod configuration;
mod custom;
mod discovery;
pub mod drain;
pub mod enablement;
mod flow;
mod kept;
mod lookup;
mod openapi;
pub mod outbound;
pub mod reload;
mod review;
mod server;
mod status;

pub mod admission;
pub mod audit;
pub mod authn;
pub mod authz;
mod body;
pub mod bootstrap;
pub mod http;
mod registry;
pub mod seal;

pub use aggregation::Passage;
pub use answer::{Answer, Payload, WatchStream};
pub use authn::Caller;
pub use cache::{Entry, Listed, Out, Step};
pub use catalog::{Catalog, Resource};
pub use lookup::Lookup;
pub use outbound::Outbound;
pub use server::{Options, Server};
