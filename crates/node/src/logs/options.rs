//! What a client asks of a log: the query of `/containerLogs`, which is that of `PodLogOptions`. Pure.

use base::Timestamp;
use jiff::SignedDuration;

use super::line::Stream;

/// What is to be read, and how it is to look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Wait for more until the container ends.
    pub follow: bool,
    /// The log of the container that ran before this one.
    pub previous: bool,
    /// Only so many lines from the end of the file.
    pub tail_lines: Option<u64>,
    /// Only so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only what is not older.
    pub since: Option<Timestamp>,
    /// A timestamp before each line.
    pub timestamps: bool,
    /// One of the two outputs only.
    pub stream: Option<Stream>,
}

/// Why a query is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A value is not of its type.
    Undecodable,
    /// The values make no sense, together or alone (upstream `ValidatePodLogOptions`).
    Invalid,
}

impl Options {
    /// Reads the pairs of a query. What is not known is left alone.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn parse<'a>(query: impl Iterator<Item = (&'a str, &'a str)>, now: Timestamp) -> Result<Self, Refusal> {
        let mut options = Self::default();
        let (mut since_seconds, mut since_time, mut tail, mut old_tail) = (None, None, None, None);
        for (name, value) in query {
            match name {
                "follow" => options.follow = truth(value),
                "previous" => options.previous = truth(value),
                "timestamps" => options.timestamps = truth(value),
                "tailLines" => tail = Some(number(value)?),
                "tail" if !value.is_empty() => old_tail = Some(value),
                "limitBytes" => {
                    let limit = number(value)?;
                    options.limit_bytes = Some(u64::try_from(limit).map_err(|_| Refusal::Invalid)?);
                }
                "sinceSeconds" => since_seconds = Some(number(value)?),
                "sinceTime" if !matches!(value, "" | "null") => {
                    since_time = Some(value.parse::<Timestamp>().map_err(|_| Refusal::Undecodable)?);
                }
                "stream" => {
                    options.stream = match value {
                        "" | "All" => None,
                        "Stdout" => Some(Stream::Stdout),
                        "Stderr" => Some(Stream::Stderr),
                        _ => return Err(Refusal::Invalid),
                    }
                }
                _ => {}
            }
        }
        match old_tail {
            Some("all") => tail = None,
            Some(lines) => tail = Some(number(lines)?),
            None => {}
        }
        options.tail_lines = tail.map(u64::try_from).transpose().map_err(|_| Refusal::Invalid)?;
        let contradiction =
            since_seconds.is_some() && since_time.is_some() || options.tail_lines.is_some() && options.stream.is_some();
        if contradiction || since_seconds.is_some_and(|seconds| seconds < 1) || options.limit_bytes == Some(0) {
            return Err(Refusal::Invalid);
        }
        options.since = since_time.or_else(|| {
            since_seconds.map(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN))
        });
        Ok(options)
    }
}

/// As the API machinery reads booleans in queries.
fn truth(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

fn number(value: &str) -> Result<i64, Refusal> {
    value.parse().map_err(|_| Refusal::Undecodable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Options, Refusal> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        Options::parse(pairs.iter().map(|(name, value)| (&**name, &**value)), now)
    }

    #[test]
    fn queries() {
        let since = Some("2026-01-01T00:00:50Z".parse().unwrap());
        let table = [
            ("", Options::default()),
            ("follow=true&timestamps=1", Options { follow: true, timestamps: true, ..Options::default() }),
            ("follow=False&previous=", Options { previous: true, ..Options::default() }),
            ("tailLines=5&tail=all", Options::default()),
            ("tail=3", Options { tail_lines: Some(3), ..Options::default() }),
            ("sinceSeconds=10&limitBytes=7", Options { since, limit_bytes: Some(7), ..Options::default() }),
            ("sinceTime=2026-01-01T00:00:50Z", Options { since, ..Options::default() }),
            ("stream=Stderr", Options { stream: Some(Stream::Stderr), ..Options::default() }),
        ];
        for (query, expected) in table {
            assert_eq!(parse(query), Ok(expected), "{query}");
        }
        for query in ["tailLines=x", "limitBytes=", "sinceTime=yesterday", "sinceSeconds=1.5"] {
            assert_eq!(parse(query), Err(Refusal::Undecodable), "{query}");
        }
        let invalid = [
            "tailLines=-1",
            "limitBytes=0",
            "limitBytes=-1",
            "sinceSeconds=0",
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:50Z",
            "stream=Stdout&tailLines=1",
            "stream=stdout",
        ];
        for query in invalid {
            assert_eq!(parse(query), Err(Refusal::Invalid), "{query}");
        }
    }
}
