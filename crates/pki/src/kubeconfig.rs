//! Kubeconfigs: how a client finds a cluster and proves who it is. Written in kubectl's format, and read in it.
//!
//! What cannot be honoured here (exec and auth-provider plug-ins, passwords, unverified servers) is refused by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::file;
use crate::identity::Identity;

/// A bearer token, or where it is kept and renewed.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// The token itself.
    Inline(String),
    /// A file to read it from at every use: somebody renews it.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(***)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// One context of a kubeconfig with all it refers to.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    /// The API server's URL.
    pub server: String,
    /// The CAs that may sign for it; `None`: the host's.
    pub ca_pem: Option<String>,
    /// The name its certificate must bear, when it is not the URL's.
    pub tls_server_name: Option<String>,
    /// A client certificate.
    pub identity: Option<Identity>,
    /// A bearer token.
    pub token: Option<Token>,
    /// The namespace of requests that name none.
    pub namespace: Option<String>,
    /// The cluster entry's name.
    pub cluster: String,
    /// The user entry's name.
    pub user: String,
    /// The context entry's name.
    pub context: String,
}

impl Kubeconfig {
    /// For `server`, signed by `ca_pem`; `cluster`, `user` and the context `<user>@<cluster>` are names for people.
    pub fn new(server: &str, ca_pem: &str, cluster: &str, user: &str) -> Self {
        Self {
            server: server.to_owned(),
            ca_pem: Some(ca_pem.to_owned()),
            tls_server_name: None,
            identity: None,
            token: None,
            namespace: None,
            cluster: cluster.to_owned(),
            user: user.to_owned(),
            context: format!("{user}@{cluster}"),
        }
    }

    /// Authenticates with a client certificate.
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Authenticates with a bearer token.
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::Inline(token.into()));
        self
    }

    /// The YAML text, with certificates and keys inside.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<Zeroizing<String>> {
        let (token, token_file) = match &self.token {
            Some(Token::Inline(token)) => (Some(token.clone()), None),
            Some(Token::File(path)) => (None, Some(path.clone())),
            None => (None, None),
        };
        let config = wire::Config {
            api_version: "v1".to_owned(),
            kind: "Config".to_owned(),
            clusters: Some(vec![wire::NamedCluster {
                name: self.cluster.clone(),
                cluster: wire::Cluster {
                    server: self.server.clone(),
                    certificate_authority_data: self.ca_pem.as_ref().map(|pem| STANDARD.encode(pem)),
                    tls_server_name: self.tls_server_name.clone(),
                    ..wire::Cluster::default()
                },
            }]),
            contexts: Some(vec![wire::NamedContext {
                name: self.context.clone(),
                context: wire::Context {
                    cluster: self.cluster.clone(),
                    user: self.user.clone(),
                    namespace: self.namespace.clone(),
                },
            }]),
            current_context: self.context.clone(),
            users: Some(vec![wire::NamedUser {
                name: self.user.clone(),
                user: wire::User {
                    client_certificate_data: self.identity.as_ref().map(|id| STANDARD.encode(id.cert_pem())),
                    client_key_data: self.identity.as_ref().map(|id| STANDARD.encode(id.key_pem())),
                    token,
                    token_file,
                    ..wire::User::default()
                },
            }]),
        };
        // One line for each key, as kubectl writes it: people cut certificates out of these files with grep.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&config, options).map(Zeroizing::new).map_err(malformed)
    }

    /// Writes the YAML with mode 0600, whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`], and as [`Kubeconfig::to_yaml`].
    pub fn save(&self, path: &Path) -> Result<()> {
        file::write_atomic(path, self.to_yaml()?.as_bytes(), file::SECRET)
    }

    /// Reads a file's current context, or the one named; paths in it are relative to it.
    ///
    /// # Errors
    /// [`Error::File`], and as [`Kubeconfig::from_yaml`].
    pub fn load(path: &Path, context: Option<&str>) -> Result<Self> {
        let text = Zeroizing::new(file::read(path)?);
        Self::from_yaml(&text, path.parent().unwrap_or(Path::new(".")), context)
    }

    /// Reads YAML (or JSON) text; files that it names are looked for in `directory`.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no kubeconfig or an entry is missing; [`Error::Refused`] when it asks for
    /// something that is not supported; [`Error::File`] for the files it names.
    pub fn from_yaml(text: &str, directory: &Path, context: Option<&str>) -> Result<Self> {
        let config: wire::Config = serde_saphyr::from_str(text).map_err(malformed)?;
        let name = context.unwrap_or(&config.current_context);
        if name.is_empty() {
            return Err(malformed("current-context is not set"));
        }
        let context = config
            .contexts
            .into_iter()
            .flatten()
            .find(|context| context.name == name)
            .ok_or_else(|| malformed(format!("context {name:?} does not exist")))?;
        let cluster = config
            .clusters
            .into_iter()
            .flatten()
            .find(|cluster| cluster.name == context.context.cluster)
            .ok_or_else(|| malformed(format!("cluster {:?} does not exist", context.context.cluster)))?;
        let user = config.users.into_iter().flatten().find(|user| user.name == context.context.user);
        if user.is_none() && !context.context.user.is_empty() {
            return Err(malformed(format!("user {:?} does not exist", context.context.user)));
        }
        let user = user.map(|user| user.user).unwrap_or_default();
        refuse_unsupported(&cluster.cluster, &user)?;
        let ca_pem = inline_or_file(
            cluster.cluster.certificate_authority_data.as_deref(),
            cluster.cluster.certificate_authority.as_deref(),
            directory,
        )?;
        Ok(Self {
            server: cluster.cluster.server,
            ca_pem: ca_pem.map(|pem| pem.to_string()),
            tls_server_name: cluster.cluster.tls_server_name,
            identity: identity(&user, directory)?,
            token: token(user.token, user.token_file, directory),
            namespace: context.context.namespace,
            cluster: cluster.name,
            user: context.context.user,
            context: context.name,
        })
    }
}

