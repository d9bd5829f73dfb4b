//! The runtime seen from above, held to one suite on the fake and on a real containerd, and what only the real one has:
//! a private containerd that outlives its maker, the pause program, image archives.
//!
//! Needs root, containerd, runc and a static busybox; without them these tests fail and say so.

#![allow(clippy::unwrap_used)] // the tests' own tools

mod containerd;
mod fake;
mod pause;
