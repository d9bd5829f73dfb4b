//! `$(NAME)` in commands, arguments, environment and paths (upstream `third_party/forked/golang/expansion`).

use std::collections::BTreeMap;

/// Replaces `$(NAME)` by the variable; an unknown one stays as it is, `$$` is a plain `$`.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    expand_noting(text, variables, &mut Vec::new())
}

/// As [`expand`]; the names of unknown variables are added to `unknown`.
pub fn expand_noting(text: &str, variables: &BTreeMap<String, String>, unknown: &mut Vec<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        match rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            Some((name, after)) => {
                match variables.get(name) {
                    Some(value) => out.push_str(value),
                    None => {
                        unknown.push(name.to_owned());
                        out.push_str(&format!("$({name})"));
                    }
                }
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_unknown_and_escaped() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)", "x1y$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$$", "$$"),
        ] {
            assert_eq!(expand(text, &variables), want, "{text}");
        }
    }
}
