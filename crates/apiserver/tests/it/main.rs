//! The server as its clients see it: over real TLS on loopback, and in process.

#![allow(clippy::unwrap_used, reason = "tests")]

mod access_page;
mod aggregation;
mod audit;
mod auth_flow;
mod authentication;
mod authenticators;
mod authorization_webhook;
mod custom;
mod custom_load;
mod deletes;
mod doors;
mod drain;
mod encodings;
mod flow;
mod fuzz;
mod image_policy;
mod kms;
mod kms_plugin;
mod lists;
mod matrix;
mod peer;
mod quota;
mod rude_clients;
mod seal;
mod security_page;
mod streams;
mod watches;
mod webhooks;
mod world;
mod writes;
