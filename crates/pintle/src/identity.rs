//! Who is who and who may do what, as flags and configuration files have it.

use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use apiserver::authz::{self, Chain};

use crate::cli::identity::IdentityArgs;
use crate::server::Common;

/// What tells this server apart from others in figures (upstream's `apiserver-HASH`).
fn server_id() -> String {
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
