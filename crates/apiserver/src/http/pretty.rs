//! JSON text for people, made from compact text piece by piece: a member a line, two spaces a level, as Go does it.

/// What was seen of the text so far.
#[derive(Debug, Default)]
pub struct Pretty {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// A bracket was opened and nothing came after it yet.
    open: bool,
}

impl Pretty {
    /// Appends the next piece of text.
    pub fn write(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for byte in text {
            if self.in_string {
                out.push(*byte);
                match (self.escaped, byte) {
                    (true, _) => self.escaped = false,
                    (false, b'\\') => self.escaped = true,
                    (false, b'"') => self.in_string = false,
                    (false, _) => {}
                }
                continue;
            }
            match byte {
                b' ' | b'\n' | b'\t' | b'\r' => {}
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.open) {
                        self.line(out);
                    }
                    out.push(*byte);
                }
                _ => {
                    if std::mem::take(&mut self.open) {
                        self.line(out);
                    }
                    self.value(*byte, out);
                }
            }
        }
    }

    fn value(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                self.open = true;
            }
            b',' => self.line(out),
            b':' => out.push(b' '),
            b'"' => self.in_string = true,
            _ => {}
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

/// A whole text.
pub fn pretty(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    Pretty::default().write(json, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_a_whole_text_would_be_whatever_the_pieces() {
        let value = serde_json::json!({
            "a": [], "b": {}, "c": [1, true, null, {"d": "x\\\"{[,:]} y"}], "e": {"f": [[], [{}]]}, "g": "π\n",
        });
        let json = value.to_string();
        let whole = serde_json::to_string_pretty(&value).unwrap();
        for size in 1..json.len() {
            let (mut pretty, mut out) = (Pretty::default(), Vec::new());
            json.as_bytes().chunks(size).for_each(|piece| pretty.write(piece, &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), whole);
        }
    }
}
