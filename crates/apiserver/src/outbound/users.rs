//! Who the server is to those it calls: a user of a kubeconfig for each host, as webhooks' credentials are configured.
//!
//! Upstream: apiserver/pkg/util/webhook/authentication.go.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use super::Credentials;

/// Credentials to be shown. The same only as themselves.
#[derive(Debug, Clone)]
pub struct Shown(pub Arc<Credentials>);

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shown {}

impl Hash for Shown {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// The users of a kubeconfig, by the host that each is for.
#[derive(Debug, Default)]
pub struct Users {
    by_host: BTreeMap<String, Shown>,
    /// That of the current context, for every other host.
    current: Option<Shown>,
}

impl Users {
    /// All users of a file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(file: &Path) -> Result<Self, String> {
        let read = pki::kubeconfig::Users::load(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let shown = |user: pki::kubeconfig::User| {
            Shown(Arc::new(Credentials { identity: user.identity, token: user.token, ..Credentials::default() }))
        };
        let by_host: BTreeMap<String, Shown> =
            read.by_name.into_iter().map(|(name, user)| (name, shown(user))).collect();
        let current = read.current.and_then(|name| by_host.get(&name).cloned());
        Ok(Self { by_host, current })
    }

    /// Who to be to `host:port`: the user of that name, of the nearest `*.domain`, of `*`, or of the current context.
    pub fn to(&self, host: &str, port: u16) -> Option<&Shown> {
        let with_port = format!("{host}:{port}");
        let usual = (port == 443).then_some(host);
        let named = [Some(with_port.as_str()), usual].into_iter().flatten().find_map(|target| {
            let domains = target.match_indices('.').map(|(at, _)| format!("*{}", &target[at..]));
            std::iter::once(target.to_owned()).chain(domains).find_map(|name| self.by_host.get(&name))
        });
        named.or_else(|| self.by_host.get("*")).or(self.current.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use pki::kubeconfig::Token;

    use super::*;

    #[test]
    fn the_nearest_user_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.yaml");
        let users = ["hook.ns.svc", "*.ns.svc", "hook.example.com:8443", "*.example.com", "*.com:9443"];
        let each: String =
            users.iter().map(|name| format!("- {{name: '{name}', user: {{token: '{name}'}}}}\n")).collect();
        let text = |rest: &str| format!("apiVersion: v1\nkind: Config\nusers:\n{each}{rest}");
        let load = |rest: &str| {
            std::fs::write(&file, text(rest)).unwrap();
            Users::load(&file).unwrap()
        };
        let token = |users: &Users, host: &str, port: u16| match users.to(host, port)?.0.token.clone()? {
            Token::Inline(token) => Some(token),
            Token::File(_) => None,
        };
        let users = load("");
        for (host, port, user) in [
            ("hook.ns.svc", 443, Some("hook.ns.svc")),
            ("other.ns.svc", 443, Some("*.ns.svc")),
            ("hook.ns.svc", 8443, None),
            ("hook.example.com", 8443, Some("hook.example.com:8443")),
            ("hook.example.com", 443, Some("*.example.com")),
            ("a.hook.example.com", 443, Some("*.example.com")),
            ("hook.example.com", 9443, Some("*.com:9443")),
            ("example.org", 443, None),
        ] {
            assert_eq!(token(&users, host, port).as_deref(), user, "{host}:{port}");
        }
        let users = load("- {name: '*', user: {token: any}}\n");
        assert_eq!(token(&users, "example.org", 443).as_deref(), Some("any"));
        let current = "- {name: me, user: {token: mine}}\n\
                       contexts: [{name: c, context: {cluster: x, user: me}}]\ncurrent-context: c\n";
        assert_eq!(token(&load(current), "example.org", 443).as_deref(), Some("mine"));
        assert_eq!(token(&Users::default(), "example.org", 443), None);
    }
}