/// How one user of a kubeconfig proves who he is.
#[derive(Debug, Clone)]
pub struct User {
    /// A client certificate.
    pub identity: Option<Identity>,
    /// A bearer token.
    pub token: Option<Token>,
}

/// All users of a kubeconfig: for who is somebody else to each server.
#[derive(Debug, Clone)]
pub struct Users {
    /// By the names of their entries.
    pub by_name: BTreeMap<String, User>,
    /// The current context's.
    pub current: Option<String>,
}

impl Users {
    /// Reads a file; paths in it are relative to it.
    ///
    /// # Errors
    /// As [`Kubeconfig::load`], with the user's name where there is one.
    pub fn load(path: &Path) -> Result<Self> {
        let text = Zeroizing::new(file::read(path)?);
        let directory = path.parent().unwrap_or(Path::new("."));
        let config: wire::Config = serde_saphyr::from_str(&text).map_err(malformed)?;
        let mut by_name = BTreeMap::new();
        for user in config.users.into_iter().flatten() {
            refuse_unsupported(&wire::Cluster::default(), &user.user)
                .map_err(|error| malformed(format!("user {:?}: {error}", user.name)))?;
            let own = User {
                identity: identity(&user.user, directory)?,
                token: token(user.user.token, user.user.token_file, directory),
            };
            by_name.insert(user.name, own);
        }
        let contexts = config.contexts.into_iter().flatten();
        let mut current = contexts.filter(|own| own.name == config.current_context).map(|own| own.context.user);
        let current = current.find(|user| !user.is_empty());
        Ok(Self { by_name, current })
    }
}

fn token(inline: Option<String>, file: Option<PathBuf>, directory: &Path) -> Option<Token> {
    match (inline, file) {
        (_, Some(path)) => Some(Token::File(directory.join(path))),
        (Some(token), None) if !token.is_empty() => Some(Token::Inline(token)),
        _ => None,
    }
}

