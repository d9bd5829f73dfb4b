//! Each file below `spec/` as a test of its own. `UPDATE_EXPECT=1` writes console blocks anew.

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};

/// Looks at the whole folder of specs.
type Check = fn(&Path) -> anyhow::Result<()>;

/// What is checked of the specs themselves.
const CHECKS: &[(&str, Check)] = &[
    ("every rule of the API has its proof", sim::spec::coverage::rules),
    ("every kind has its refusals", sim::spec::coverage::refusals),
];

fn main() {
    let arguments = Arguments::from_args();
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    // As cargo says now: a target folder that several clones share may hold a binary built from another of them.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let root = Path::new(&here).join("../../spec");
    let rewrite = std::env::var("UPDATE_EXPECT").is_ok_and(|value| value == "1");
    let found = sim::spec::find(&root).expect("the folder of specs");
    assert!(!found.is_empty(), "there are no specs in {}", root.display());
    let run = |(name, path): (String, std::path::PathBuf)| {
        Trial::test(name, move || sim::spec::run(&path, rewrite).map_err(|error| Failed::from(format!("{error:#}"))))
    };
    let mut trials: Vec<Trial> = found.into_iter().map(run).collect();
    for (name, check) in CHECKS {
        let root = root.clone();
        trials.push(Trial::test(*name, move || check(&root).map_err(|error| Failed::from(format!("{error:#}")))));
    }
    libtest_mimic::run(&arguments, trials).exit();
}
