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
    /// A file of kind AuthenticationConfiguration; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
    /// Whether requests without credentials are let through to authorization; health endpoints only if not given
    #[arg(long, value_name = "BOOL")]
    pub anonymous_auth: Option<bool>,
    /// The kubeconfig of the webhook that knows whose a token is
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// Which TokenReview the webhook speaks: v1beta1 if not given
    #[arg(long, value_name = "VERSION", default_value = "v1beta1")]
    pub authentication_token_webhook_version: String,
    /// How long the webhook's answers are kept
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = apiserver::http::parse_duration)]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// The issuer whose OpenID Connect tokens are accepted
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// The audience that such a token must have
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// The claim that is the user's name: sub if not given
    #[arg(long, value_name = "CLAIM")]
    pub oidc_username_claim: Option<String>,
    /// What stands before the name: the issuer's URL and `#` if not given, nothing for `-`
    #[arg(long, value_name = "PREFIX")]
    pub oidc_username_prefix: Option<String>,
    /// The claim that holds the user's groups
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// What stands before each group
    #[arg(long, value_name = "PREFIX")]
    pub oidc_groups_prefix: Option<String>,
    /// The algorithms that such tokens may be signed with: RS256 if not given
    #[arg(long, value_name = "ALG", value_delimiter = ',')]
    pub oidc_signing_algs: Vec<String>,
    /// A claim that a token must have, with its value
    #[arg(long, value_name = "CLAIM=VALUE")]
    pub oidc_required_claim: Vec<String>,
    /// The authorities that sign for the issuer; the machine's if not given
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Further keys (ECDSA P-256) that service account tokens may be signed with
    #[arg(long, value_name = "FILE")]
    pub service_account_key_file: Vec<PathBuf>,
}
