//! Label and field selectors.

/// todo
pub struct LabelSelector;
pub struct FieldSelector;
