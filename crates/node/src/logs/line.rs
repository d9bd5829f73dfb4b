//! One line of a log file in CRI's format: `2016-10-06T00:17:09.669794202Z stdout F text`, or Docker's JSON. Pure.

use std::borrow::Cow;

use base::Timestamp;

/// Which of a container's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"stdout" => Some(Self::Stdout),
            b"stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// What a line of a log file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written.
    pub timestamp: Timestamp,
    /// The same as it stands in the file.
    timestamp_text: Cow<'a, str>,
    /// Where to.
    pub stream: Stream,
    /// Whether the rest of the program's line is in the next line of the file.
    pub partial: bool,
    /// What, with its newline unless the line is partial or the file ends.
    pub content: Cow<'a, [u8]>,
}

impl<'a> Line<'a> {
    /// Reads a line, with its newline if it has one. `None`: it is not in a format that is known.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        if line.first() == Some(&b'{') { Self::parse_json(line) } else { Self::parse_cri(line) }
    }

    fn parse_cri(line: &'a [u8]) -> Option<Self> {
        let (timestamp_text, rest) = split_word(line)?;
        let timestamp_text = std::str::from_utf8(timestamp_text).ok()?;
        let (stream, rest) = split_word(rest)?;
        let (tags, mut content) = split_word(rest)?;
        let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
        if partial {
            content = content.strip_suffix(b"\n").unwrap_or(content);
        }
        Some(Self {
            timestamp: timestamp_text.parse().ok()?,
            timestamp_text: timestamp_text.into(),
            stream: Stream::parse(stream)?,
            partial,
            content: content.into(),
        })
    }

    fn parse_json(line: &'a [u8]) -> Option<Self> {
        let json: serde_json::Value = serde_json::from_slice(line).ok()?;
        let timestamp_text = json.get("time")?.as_str()?;
        let content = json.get("log").and_then(|log| log.as_str()).unwrap_or_default();
        Some(Self {
            timestamp: timestamp_text.parse().ok()?,
            timestamp_text: timestamp_text.to_owned().into(),
            stream: Stream::parse(json.get("stream")?.as_str()?.as_bytes())?,
            partial: !content.ends_with('\n'),
            content: content.as_bytes().to_vec().into(),
        })
    }

    /// The timestamp as clients are shown it: in the file's own time zone, always with nine decimals.
    pub fn shown_timestamp(&self) -> String {
        let text = &*self.timestamp_text;
        let zone_at = text.rfind(['Z', 'z', '+', '-']).filter(|at| *at > SECONDS_LEN - 1).unwrap_or(text.len());
        let (time, zone) = text.split_at(zone_at);
        let zone = if matches!(zone, "z" | "+00:00") { "Z" } else { zone };
        let (seconds, decimals) = time.split_once('.').unwrap_or((time, ""));
        format!("{seconds}.{decimals:0<9.9}{zone}")
    }
}

/// The length of `2016-10-06T00:17:09`.
const SECONDS_LEN: usize = 19;

fn split_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(line: &str) -> Option<(Stream, bool, String)> {
        let line = Line::parse(line.as_bytes())?;
        Some((line.stream, line.partial, String::from_utf8_lossy(&line.content).into_owned()))
    }

    #[test]
    fn lines() {
        let table = [
            ("2016-10-06T00:17:09.669794202Z stdout F a b\n", Some((Stream::Stdout, false, "a b\n"))),
            ("2016-10-06T00:17:09.669794202Z stdout F a", Some((Stream::Stdout, false, "a"))),
            ("2016-10-06T00:17:09Z stderr P a b\n", Some((Stream::Stderr, true, "a b"))),
            ("2016-10-06T00:17:09Z stderr P:X a\n", Some((Stream::Stderr, true, "a"))),
            ("2016-10-06T00:17:09+02:00 stdout F \n", Some((Stream::Stdout, false, "\n"))),
            ("2016-10-06T00:17:09Z stdout F  two spaces\n", Some((Stream::Stdout, false, " two spaces\n"))),
            ("2016-10-06T00:17:09Z stdin F a\n", None),
            ("2016-10-06T00:17:09Z stdout\n", None),
            ("yesterday stdout F a\n", None),
            ("\n", None),
            (
                "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2016-10-20T18:39:20.57606443Z\"}\n",
                Some((Stream::Stdout, false, "a\n")),
            ),
        ];
        for (line, expected) in table {
            let expected = expected.map(|(stream, partial, text)| (stream, partial, text.to_owned()));
            assert_eq!(content(line), expected, "{line:?}");
        }
    }

    #[test]
    fn timestamps_have_nine_decimals() {
        let table = [
            ("2016-10-06T00:17:09.669794202Z", "2016-10-06T00:17:09.669794202Z"),
            ("2016-10-06T00:17:09.6Z", "2016-10-06T00:17:09.600000000Z"),
            ("2016-10-06T00:17:09Z", "2016-10-06T00:17:09.000000000Z"),
            ("2016-10-06T00:17:09.1-07:00", "2016-10-06T00:17:09.100000000-07:00"),
            ("2016-10-06T00:17:09.1+00:00", "2016-10-06T00:17:09.100000000Z"),
        ];
        for (text, expected) in table {
            let line = format!("{text} stdout F a\n");
            assert_eq!(Line::parse(line.as_bytes()).unwrap().shown_timestamp(), expected);
        }
    }
}
