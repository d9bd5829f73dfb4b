//! Quantities (`100m`, `1Gi`): exact arithmetic and the canonical form.
