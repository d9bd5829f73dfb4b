//! Writes the gRPC stubs of `crates/cri` from its `.proto` files, so that neither `protoc` nor a build script takes
//! part in a normal build. The result is checked in; `cargo test -p xtask` fails when it is stale.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

/// The file names `prost` gives packages, and ours.
const FILES: &[(&str, &str)] = &[
    ("runtime.v1.rs", "v1.rs"),
    ("containerd.events.rs", "containerd_event_types.rs"),
    ("containerd.services.content.v1.rs", "containerd_content.rs"),
    ("containerd.services.events.v1.rs", "containerd_events.rs"),
    ("containerd.services.images.v1.rs", "containerd_images.rs"),
    ("containerd.services.leases.v1.rs", "containerd_leases.rs"),
];

/// Rewrites the checked-in files.
pub fn run() -> anyhow::Result<()> {
    let out = crate::root().join("crates/cri/src/generated");
    std::fs::create_dir_all(&out)?;
    for (name, text) in generate()? {
        std::fs::write(out.join(&name), text).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

/// What the files should hold, by name.
fn generate() -> anyhow::Result<BTreeMap<String, String>> {
    let proto = crate::root().join("crates/cri/proto");
    let mut sources: Vec<_> =
        std::fs::read_dir(&proto)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|ext| ext == "proto"));
    sources.sort();
    let descriptors = protox::compile(&sources, [&proto])?;

    let scratch = std::env::temp_dir().join(format!("pintle-xtask-cri-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let result = compile(descriptors, &scratch);
    std::fs::remove_dir_all(&scratch)?;
    result
}

fn compile(
    descriptors: tonic_prost_build::FileDescriptorSet,
    scratch: &Path,
) -> anyhow::Result<BTreeMap<String, String>> {
    tonic_prost_build::configure()
        .build_server(false)
        .btree_map(".")
        .bytes(".containerd.services.content.v1")
        .out_dir(scratch)
        .compile_fds(descriptors)?;
    let mut files = BTreeMap::new();
    for (from, to) in FILES {
        let text = std::fs::read_to_string(scratch.join(from)).with_context(|| format!("{from} was not generated"))?;
        files.insert((*to).to_owned(), format!("// Written by `cargo run -p xtask -- cri`; do not edit.\n{text}"));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checked_in_stubs_are_fresh() {
        let dir = crate::root().join("crates/cri/src/generated");
        for (name, text) in super::generate().unwrap() {
            let found = std::fs::read_to_string(dir.join(&name)).unwrap_or_default();
            assert!(found == text, "{name} is stale: run `cargo run -p xtask -- cri`");
        }
    }
}
