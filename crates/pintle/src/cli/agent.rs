//! The flags of `pintle agent`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::{NodeArgs, Place};

#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// The API server, https://HOST:PORT; not needed again once the node has joined
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The token of `pintle token create`; not needed again as long as the node's certificate lasts
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file with the token, for it not to be seen in the list of processes
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The hash of the CA's public key, as `pintle token create` prints it: sha256:HEX
    #[arg(long, value_name = "PIN", conflicts_with = "ca_file")]
    pub ca_pin: Option<String>,
    /// The CA itself, PEM, instead of its hash
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The address at which the API server and other nodes reach this one; that of the route to the server if not given
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub node: NodeArgs,
}