fn malformed(reason: impl ToString) -> Error {
    Error::malformed("kubeconfig", reason)
}

fn refuse_unsupported(cluster: &wire::Cluster, user: &wire::User) -> Result<()> {
    let refused = [
        (cluster.insecure_skip_tls_verify, "insecure-skip-tls-verify: servers are always verified"),
        (cluster.proxy_url.is_some(), "proxy-url"),
        (user.exec.is_some(), "exec"),
        (user.auth_provider.is_some(), "auth-provider"),
        (user.username.is_some() || user.password.is_some(), "username and password"),
    ];
    match refused.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(Error::Refused(format!("the kubeconfig has what is not supported: {what}"))),
        None => Ok(()),
    }
}

fn identity(user: &wire::User, directory: &Path) -> Result<Option<Identity>> {
    let cert_pem =
        inline_or_file(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), directory)?;
    let key_pem = inline_or_file(user.client_key_data.as_deref(), user.client_key.as_deref(), directory)?;
    match (cert_pem, key_pem) {
        (Some(cert_pem), Some(key_pem)) => Ok(Some(Identity::from_pem(&cert_pem, &key_pem)?)),
        (None, None) => Ok(None),
        _ => Err(malformed("a client certificate and its key must be given together")),
    }
}

/// Data wins over a file, as upstream.
fn inline_or_file(data: Option<&str>, path: Option<&Path>, directory: &Path) -> Result<Option<Zeroizing<String>>> {
    match (data.filter(|data| !data.is_empty()), path.filter(|path| !path.as_os_str().is_empty())) {
        (Some(data), _) => {
            let bytes = STANDARD.decode(data.trim()).map_err(malformed)?;
            Ok(Some(Zeroizing::new(String::from_utf8(bytes).map_err(malformed)?)))
        }
        (None, Some(path)) => Ok(Some(Zeroizing::new(file::read(&directory.join(path))?))),
        (None, None) => Ok(None),
    }
}

/// The file's own shape (client-go's `clientcmd/api/v1`); keys that are not used here are ignored.
mod wire {
    use super::{Deserialize, PathBuf, Serialize};

    /// Present and of any shape: noticed, never used.
    pub(super) type Ignored = serde::de::IgnoredAny;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Config {
        #[serde(rename = "apiVersion", default)]
        pub(super) api_version: String,
        pub(super) clusters: Option<Vec<NamedCluster>>,
        pub(super) contexts: Option<Vec<NamedContext>>,
        #[serde(rename = "current-context", default)]
        pub(super) current_context: String,
        #[serde(default)]
        pub(super) kind: String,
        pub(super) users: Option<Vec<NamedUser>>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct NamedCluster {
        pub(super) cluster: Cluster,
        pub(super) name: String,
    }

    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub(super) struct Cluster {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) certificate_authority: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) certificate_authority_data: Option<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub(super) insecure_skip_tls_verify: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) proxy_url: Option<String>,
        pub(super) server: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) tls_server_name: Option<String>,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct NamedContext {
        pub(super) context: Context,
        pub(super) name: String,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Context {
        pub(super) cluster: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) namespace: Option<String>,
        #[serde(default)]
        pub(super) user: String,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct NamedUser {
        pub(super) name: String,
        pub(super) user: User,
    }

    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub(super) struct User {
        #[serde(skip_serializing)]
        pub(super) auth_provider: Option<Ignored>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) client_certificate: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) client_certificate_data: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) client_key: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) client_key_data: Option<String>,
        #[serde(skip_serializing)]
        pub(super) exec: Option<Ignored>,
        #[serde(skip_serializing)]
        pub(super) password: Option<Ignored>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) token: Option<String>,
        #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
        pub(super) token_file: Option<PathBuf>,
        #[serde(skip_serializing)]
        pub(super) username: Option<Ignored>,
    }
}

#[cfg(test)]
mod tests;
