//! Names of fields as expressions write them: what CEL cannot say is escaped (`a-b` is `a__dash__b`).

/// Words CEL keeps for itself; a field of such a name is written `__word__`.
pub(crate) const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const SEQUENCES: &[(&str, &str)] =
    &[("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The name an expression uses for this field, or `None` if there is no way to name it.
pub fn escape(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    let starts_well = bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/');
    if !starts_well || !bytes.iter().all(fits) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    if !bytes.iter().any(|byte| matches!(byte, b'.' | b'-' | b'/')) && !name.contains("__") {
        return Some(name.to_owned());
    }
    let mut escaped = String::with_capacity(name.len() + 16);
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        match SEQUENCES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            Some((plain, sequence)) => {
                escaped.push_str(sequence);
                rest = &rest[plain.len()..];
            }
            None => {
                escaped.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    Some(escaped)
}

/// The field an expression means by this name; `None` if the name holds a sequence that stands for nothing.
pub fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return Some(name.to_owned());
    }
    if let Some(word) = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && RESERVED.contains(&word)
    {
        return Some(word.to_owned());
    }
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("__") {
        plain.push_str(&rest[..at]);
        let (text, sequence) = SEQUENCES.iter().find(|(_, sequence)| rest[at..].starts_with(sequence))?;
        plain.push_str(text);
        rest = &rest[at + sequence.len()..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_both_ways() {
        for (name, escaped) in [
            ("spec", "spec"),
            ("a-b.c/d", "a__dash__b__dot__c__slash__d"),
            ("namespace", "__namespace__"),
            ("a__b", "a__underscores__b"),
            ("_x", "_x"),
        ] {
            assert_eq!(escape(name).as_deref(), Some(escaped));
            assert_eq!(unescape(escaped).as_deref(), Some(name));
        }
        assert_eq!(escape("9a"), None);
        assert_eq!(escape("a b"), None);
        assert_eq!(unescape("a__what__b"), None);
    }
}
