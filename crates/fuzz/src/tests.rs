//! The corpus, and some thousand changes of each of its files.

use std::path::PathBuf;

use super::ALL;

/// What bytes are replaced by.
const BYTES: &[u8] = b"09-[]{}\"':,.azAZ\\/ \n\x00\xff*()=!<>$|&%";
/// Changes made of one file.
const CHANGES: u64 = 200;

/// As cargo says now: a target folder may be shared by clones.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let folder = PathBuf::from(here).join("corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(&file).expect("readable"))).collect()
}

#[test]
fn every_file_of_the_corpus_holds() {
    for (name, target) in ALL {
        let files = corpus(name);
        assert!(files.len() >= 5, "{name}: {} files", files.len());
        for (_, data) in &files {
            target(data);
        }
    }
}

/// Bytes replaced, left out, doubled, and pieces of one file put into another: the same ones in every run.
#[test]
fn what_is_near_the_corpus_holds() {
    for (name, target) in ALL {
        let files = corpus(name);
        for (index, (path, data)) in files.iter().enumerate() {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ index as u64);
            for _ in 0..CHANGES {
                let (_, other) = &files[random.below(files.len())];
                let changed = random.change(data, other);
                let run = std::panic::catch_unwind(|| target(&changed));
                assert!(run.is_ok(), "{name}, near {}: {:?}", path.display(), String::from_utf8_lossy(&changed));
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below a usize")
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let (one, other) = (self.below(len + 1), self.below(len + 1));
        one.min(other)..one.max(other).min(one.min(other) + 24)
    }

    fn change(&mut self, data: &[u8], other: &[u8]) -> Vec<u8> {
        let mut changed = data.to_vec();
        for _ in 0..=self.below(3) {
            let range = self.range(changed.len());
            match self.below(5) {
                0 => drop(changed.drain(range)),
                1 => {
                    let copy = changed[range.clone()].to_vec();
                    changed.splice(range.end..range.end, copy);
                }
                2 => {
                    let piece = other[self.range(other.len())].to_vec();
                    changed.splice(range, piece);
                }
                _ => {
                    let at = self.below(changed.len());
                    if let Some(byte) = changed.get_mut(at) {
                        *byte = BYTES[self.below(BYTES.len())];
                    }
                }
            }
        }
        changed
    }
}
