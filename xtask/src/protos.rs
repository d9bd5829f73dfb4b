//! Writes the gRPC stubs of `crates/cri` and `crates/apiserver` from their `.proto` files, so that neither `protoc` nor
//! a build script takes part in a normal build. The result is checked in; `cargo test -p xtask` fails when it is stale.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

/// A crate with a folder `proto`.
struct Stubs {
    name: &'static str,
    /// The file names `prost` gives packages, and ours.
    files: &'static [(&'static str, &'static str)],
    /// What of it has its bytes shared, not copied.
    bytes: &'static [&'static str],
}

const ALL: &[Stubs] = &[
    Stubs { name: "apiserver", files: &[("v2.rs", "kms_v2.rs")], bytes: &["."] },
    Stubs {
        name: "cri",
        files: &[
            ("runtime.v1.rs", "v1.rs"),
            ("containerd.events.rs", "containerd_event_types.rs"),
            ("containerd.services.content.v1.rs", "containerd_content.rs"),
            ("containerd.services.events.v1.rs", "containerd_events.rs"),
            ("containerd.services.images.v1.rs", "containerd_images.rs"),
            ("containerd.services.leases.v1.rs", "containerd_leases.rs"),
        ],
        bytes: &[".containerd.services.content.v1"],
    },
];

/// Rewrites the checked-in files.
pub fn run() -> anyhow::Result<()> {
    for stubs in ALL {
        let out = stubs.out();
        std::fs::create_dir_all(&out)?;
        for (name, text) in stubs.generate()? {
            std::fs::write(out.join(&name), text).with_context(|| format!("writing {name}"))?;
        }
    }
    Ok(())
}

impl Stubs {
    fn out(&self) -> std::path::PathBuf {
        crate::root().join("crates").join(self.name).join("src/generated")
    }

    /// What the files should hold, by name.
    fn generate(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let proto = crate::root().join("crates").join(self.name).join("proto");
        let mut sources: Vec<_> =
            std::fs::read_dir(&proto)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
        sources.retain(|path| path.extension().is_some_and(|ext| ext == "proto"));
        sources.sort();
        let descriptors = protox::compile(&sources, [&proto])?;

        let scratch = std::env::temp_dir().join(format!("pintle-xtask-{}-{}", self.name, std::process::id()));
        std::fs::create_dir_all(&scratch)?;
        let result = self.compile(descriptors, &scratch);
        std::fs::remove_dir_all(&scratch)?;
        result
    }

    fn compile(
        &self,
        descriptors: tonic_prost_build::FileDescriptorSet,
        scratch: &Path,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let mut build = tonic_prost_build::configure().build_server(false).btree_map(".").out_dir(scratch);
        for path in self.bytes {
            build = build.bytes(path);
        }
        build.compile_fds(descriptors)?;
        let mut files = BTreeMap::new();
        for (from, to) in self.files {
            let text =
                std::fs::read_to_string(scratch.join(from)).with_context(|| format!("{from} was not generated"))?;
            files.insert(
                (*to).to_owned(),
                format!("// Written by `cargo run -p xtask -- protos`; do not edit.\n{text}"),
            );
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checked_in_stubs_are_fresh() {
        for stubs in super::ALL {
            for (name, text) in stubs.generate().unwrap() {
                let found = std::fs::read_to_string(stubs.out().join(&name)).unwrap_or_default();
                assert!(found == text, "{}: {name} is stale: run `cargo run -p xtask -- protos`", stubs.name);
            }
        }
    }
}
