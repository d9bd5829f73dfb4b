//! Flags that say who is who and who may do what, with upstream's names.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

#[derive(Debug, Clone, Args)]
pub struct IdentityArgs {
    /// A file of kind AuthorizationConfiguration; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub authorization_config: Option<PathBuf>,
    /// Authorizers in their order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny; Node,RBAC if not given
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    /// The kubeconfig of the authorization webhook
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// Which SubjectAccessReview the webhook speaks: v1beta1 if not given
    #[arg(long, value_name = "VERSION")]
    pub authorization_webhook_version: Option<String>,
    /// How long the webhook's yes is kept: 5m if not given
    #[arg(long, value_name = "DURATION", value_parser = apiserver::http::parse_duration)]
    pub authorization_webhook_cache_authorized_ttl: Option<Duration>,
    /// How long the webhook's no is kept: 30s if not given
    #[arg(long, value_name = "DURATION", value_parser = apiserver::http::parse_duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Option<Duration>,
}
