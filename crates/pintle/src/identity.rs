//! Who is who and who may do what, as flags and configuration files have it.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use apiserver::authn::config::{self, Anonymous};
use apiserver::authn::{Authenticator, Configured, TokenWebhook};
use apiserver::authz::{self, Chain};
use pki::PublicKey;

use crate::cli::identity::IdentityArgs;
use crate::server::Common;

/// What tells this server apart from others in figures (upstream's `apiserver-HASH`).
pub fn server_id() -> String {
    format!("apiserver-{}", crate::node_wiring::default_name().unwrap_or_default())
}

/// The authorizers.
pub fn authorizer(common: &Common) -> Result<Arc<Chain>> {
    let arguments = &common.arguments.identity;
    let chain = Arc::new(Chain::standard(common.clock, common.random.clone()));
    let flags = authorization_flags(arguments);
    match &arguments.authorization_config {
        Some(path) => {
            if authorization_flags_are_set(arguments) {
                bail!(
                    "--authorization-config can not be specified when --authorization-mode or \
                     --authorization-webhook-* flags are defined"
                );
            }
            chain.follow(path.clone(), &server_id(), &common.tasks).map_err(|why| anyhow!(why))?;
        }
        None => {
            let configuration = authz::config::Configuration::of_flags(&flags).map_err(|why| anyhow!(why))?;
            chain.apply(&configuration).map_err(|why| anyhow!(why))?;
        }
    }
    Ok(chain)
}

fn authorization_flags_are_set(arguments: &IdentityArgs) -> bool {
    !arguments.authorization_mode.is_empty()
        || arguments.authorization_webhook_config_file.is_some()
        || arguments.authorization_webhook_version.is_some()
        || arguments.authorization_webhook_cache_authorized_ttl.is_some()
        || arguments.authorization_webhook_cache_unauthorized_ttl.is_some()
}

fn authorization_flags(arguments: &IdentityArgs) -> authz::config::Flags {
    authz::config::Flags {
        modes: arguments.authorization_mode.clone(),
        webhook_config_file: arguments.authorization_webhook_config_file.clone(),
        webhook_version: arguments.authorization_webhook_version.clone(),
        webhook_authorized_ttl: arguments.authorization_webhook_cache_authorized_ttl,
        webhook_unauthorized_ttl: arguments.authorization_webhook_cache_unauthorized_ttl,
    }
}

/// Who else than the cluster itself says whose a token is. `audiences` and `issuers` are the cluster's own.
pub fn authenticators(
    common: &Common,
    audiences: &[String],
    issuers: &[String],
) -> Result<Vec<Arc<dyn Authenticator>>> {
    let arguments = &common.arguments.identity;
    let configured = Arc::new(Configured::new(audiences.to_vec(), issuers.to_vec(), common.clock, &common.tasks));
    let flags = oidc_flags(arguments)?;
    let mut of_flags = config::Configuration::of_flags(&flags, issuers).map_err(|why| anyhow!(why))?;
    match &arguments.authentication_config {
        Some(path) => {
            if !of_flags.issuers.is_empty() {
                bail!("authentication-config file and oidc-* flags are mutually exclusive");
            }
            if arguments.anonymous_auth.is_some() {
                bail!(
                    "--anonymous-auth flag cannot be set together with --authentication-config: say \
                     `anonymous` in the file"
                );
            }
            configured.follow(path.clone(), &server_id()).map_err(|why| anyhow!(why))?;
        }
        None => {
            of_flags.anonymous =
                arguments.anonymous_auth.map(|yes| if yes { Anonymous::Everywhere } else { Anonymous::Nobody });
            configured.apply(&of_flags).map_err(|why| anyhow!(why))?;
        }
    }
    let mut all: Vec<Arc<dyn Authenticator>> = vec![configured];
    if let Some(path) = &arguments.authentication_token_webhook_config_file {
        let webhook = TokenWebhook::new(
            path,
            &arguments.authentication_token_webhook_version,
            arguments.authentication_token_webhook_cache_ttl,
            audiences.to_vec(),
            common.clock,
        );
        all.push(Arc::new(webhook.map_err(|why| anyhow!("--authentication-token-webhook-config-file: {why}"))?));
    }
    Ok(all)
}

fn oidc_flags(arguments: &IdentityArgs) -> Result<config::Flags> {
    let ca_pem = arguments
        .oidc_ca_file
        .as_ref()
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("--oidc-ca-file: {}", path.display())));
    Ok(config::Flags {
        issuer_url: arguments.oidc_issuer_url.clone(),
        client_id: arguments.oidc_client_id.clone(),
        username_claim: arguments.oidc_username_claim.clone(),
        username_prefix: arguments.oidc_username_prefix.clone(),
        groups_claim: arguments.oidc_groups_claim.clone(),
        groups_prefix: arguments.oidc_groups_prefix.clone(),
        signing_algs: arguments.oidc_signing_algs.clone(),
        required_claims: arguments.oidc_required_claim.clone(),
        ca_pem: ca_pem.transpose()?,
    })
}

/// The keys that service account tokens may be signed with: the server's own, and those of
/// `--service-account-key-file`.
pub fn service_account_keys(common: &Common, own: &[PublicKey]) -> Result<Vec<PublicKey>> {
    let mut all = own.to_vec();
    for path in &common.arguments.identity.service_account_key_file {
        let read = || -> Result<Vec<PublicKey>> {
            let text = std::fs::read_to_string(path)?;
            match PublicKey::all_from_pem(&text)? {
                none if none.is_empty() => Ok(vec![PublicKey::from_pem(&text)?]),
                keys => Ok(keys),
            }
        };
        let keys = read().with_context(|| format!("--service-account-key-file: {}", path.display()))?;
        all.extend(keys.into_iter().filter(|key| !own.contains(key)));
    }
    Ok(all)
}
