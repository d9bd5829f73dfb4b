//! Regular expressions in RE2's syntax, on an engine that reads nearly the same one.

use regex::{Regex, RegexBuilder};

/// Of the compiled program, in bytes.
const SIZE_MAX: usize = 1 << 20;

/// A pattern as Go reads it. The message is the engine's.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translated(pattern)).size_limit(SIZE_MAX).build().map_err(|error| error.to_string())
}

/// RE2's classes `\d`, `\w`, `\s` are of ASCII, and within brackets it gives no meaning to `[`, `&&` and `~~`.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    // whether a `]` here is a character of the class it would end
    let mut first = false;
    while let Some(c) = chars.next() {
        let at_start = std::mem::take(&mut first);
        match c {
            '\\' => match chars.next() {
                Some('Q') => literal(&mut out, &mut chars),
                Some(kind) => escaped(&mut out, kind, class),
                None => out.push('\\'),
            },
            '[' if !class => {
                (class, first) = (true, true);
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ']' if class && at_start => out.push_str("\\]"),
            ']' if class => {
                class = false;
                out.push(']');
            }
            '[' | '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

fn literal(out: &mut String, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next_if_eq(&'E').is_some() {
            break;
        }
        text.push(c);
    }
    out.push_str(&regex::escape(&text));
}

fn escaped(out: &mut String, kind: char, class: bool) {
    let set = match kind {
        'd' => "0-9",
        'D' => "^0-9",
        'w' => "0-9A-Za-z_",
        'W' => "^0-9A-Za-z_",
        's' => "\\t\\n\\f\\r\\x20",
        'S' => "^\\t\\n\\f\\r\\x20",
        'b' if !class => return out.push_str("(?-u:\\b)"),
        'C' if !class => return out.push_str("(?s:.)"),
        'z' => return out.push_str("\\z"),
        other => {
            out.push('\\');
            return out.push(other);
        }
    };
    out.push('[');
    out.push_str(set);
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_of_ascii_and_brackets_plain() {
        for (pattern, text, expected) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w-]+$", "a-b_1", true),
            (r"^[\w-]+$", "é", false),
            (r"^[[&&~]+$", "[&~", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]]+$", "a]", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^\Qa.b\E$", "axb", false),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), expected, "{pattern} on {text}");
        }
        assert!(compile("(a").is_err());
    }
}
