//! EventRateLimit (off by default): so many events a second, of the whole server, a namespace, a user, or one source
//! about one object. What is too many is answered 429.
//!
//! Upstream: plugin/pkg/admission/eventratelimit. There, events of `events.k8s.io` pass unlimited; here they count as
//! those of the core group do.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::core::v1::Event;
use api::events::v1::Event as NewEvent;
use api::{FieldErrors, Path, Status};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{Operation, Request, done};
use crate::configuration::{self, Shape};

pub struct Plugin;

const VERSIONS: &[&str] = &["eventratelimit.admission.k8s.io/v1alpha1"];
/// How many namespaces, users or sources are told apart if the configuration does not say.
const CACHE_LEN_MAX: usize = 4096;

static SHAPE: Shape = Shape::Object(&[(
    "limits",
    &Shape::List(&Shape::Object(&[
        ("type", &Shape::Any),
        ("qps", &Shape::Any),
        ("burst", &Shape::Any),
        ("cacheSize", &Shape::Any),
    ])),
)]);

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    limits: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    r#type: String,
    qps: i32,
    burst: i32,
    cache_size: i32,
}

/// What events are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

const ALL: [By; 4] = [By::Server, By::Namespace, By::User, By::SourceAndObject];

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::Namespace => "Namespace",
            Self::User => "User",
            Self::SourceAndObject => "SourceAndObject",
        }
    }
}

/// All limits; none by default.
#[derive(Default)]
pub struct Limits(Vec<Limit>);

struct Limit {
    by: By,
    rate: Rate,
    buckets: Mutex<Buckets>,
}

/// Events a second, and at once after a pause.
#[derive(Debug, Clone, Copy)]
struct Rate {
    qps: f64,
    burst: f64,
}

impl Limits {
    /// From the plugin's configuration.
    ///
    /// # Errors
    /// All that is wrong with it, in upstream's words.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        let file: File = configuration::decode(text, "Configuration", VERSIONS, &SHAPE)?;
        let (mut errors, root) = (FieldErrors::new(), Path::new("limits"));
        if file.limits.is_empty() {
            errors.invalid(&root, Value::Null, "must not be empty");
        }
        let mut limits = Vec::new();
        for (index, entry) in file.limits.iter().enumerate() {
            let path = root.index(index);
            let by = ALL.into_iter().find(|by| by.name() == entry.r#type);
            if by.is_none() {
                let mut names = ALL.map(By::name);
                names.sort_unstable();
                errors.not_supported(&path.child("type"), entry.r#type.as_str(), &names);
            }
            for (name, value) in [("burst", entry.burst), ("qps", entry.qps)] {
                if value <= 0 {
                    errors.invalid(&path.child(name), value, "must be positive");
                }
            }
            let len_max = match usize::try_from(entry.cache_size) {
                Ok(0) => CACHE_LEN_MAX,
                Ok(len_max) => len_max,
                Err(_) if by == Some(By::Server) => 1,
                Err(_) => {
                    errors.invalid(&path.child("cacheSize"), entry.cache_size, "must not be negative");
                    1
                }
            };
            limits.extend(by.map(|by| Limit {
                by,
                rate: Rate { qps: entry.qps.into(), burst: entry.burst.into() },
                buckets: Mutex::new(Buckets { len_max, ..Buckets::default() }),
            }));
        }
        if errors.is_empty() { Ok(Self(limits)) } else { Err(errors.to_string()) }
    }

    /// Counts one event with each limit; the last one that it exceeds refuses it.
    fn take(&self, key: impl Fn(By) -> String, now: Instant) -> Result<(), Status> {
        let mut taken = Ok(());
        for limit in &self.0 {
            let key = key(limit.by);
            if !limit.buckets.lock().take(&key, limit.rate, now) {
                let why = format!("limit reached on type {} for key {key}", limit.by.name());
                taken = Err(Status::too_many_requests(why, 0));
            }
        }
        taken
    }
}

/// A bucket for each key; of too many, the one used longest ago is forgotten.
#[derive(Default)]
struct Buckets {
    len_max: usize,
    by_key: HashMap<Arc<str>, Bucket>,
    /// Keys by when they were used last.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
}

struct Bucket {
    left: f64,
    at: Instant,
    used: u64,
}

impl Buckets {
    /// A new bucket, in the place of another if there are too many.
    fn begin(&mut self, key: Arc<str>, bucket: Bucket) -> Arc<str> {
        if self.by_key.len() >= self.len_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_key.remove(&oldest);
        }
        self.by_key.insert(key.clone(), bucket);
        key
    }

