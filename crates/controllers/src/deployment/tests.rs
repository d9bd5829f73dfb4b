//! Deployment plans.
