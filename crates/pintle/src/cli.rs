//! The command line.

pub mod identity;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub mod agent;
mod audit;
pub mod token;

pub use audit::AuditArgs;

/// Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(name = "pintle", version, about, max_term_width = 120, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a control plane, and a node unless told otherwise
    Server(Box<ServerArgs>),
    /// Runs a node of a cluster elsewhere
    Agent(Box<agent::AgentArgs>),
    /// Prints an admin's (or a user's) kubeconfig
    Kubeconfig(KubeconfigArgs),
    /// Makes, lists and deletes the tokens with which nodes join
    Token(token::TokenArgs),
    /// Saves, restores and verifies the cluster's state
    Backup(LaterArgs),
    /// Shows or renews certificates
    Certs(CertsArgs),
    /// Changes the key that secrets are sealed with, while the server serves
    Secrets(SecretsArgs),
    /// Shows components, nodes, store and certificates, and what is stuck and why
    Status(StatusArgs),
    /// Puts OCI archives into the node's runtime, or lists what is there
    Image(ImageArgs),
    /// Stops all pods of this node and removes what Pintle put into the kernel; the data dir stays
    Down(DownArgs),
    /// Hollow nodes and load for scale tests
    Sim(LaterArgs),
    /// Prints the version
    Version,
}

/// Where this Pintle lives.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Everything Pintle keeps is below this folder
    #[arg(long, default_value = "/var/lib/pintle", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Names bridges, nftables tables and cgroups, so that several Pintles can share a machine
    #[arg(long, default_value = "pintle", value_name = "NAME")]
    pub instance: String,
}

#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct ServerArgs {
    /// All of them by name, as they hold.
    #[arg(skip)]
    pub flags: BTreeMap<String, String>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub audit: AuditArgs,
    #[command(flatten)]
    pub identity: identity::IdentityArgs,
    /// An apiserver.config.k8s.io/v1 EncryptionConfiguration; without one, Secrets are sealed by the data dir's key
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Takes the EncryptionConfiguration anew when it changes, and seals everything by it
    #[arg(long, requires = "encryption_provider_config")]
    pub encryption_provider_config_automatic_reload: bool,
    /// Admission plugins to switch on beside those that are on
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins to switch off
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// A file of kind AdmissionConfiguration: what admission plugins are configured with
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    /// A YAML file whose keys are the names of these flags; flags on the command line win
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, default_value = "0.0.0.0:6443", value_name = "ADDRESS")]
    pub bind: SocketAddr,
    /// The address at which pods and other nodes reach the API; the default route's own address if not given
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// Where state is kept: embedded
    #[arg(long, default_value = "embedded", value_parser = ["embedded"])]
    pub store: String,
    /// etcd servers to keep state in (not built yet)
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub store_endpoints: Vec<String>,
    /// Control plane only: no node on this host
    #[arg(long)]
    pub no_agent: bool,
    /// The pods' addresses
    #[arg(long, default_value = "10.42.0.0/16", value_name = "CIDR")]
    pub cluster_cidr: String,
    /// The Services' addresses
    #[arg(long, default_value = "10.43.0.0/16", value_name = "CIDR")]
    pub service_cidr: String,
    /// The address of cluster DNS, inside the Services' addresses
    #[arg(long, default_value = "10.43.0.10", value_name = "IP")]
    pub cluster_dns: IpAddr,
    /// The cluster's domain
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
    /// Further names and addresses the API server answers to
    #[arg(long, value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// How long the server's own certificates live; they are renewed when a third of it is left
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = apiserver::http::parse_duration)]
    pub certificate_validity_period: Duration,
    /// How long new CAs live
    #[arg(long, value_name = "DURATION", default_value = "87600h", value_parser = apiserver::http::parse_duration)]
    pub ca_certificate_validity_period: Duration,
    /// The longest life of certificates signed for CertificateSigningRequests; these may ask for a shorter one
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = apiserver::http::parse_duration)]
    pub cluster_signing_duration: Duration,
    /// Refused: `pintle token create` makes the tokens with which nodes join
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Also writes the admin kubeconfig there, mode 0600
    #[arg(long, value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
    /// Switches features on or off: A=true,B=false (none can be switched yet)
    #[arg(long, value_name = "GATES", value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// Turns versions of the API on or off: api/beta=true, batch/v1=false, api/all=false,v1=true,
    /// apps/v1/deployments=false. Beta and alpha versions are off if nothing is said
    #[arg(long, value_name = "SETTINGS", value_delimiter = ',')]
    pub runtime_config: Vec<String>,
    /// How many requests that change nothing may be under way at once; with those that do, their number is shared out
    /// among the priority levels
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// How many requests that change something may be under way at once
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How long the API serves on as before after SIGTERM, while /readyz already says no
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = apiserver::http::parse_duration)]
    pub shutdown_delay_duration: Duration,
    /// Over how long watches are ended after that, so that not all clients come back at once
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = apiserver::http::parse_duration)]
    pub shutdown_watch_termination_grace_period: Duration,
}

