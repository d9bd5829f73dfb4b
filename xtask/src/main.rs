//! Chores of the project that are programs: `cargo run -p xtask -- NAME`. One file each, one line each below.

mod bench;
mod protos;
mod tidy;

use std::path::PathBuf;

/// A chore: its name, what it does, how it is run.
type Chore = (&'static str, &'static str, fn() -> anyhow::Result<()>);

const ALL: &[Chore] = &[
    ("bench", "measures a server and prints the table of ARCHITECTURE.md section 6", bench::run),
    ("protos", "writes the gRPC stubs in src/generated of the crates that have a proto folder", protos::run),
    ("tidy", "checks the rules of ARCHITECTURE.md", tidy::run),
];

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    match ALL.iter().find(|chore| chore.0 == name) {
        Some(chore) => chore.2(),
        None => {
            let names: Vec<String> = ALL.iter().map(|chore| format!("  {:8} {}", chore.0, chore.1)).collect();
            anyhow::bail!("no chore named {name:?}; there are\n{}", names.join("\n"))
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    // As cargo says now: a target folder that several clones share may hold a binary built from another of them.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(here).parent().expect("xtask lies in the workspace").to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn tidy() {
        super::tidy::run().unwrap_or_else(|findings| panic!("{findings}"));
    }
}
