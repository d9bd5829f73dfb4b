//! `fieldPath` of a rule: fields and keys of maps, `.a['b.c']`.

use crate::node::Node;

const NO_FIELD: &str = "does not refer to a valid field";

/// One step in quotes, and what comes after its bracket.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let Some(inner) = text.strip_prefix('\'') else {
        let token = text.split(['.', '[', ']']).next().unwrap_or_default();
        return Err(format!("expected single quoted string but got {token}"));
    };
    let mut name = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => {
                let rest = &inner[at + 1..];
                return match rest.strip_prefix(']') {
                    Some(rest) => Ok((name, rest)),
                    None if rest.is_empty() => Err("unexpected end of JSON path".to_owned()),
                    None => Err(format!("expected ] but got {}", rest.split(['.', '[']).next().unwrap_or_default())),
                };
            }
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => name.push('\n'),
                Some('r') => name.push('\r'),
                Some('t') => name.push('\t'),
                Some(c @ ('\'' | '\\')) => name.push(c),
                other => {
                    let shown = other.map(String::from).unwrap_or_default();
                    return Err(format!("invalid string literal: invalid escape char \\{shown}"));
                }
            },
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".to_owned())
}

/// The path as errors write it, below the place of the rule.
pub(super) fn normalized(text: &str, node: &Node) -> Result<String, String> {
    let (mut node, mut rest, mut path) = (node, text, String::new());
    while !rest.is_empty() {
        let (name, after) = if let Some(inner) = rest.strip_prefix('.') {
            let end = inner.find(['.', '[', ']']).unwrap_or(inner.len());
            if end == 0 {
                return Err("unexpected end of JSON path".to_owned());
            }
            (inner[..end].to_owned(), &inner[end..])
        } else if let Some(inner) = rest.strip_prefix('[') {
            quoted(inner)?
        } else {
            let token = rest.split(['.', '[', ']']).next().unwrap_or_default();
            return Err(format!("expected [ or . but got: {token}"));
        };
        node = match (node.property(&name), node.values()) {
            (Some(below), _) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&name);
                below
            }
            (None, Some(values)) => {
                path.push_str(&format!("[{name}]"));
                values
            }
            (None, None) => return Err(NO_FIELD.to_owned()),
        };
        rest = after;
    }
    Ok(path)
}
