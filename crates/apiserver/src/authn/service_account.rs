//! Service account tokens: signed by the cluster, good while the service account and what the token is bound to exist.
//!
//! Upstream: pkg/serviceaccount/{claims,legacy}.go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Pod, Secret, ServiceAccount};
use api::{Object, Typed};
use base::{Clock, Timestamp};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use pki::token::{Ref, Verified, Verifier};
use sha2::{Digest, Sha256};

use super::{AUTHENTICATED, Authenticator, BadCredentials, RequestParts, Shown, bearer_token};
use crate::{Caller, Lookup};

/// How long a verified signature is believed without another look. Existence is checked every time.
const VERIFIED_TTL: Duration = Duration::from_secs(10);
/// How many verified tokens are remembered; when it is full all are forgotten.
const VERIFIED_LEN_MAX: usize = 4096;
/// What was deleted longer ago than this is gone, finalizers or not.
const DELETED_LEEWAY_SECONDS: i64 = 60;
const ALL_ACCOUNTS: &str = "system:serviceaccounts";
const INVALIDATED: &str = "service account token has been invalidated";

type Remembered = HashMap<([u8; 32], Vec<String>), (Arc<Verified>, Timestamp)>;

/// Authenticates service account tokens.
pub struct ServiceAccountTokens {
    verifier: Verifier,
    clock: Clock,
    verified: Mutex<Remembered>,
}

impl ServiceAccountTokens {
    pub fn new(verifier: Verifier, clock: Clock) -> Self {
        Self { verifier, clock, verified: Mutex::default() }
    }

    async fn check(&self, token: &str, audiences: &[String], lookup: &Lookup) -> Result<Option<Shown>, BadCredentials> {
        let Some(verified) = self.verify(token, audiences)? else { return Ok(None) };
        let caller = holds(&verified, lookup, self.clock.now()).await.map_err(BadCredentials)?;
        Ok(Some(Shown { caller: Arc::new(caller), audiences: verified.audiences.clone() }))
    }

    /// `None`: somebody else's token.
    fn verify(&self, token: &str, audiences: &[String]) -> Result<Option<Arc<Verified>>, BadCredentials> {
        let now = self.clock.now();
        let key = (Sha256::digest(token.as_bytes()).into(), audiences.to_vec());
        if let Some((verified, until)) = self.verified.lock().get(&key)
            && now < *until
        {
            return Ok(Some(verified.clone()));
        }
        let verified = match self.verifier.verify(token, audiences, now) {
            Ok(verified) => Arc::new(verified),
            Err(error) if error.is_foreign() => return Ok(None),
            Err(error) => return Err(BadCredentials(error.to_string())),
        };
        let expires = verified.claims.expires_at.and_then(|end| Timestamp::from_second(end).ok());
        let until = now + VERIFIED_TTL;
        let until = expires.map_or(until, |end| end.min(until));
        let mut remembered = self.verified.lock();
        if remembered.len() >= VERIFIED_LEN_MAX {
            remembered.clear();
        }
        remembered.insert(key, (verified.clone(), until));
        Ok(Some(verified))
    }
}

impl Authenticator for ServiceAccountTokens {
    fn authenticate<'a>(
        &'a self,
        parts: RequestParts<'a>,
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Arc<Caller>>, BadCredentials>> {
        Box::pin(async move {
            let Some(token) = bearer_token(parts.headers) else { return Ok(None) };
            Ok(self.check(token, &[], lookup).await?.map(|shown| shown.caller))
        })
    }

    fn authenticate_token<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
        lookup: &'a Lookup,
    ) -> BoxFuture<'a, Result<Option<Shown>, BadCredentials>> {
        Box::pin(self.check(token, audiences, lookup))
    }
}

/// The object as the cache has it, or else as the store does: a token may be younger than the cache.
async fn find<T: Typed>(lookup: &Lookup, namespace: &str, name: &str, uid: &str) -> Option<Arc<T>> {
    match lookup.get::<T>(namespace, name) {
        Some(found) if uid.is_empty() || found.uid() == uid => Some(found),
        _ => lookup.get_live(namespace, name).await.ok().flatten(),
    }
}

fn is_deleted(object: &dyn Object, now: Timestamp) -> bool {
    let deleted = object.metadata().deletion_timestamp.as_ref();
    deleted.is_some_and(|at| at.0.as_second() + DELETED_LEEWAY_SECONDS < now.as_second())
}

/// The caller a token stands for, if everything it names is still there.
async fn holds(verified: &Verified, lookup: &Lookup, now: Timestamp) -> Result<Caller, String> {
    let claims = &verified.claims.kubernetes;
    let (namespace, Ref { name, uid }) = (&claims.namespace, &claims.service_account);
    let account = find::<ServiceAccount>(lookup, namespace, name, uid).await;
    let account = account.ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
    if is_deleted(&*account, now) {
        return Err(format!("service account {namespace}/{name} has been deleted"));
    }
    if account.uid() != uid {
        return Err(format!("service account UID ({}) does not match claim ({uid})", account.uid()));
    }
    let mut extra = BTreeMap::new();
    let mut say = |key: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let Some(secret) = &claims.secret {
        bound::<Secret>(lookup, namespace, secret, "secret", now).await?;
    }
    if let Some(pod) = &claims.pod {
        bound::<Pod>(lookup, namespace, pod, "pod", now).await?;
        say("pod-name", &pod.name);
        say("pod-uid", &pod.uid);
    }
    if let Some(node) = &claims.node {
        // Beside a pod the node is for information: the pod keeps the token alive.
        if claims.pod.is_none() {
            bound::<Node>(lookup, "", node, "node", now).await?;
        }
        say("node-name", &node.name);
        if !node.uid.is_empty() {
            say("node-uid", &node.uid);
        }
    }
    if let Some(id) = &verified.claims.id {
        say("credential-id", &format!("JTI={id}"));
    }
    Ok(Caller { name: pki::token::username(namespace, name), uid: uid.clone(), groups: groups(namespace), extra })
}

/// The groups of a namespace's service accounts.
pub fn groups(namespace: &str) -> Vec<String> {
    vec![ALL_ACCOUNTS.to_owned(), format!("{ALL_ACCOUNTS}:{namespace}"), AUTHENTICATED.to_owned()]
}

/// The namespace and name of a service account by its user name.
pub fn split_username(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(pki::token::USERNAME_PREFIX)?.split_once(':')?;
    let valid =
        api::name::dns1123_label(namespace, false).is_empty() && api::name::dns1123_subdomain(name, false).is_empty();
    valid.then_some((namespace, name))
}

async fn bound<T: Typed>(lookup: &Lookup, namespace: &str, to: &Ref, what: &str, now: Timestamp) -> Result<(), String> {
    let found = find::<T>(lookup, namespace, &to.name, &to.uid).await.ok_or(INVALIDATED)?;
    if is_deleted(&*found, now) {
        return Err(INVALIDATED.to_owned());
    }
    if !to.uid.is_empty() && found.uid() != to.uid {
        let (own, claimed) = (found.uid(), &to.uid);
        return Err(format!("{what} UID ({own}) does not match service account {what} ref claim ({claimed})"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_of_service_accounts() {
        assert_eq!(split_username("system:serviceaccount:ns:web"), Some(("ns", "web")));
        assert_eq!(split_username("system:serviceaccount:ns:a.b"), Some(("ns", "a.b")));
        for bad in ["web", "system:serviceaccount:ns", "system:serviceaccount::web", "system:serviceaccount:ns:a:b"] {
            assert_eq!(split_username(bad), None, "{bad}");
        }
    }
}