    /// Takes one out of the key's bucket, if there is one in it.
    fn take(&mut self, key: &str, rate: Rate, now: Instant) -> bool {
        self.uses += 1;
        let key: Arc<str> = match self.by_key.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => self.begin(key.into(), Bucket { left: rate.burst, at: now, used: 0 }),
        };
        let Some(bucket) = self.by_key.get_mut(&key) else { return true };
        self.by_use.remove(&bucket.used);
        bucket.used = self.uses;
        self.by_use.insert(self.uses, key);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * rate.qps).min(rate.burst);
        bucket.at = now;
        let enough = bucket.left >= 1.0;
        if enough {
            bucket.left -= 1.0;
        }
        enough
    }
}

impl super::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn handles(&self, operation: Operation, group: &str, resource: &str, subresource: &str) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update);
        writes && matches!((group, resource, subresource), ("" | "events.k8s.io", "events", ""))
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let options = request.server.options();
        let source = source_and_object(request);
        let key = |by: By| match by {
            By::Server => String::new(),
            By::Namespace => request.namespace.to_owned(),
            By::User => request.caller.name.clone(),
            By::SourceAndObject => source.clone(),
        };
        done(options.admission_settings.event_rate_limit.take(key, options.clock.monotonic()))
    }
}

/// Who tells of what, in one word.
fn source_and_object(request: &mut Request<'_>) -> String {
    let (source, about) = if let Some(event) = request.object::<Event>() {
        (event.source.clone(), event.involved_object.clone())
    } else if let Some(event) = request.object::<NewEvent>() {
        (event.deprecated_source.clone(), event.regarding.clone().unwrap_or_default())
    } else {
        return String::new();
    };
    let source = source.unwrap_or_default();
    let all = [source.component, source.host, about.kind, about.namespace, about.name, about.uid, about.api_version];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HEAD: &str = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\n";

    fn decode(limits: &str) -> Result<Limits, String> {
        Limits::decode(format!("{HEAD}limits: {limits}").as_bytes())
    }

    #[test]
    fn wrong_files_are_refused_in_upstreams_words() {
        for (limits, why) in [
            ("[]", "limits: Invalid value: null: must not be empty"),
            (
                "[{type: Node, qps: 1, burst: 1}]",
                "limits[0].type: Unsupported value: \"Node\": supported values: \"Namespace\", \"Server\", \
                 \"SourceAndObject\", \"User\"",
            ),
            (
                "[{type: Server}]",
                "[limits[0].burst: Invalid value: 0: must be positive, limits[0].qps: Invalid value: 0: must be \
                 positive]",
            ),
            (
                "[{type: User, qps: 1, burst: 1, cacheSize: -1}]",
                "limits[0].cacheSize: Invalid value: -1: must not be negative",
            ),
            ("[{type: User, rate: 1}]", "strict decoding error: unknown field \"limits[0].rate\""),
        ] {
            assert_eq!(decode(limits).map(drop).unwrap_err(), why);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_has_its_own_bucket() {
        let limits = decode("[{type: Namespace, qps: 1, burst: 2, cacheSize: 2}]").unwrap();
        let start = Instant::now();
        let take = |namespace: &str, seconds: u64| {
            limits
                .take(|_| namespace.to_owned(), start + Duration::from_secs(seconds))
                .map_err(|s| s.message().to_owned())
        };
        let full = Err("limit reached on type Namespace for key a".to_owned());
        assert_eq!([take("a", 0), take("a", 0), take("a", 0)], [Ok(()), Ok(()), full.clone()]);
        assert_eq!(take("b", 0), Ok(()));
        assert_eq!([take("a", 1), take("a", 1)], [Ok(()), full.clone()], "one a second");
        // A third key: the one used longest ago is forgotten, and begins anew.
        assert_eq!([take("c", 1), take("a", 1)], [Ok(()), full]);
        assert_eq!([take("b", 1), take("b", 1)], [Ok(()), Ok(())]);
    }

    #[tokio::test(start_paused = true)]
    async fn every_limit_counts() {
        let limits = decode("[{type: Server, qps: 1, burst: 1}, {type: User, qps: 1, burst: 5}]").unwrap();
        let now = Instant::now();
        let take = || limits.take(|by| if by == By::User { "ann".into() } else { String::new() }, now);
        assert!(take().is_ok());
        let refused = take().unwrap_err();
        assert_eq!((refused.code(), refused.message()), (429, "limit reached on type Server for key "));
        for _ in 0..3 {
            take().unwrap_err();
        }
        assert_eq!(take().unwrap_err().message(), "limit reached on type User for key ann", "the last one speaks");
    }
}
