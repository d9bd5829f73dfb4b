//! The fuzzer's side of `crates/fuzz`: the target is the one that `FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|(own, _)| *own == name);
    let names: Vec<&str> = targets::ALL.iter().map(|(own, _)| *own).collect();
    found.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?}: it must be one of {names:?}")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