/// What a node is told, as a server's or an agent's.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// The node's name; the host name if not given
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The container runtime: a private containerd (`containerd`), or the CRI socket of a running one (`unix:///PATH`)
    #[arg(long, default_value = "containerd", value_name = "RUNTIME")]
    pub runtime: String,
    /// Where the CNI plugins are
    #[arg(long, default_value = "/usr/lib/cni", value_name = "DIR")]
    pub cni_bin_dir: PathBuf,
    /// The port of the node's own API (logs, exec)
    #[arg(long, default_value_t = 10250, value_name = "PORT")]
    pub kubelet_port: u16,
    /// The processes and threads one pod may have; -1: no bound of its own
    #[arg(long, default_value_t = 4096, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pod_max_pids: i64,
    /// What is logged: error, warn, info, debug, trace, or per module (`info,node=debug`)
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

#[derive(Debug, Clone, Args)]
pub struct KubeconfigArgs {
    #[command(flatten)]
    pub place: Place,
    /// A user other than the admin
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The user's groups
    #[arg(long, value_name = "GROUP", requires = "user")]
    pub group: Vec<String>,
    /// The API server's address in it, if not this machine's
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct CertsArgs {
    #[command(flatten)]
    pub place: Place,
    /// `list`, or `rotate`: everything is issued anew while the server serves
    #[arg(value_parser = ["list", "rotate"], default_value = "list")]
    pub action: String,
    /// Replaces the CAs, in three steps: introduce (new ones are trusted), switch (they sign), retire (the old ones go)
    #[arg(long, value_name = "STEP", num_args = 0..=1, default_missing_value = "introduce",
          value_parser = ["introduce", "switch", "retire"])]
    pub ca: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct SecretsArgs {
    #[command(subcommand)]
    pub action: SecretsAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum SecretsAction {
    /// Makes a new key (or reads the EncryptionConfiguration anew) and seals everything by it; says what was done
    Rotate {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub place: Place,
    /// Waits until the API is ready and a node is Ready, at most this many seconds
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Checks what a hardening guide (the CIS Kubernetes Benchmark) asks, and says what mends what is not so
    #[arg(long)]
    pub security: bool,
    /// How the checks are shown: for people if not given
    #[arg(long, short, requires = "security", value_parser = ["json"], value_name = "FORMAT")]
    pub output: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    pub action: ImageAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ImageAction {
    /// Imports OCI or docker archives
    Import {
        #[command(flatten)]
        place: Place,
        /// The CRI socket, if not the private containerd's
        #[arg(long, value_name = "unix:///PATH")]
        runtime: Option<String>,
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Lists the images of the node's runtime
    List {
        #[command(flatten)]
        place: Place,
        /// The CRI socket, if not the private containerd's
        #[arg(long, value_name = "unix:///PATH")]
        runtime: Option<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of commands that are not built yet: whatever they are, the answer is the same.
#[derive(Debug, Clone, Args)]
pub struct LaterArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<String>,
}
