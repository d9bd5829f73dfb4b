//! Which mutating webhooks and policies are asked once more, because something after them changed the object.

use std::collections::HashSet;

/// What is known of one request.
#[derive(Debug, Default)]
pub struct Reinvocation {
    /// 0, or 1 when everything runs for the second time.
    pub round: u32,
    /// A second round is wanted.
    pub wanted: bool,
    pub webhooks: Reinvocable,
    pub policies: Reinvocable,
}

/// The part of one plugin.
#[derive(Debug, Default)]
pub struct Reinvocable {
    invoked: HashSet<String>,
    again: HashSet<String>,
    output: Option<Vec<u8>>,
}

impl Reinvocable {
    /// The object changed: whoever was asked before and wants to know, is asked again.
    pub fn changed(&mut self) {
        self.again.extend(self.invoked.drain());
    }

    /// Somebody who wants to be asked again was asked.
    pub fn invoked(&mut self, id: &str) {
        self.invoked.insert(id.to_owned());
    }

    /// Whether it is asked in the second round.
    pub fn is_again(&self, id: &str) -> bool {
        self.again.contains(id)
    }

    /// Begins a second round: what the object was when this plugin last saw it.
    pub fn compare(&mut self, now: &[u8]) {
        if self.output.as_deref().is_some_and(|before| before != now) {
            self.changed();
        }
    }

    /// Ends a round.
    pub fn seen(&mut self, now: Vec<u8>) {
        self.output = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_before_a_change_are_asked_again() {
        let mut own = Reinvocable::default();
        own.invoked("a");
        own.changed();
        own.invoked("b");
        assert!(own.is_again("a") && !own.is_again("b"));
        own.seen(b"1".to_vec());
        own.compare(b"1");
        assert!(!own.is_again("b"));
        own.compare(b"2");
        assert!(own.is_again("b"));
    }
}
