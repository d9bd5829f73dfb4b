//! How long a decision of the standard authorizers takes, from memory, with many bindings: for ADR 3.
//!
//! `cargo run --release -p pintle-apiserver --example authorize [BINDINGS]`

use std::hint::black_box;
use std::time::Duration;

use api::Object;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use apiserver::authz::{self, Attributes, Authorizer, What};
use apiserver::{Caller, Lookup, Options, Server};
use base::{Clock, TaskGroup};

type AnyError = Box<dyn std::error::Error>;

/// Groups that the bindings share out among them.
const GROUPS: usize = 50;
const ROUNDS: usize = 1000;
/// Decisions timed together: the clock itself takes its time.
const ROUND_LEN: u32 = 100;

fn main() -> Result<(), AnyError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

fn subject(kind: &str, name: String) -> Subject {
    Subject { kind: kind.to_owned(), name, ..Subject::default() }
}

async fn fill(store: &store::Store, bindings: usize) -> Result<(), AnyError> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let rule = PolicyRule {
        api_groups: Some(words(&[""])),
        resources: Some(words(&["pods", "services", "configmaps"])),
        verbs: words(&["get", "list", "watch"]),
        ..PolicyRule::default()
    };
    let mut role = ClusterRole { rules: Some(vec![rule; 10]), ..ClusterRole::default() };
    role.metadata.name = Some("reader".to_owned());
    store.create("/registry/clusterroles/reader", role.encode().into(), None).await?;
    for n in 0..bindings {
        let mut binding = ClusterRoleBinding {
            role_ref: RoleRef { kind: "ClusterRole".into(), name: "reader".into(), ..RoleRef::default() },
            subjects: Some(vec![
                subject("User", format!("user-{n}")),
                subject("Group", format!("group-{}", n % GROUPS)),
            ]),
            ..ClusterRoleBinding::default()
        };
        binding.metadata.name = Some(format!("binding-{n:05}"));
        store.create(&format!("/registry/clusterrolebindings/binding-{n:05}"), binding.encode().into(), None).await?;
    }
    Ok(())
}

/// The median and the worst of the rounds, each decision.
fn time(clock: Clock, authorizer: &dyn Authorizer, lookup: &Lookup, caller: &Caller, verb: &str) -> [Duration; 2] {
    let what = What::Resource {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        namespace: "default",
        name: "web",
        field_selector: None,
        label_selector: None,
    };
    let attributes = Attributes { caller, verb, what };
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = clock.monotonic();
            for _ in 0..ROUND_LEN {
                black_box(authorizer.authorize(black_box(&attributes), lookup));
            }
            (clock.monotonic() - start) / ROUND_LEN
        })
        .collect();
    rounds.sort();
    [rounds[ROUNDS / 2], rounds[ROUNDS - 1]]
}

async fn run() -> Result<(), AnyError> {
    let bindings: usize = std::env::args().nth(1).map_or(Ok(5000), |text| text.parse())?;
    let clock = Clock::system();
    let tasks = TaskGroup::new();
    let store = store::Store::memory();
    fill(&store, bindings).await?;
    let server = Server::start(store, Options::default(), tasks.clone()).await?;
    let (authorizer, lookup) = (authz::standard(), server.lookup());
    println!("{bindings} bindings, {GROUPS} groups; one decision, median and worst of {ROUNDS} rounds of {ROUND_LEN}");
    let cases = [
        ("a user with one binding, allowed", Caller::new("user-77", &["nobody"]), "get"),
        ("a user with one binding, refused", Caller::new("user-77", &["nobody"]), "delete"),
        ("a user with none, refused", Caller::new("jane", &["nobody"]), "get"),
        ("a group with a fiftieth of them, allowed", Caller::new("jane", &["group-7"]), "get"),
        ("a group with a fiftieth of them, refused", Caller::new("jane", &["group-7"]), "delete"),
    ];
    for (shown, caller, verb) in cases {
        let [median, worst] = time(clock, &*authorizer, lookup, &caller, verb);
        println!("{shown:<44} {median:>10.2?} {worst:>10.2?}");
    }
    tasks.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
