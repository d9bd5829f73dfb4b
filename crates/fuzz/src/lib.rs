//! What untrusted bytes meet, one function each: whatever they are, it ends with a value or an error, and what is
//! promised of it holds. `scripts/fuzz` runs them under a coverage-guided fuzzer; what it found that is worth keeping
//! is in `corpus/`, which the tests of this crate run.
//!
//! Pure: no I/O, no clock.

mod apply;
mod cel_text;
mod custom;
mod object;
mod patch;
mod selector;
mod text;

/// A function to fuzz. Panics if a promise is broken.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const ALL: &[(&str, Target)] = &[
    ("object", object::run),
    ("patch", patch::run),
    ("apply", apply::run),
    ("selector", selector::run),
    ("cel", cel_text::run),
    ("custom", custom::run),
    ("text", text::run),
];

/// The first byte and the rest.
fn first(data: &[u8]) -> Option<(usize, &[u8])> {
    data.split_first().map(|(first, rest)| (usize::from(*first), rest))
}

/// Two texts out of one: what is before and after the first byte 0xff, which no text has.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == 0xff);
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
