//! The flags of `pintle token`.

use std::time::Duration;

use clap::{Args, Subcommand};
use pki::bootstrap::Token;

use super::Place;

#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub action: TokenAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum TokenAction {
    /// Makes a token and prints it, and on the standard error how a node joins with it
    Create(CreateArgs),
    /// Lists the tokens there are
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Deletes tokens: nobody can join with them any more; nodes that have joined stay
    Delete {
        #[command(flatten)]
        place: Place,
        /// Whole tokens, or their ids (what is before the dot)
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub place: Place,
    /// The token, [a-z0-9]{6}.[a-z0-9]{16}; a random one if not given
    #[arg(value_name = "TOKEN")]
    pub token: Option<Token>,
    /// How long it is good for (1h30m); 0: for ever
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = apiserver::http::parse_duration)]
    pub ttl: Duration,
    /// What it is for, in words
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// What it may be used for: authentication (to join), signing (of the ConfigMap cluster-info, which Pintle has not)
    #[arg(long, value_name = "USAGES", value_delimiter = ',', default_value = "authentication",
          value_parser = ["authentication", "signing"])]
    pub usages: Vec<String>,
    /// Groups that its bearer is in beside system:bootstrappers; they begin with system:bootstrappers:
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', default_value = "system:bootstrappers:nodes")]
    pub groups: Vec<String>,
    /// Prints the command with which a node joins, and nothing else
    #[arg(long)]
    pub print_join_command: bool,
}
