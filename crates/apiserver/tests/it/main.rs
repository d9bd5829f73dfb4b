//! The server as its clients see it: over real TLS on loopback, and in process.

mod deletes;
mod lists;
mod watches;
mod world;
mod writes;
