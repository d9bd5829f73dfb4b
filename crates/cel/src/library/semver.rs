//! Semantic versions.

use std::cmp::Ordering;

use super::{flag, text};
use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::value::{Thing, Value};

/// A version; what follows `+` has no part in comparison and is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

fn number(text: &str, what: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {what} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        let what = format!("{}{}", what[..1].to_uppercase(), &what[1..]);
        return Err(format!("{what} number must not contain leading zeroes {text:?}"));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Version {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".into());
        }
        let mut parts = text.splitn(3, '.');
        let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("No Major.Minor.Patch elements found".into());
        };
        let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, pre) = rest.split_once('-').map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
        let numbers = [number(major, "major")?, number(minor, "minor")?, number(patch, "patch")?];
        let pre = pre.map_or(Ok(Vec::new()), |pre| pre.split('.').map(part).collect())?;
        for word in build.iter().flat_map(|build| build.split('.')) {
            if word.is_empty() {
                return Err("Build meta data is empty".into());
            }
            if !is_word(word) {
                return Err(format!("Invalid character(s) found in build meta data {word:?}"));
            }
        }
        Ok(Version { numbers, pre })
    }

    /// Forgives a leading `v`, leading zeros, and a missing minor or patch number.
    fn parse_loose(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(trimmed).collect();
        if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".into());
        }
        parts.resize(3, "0".into());
        Self::parse(&parts.join("."))
    }
}

fn trimmed(part: &str) -> String {
    if part.len() < 2 {
        return part.to_owned();
    }
    let rest = part.trim_start_matches('0');
    if rest.starts_with(|c: char| c.is_ascii_digit()) { rest.to_owned() } else { format!("0{rest}") }
}

fn part(text: &str) -> Result<Part, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".into());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {text:?}"));
        }
        return text
            .parse()
            .map(Part::Number)
            .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"));
    }
    if is_word(text) {
        Ok(Part::Word(text.to_owned()))
    } else {
        Err(format!("Invalid character(s) found in prerelease {text:?}"))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // a version before its release comes first
        let released = self.pre.is_empty().cmp(&other.pre.is_empty());
        self.numbers.cmp(&other.numbers).then(released).then_with(|| self.pre.cmp(&other.pre))
    }
}

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("semver string_to_semver (string) Semver", |args| semver(args, false)),
    ("semver string_bool_to_semver (string,bool) Semver", |args| semver(args, flag(args, 1)?)),
    ("isSemver is_semver_string (string) bool", |args| Ok(Value::Bool(Version::parse(text(args, 0)?).is_ok()))),
    ("isSemver is_semver_string_bool (string,bool) bool", |args| {
        Ok(Value::Bool(parsed(text(args, 0)?, flag(args, 1)?).is_ok()))
    }),
    ("isGreaterThan semver_is_greater_than Semver.(Semver) bool", |args| Ok(Value::Bool(compare(args)?.is_gt()))),
    ("isLessThan semver_is_less_than Semver.(Semver) bool", |args| Ok(Value::Bool(compare(args)?.is_lt()))),
    ("compareTo semver_compare_to Semver.(Semver) int", |args| Ok(Value::Int(compare(args)? as i64))),
    ("major semver_major Semver.() int", |args| Ok(Value::Int(version(args, 0)?.numbers[0] as i64))),
    ("minor semver_minor Semver.() int", |args| Ok(Value::Int(version(args, 0)?.numbers[1] as i64))),
    ("patch semver_patch Semver.() int", |args| Ok(Value::Int(version(args, 0)?.numbers[2] as i64))),
];

fn parsed(text: &str, loose: bool) -> Result<Version, String> {
    if loose { Version::parse_loose(text) } else { Version::parse(text) }
}

fn semver<'a>(args: &[Value<'a>], loose: bool) -> Outcome<'a> {
    parsed(text(args, 0)?, loose).map(|version| Value::thing(Thing::Semver(version))).map_err(EvalError::runtime)
}

fn version<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v Version, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(thing)) => match &**thing {
            Thing::Semver(version) => Ok(version),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    Ok(version(args, 0)?.cmp(version(args, 1)?))
}
