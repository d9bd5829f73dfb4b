//! What the query of an exec, attach or port-forward asks. Pure.

use crate::streaming::channels::Streams;

/// How many ports one request may forward (each takes two of 256 channels).
const PORTS_LEN_MAX: usize = 100;

/// The pairs of a query, decoded.
pub fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// Which streams are wanted. The API server says `input`, `output`, `error`; the API itself `stdin`, `stdout`,
/// `stderr`.
///
/// # Errors
/// Upstream's words when there is none.
pub fn streams(query: &[(String, String)]) -> Result<Streams, &'static str> {
    let is = |names: [&str; 2]| {
        query.iter().any(|(name, value)| names.contains(&name.as_str()) && matches!(value.as_str(), "1" | "true"))
    };
    let tty = is(["tty", "tty"]);
    // A terminal has one output.
    let stderr = is(["error", "stderr"]) && !tty;
    let streams = Streams { stdin: is(["input", "stdin"]), stdout: is(["output", "stdout"]), stderr, tty };
    if streams.stdin || streams.stdout || streams.stderr {
        Ok(streams)
    } else {
        Err("you must specify at least 1 of stdin, stdout, stderr")
    }
}

/// The words of the command.
pub fn command(query: &[(String, String)]) -> Vec<String> {
    query.iter().filter(|(name, _)| name == "command").map(|(_, word)| word.clone()).collect()
}

/// The ports to be forwarded, for clients that name them in the query.
///
/// # Errors
/// Upstream's words when there is none or one is none.
pub fn ports(query: &[(String, String)]) -> Result<Vec<u16>, String> {
    let values = query.iter().filter(|(name, _)| matches!(name.as_str(), "port" | "ports"));
    let mut ports = Vec::new();
    for text in values.flat_map(|(_, value)| value.split(',')) {
        match text.parse() {
            Ok(port) if port > 0 => ports.push(port),
            _ => return Err(format!("unable to parse {text:?} as a port")),
        }
    }
    match ports.len() {
        0 => Err("query parameter \"port\" is required".to_owned()),
        len if len > PORTS_LEN_MAX => Err(format!("at most {PORTS_LEN_MAX} ports can be forwarded at once")),
        _ => Ok(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = pairs(Some("command=sh&command=-c&command=echo+a%26b&input=1&output=1&error=1"));
        assert_eq!(command(&query), ["sh", "-c", "echo a&b"]);
        assert_eq!(streams(&query), Ok(Streams { stdin: true, stdout: true, stderr: true, tty: false }));
        let tty = pairs(Some("stdout=true&stderr=true&tty=1"));
        assert_eq!(streams(&tty), Ok(Streams { stdin: false, stdout: true, stderr: false, tty: true }));
        assert!(streams(&pairs(Some("tty=1&input=0"))).is_err());
        assert_eq!(ports(&pairs(Some("ports=80,81&port=82"))), Ok(vec![80, 81, 82]));
        for bad in ["", "port=0", "port=70000", "ports=80,"] {
            assert!(ports(&pairs(Some(bad))).is_err(), "{bad}");
        }
    }
}
