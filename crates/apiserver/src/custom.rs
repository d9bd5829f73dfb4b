//! Custom resources: what CustomResourceDefinitions define, served like everything else.

/// One version of a resource that is defined at run time.
pub(crate) struct Version {}
