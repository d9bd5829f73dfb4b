//! Containers' logs as the runtime leaves them in files, read the way clients ask for them.
//!
//! Only the file a container writes to now is read, as upstream; while a log is followed, rotation is followed too.
//! Nothing here polls: a follower sleeps until the kernel tells of the file or the runtime of the container's end.

pub mod line;
pub mod options;
pub mod reader;

mod tail;
mod watch;

pub use options::Options;
pub use reader::Reader;
