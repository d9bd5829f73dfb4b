//! The seeds and keys that a plugin has decrypted, so that it is asked for each once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::envelope::Source;

/// How many are kept; the one that was used longest ago gives way, and is asked for again when it is needed. There is
/// about one for each start of a server since everything was sealed anew.
const SOURCES_LEN_MAX: usize = 4096;

/// A seed or key, and whose it is.
#[derive(Debug, Clone)]
pub struct Known {
    pub source: Arc<Source>,
    /// The hash of the plugin's key.
    pub key_id_hash: Arc<str>,
}

type Cell = Arc<OnceCell<Known>>;

/// By what tells them apart.
#[derive(Default)]
pub struct Sources(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    cells: HashMap<[u8; 32], (Cell, u64)>,
    uses: u64,
}

impl Sources {
    /// Where that one is, or is put by whoever is first.
    pub fn cell(&self, id: [u8; 32]) -> Cell {
        self.0.lock().cell(id)
    }

    /// Keeps one that is known.
    pub fn keep(&self, id: [u8; 32], known: &Known) {
        let cell = self.cell(id);
        if !cell.initialized() {
            // Someone else was faster, with the same.
            let _ = cell.set(known.clone());
        }
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.0.lock().cells.values().filter(|(cell, _)| cell.initialized()).count()
    }
}

impl Kept {
    fn cell(&mut self, id: [u8; 32]) -> Cell {
        self.uses += 1;
        if let Some((cell, used)) = self.cells.get_mut(&id) {
            *used = self.uses;
            return cell.clone();
        }
        if self.cells.len() >= SOURCES_LEN_MAX {
            let oldest = self.cells.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.map(|id| self.cells.remove(&id));
        }
        let cell = Cell::default();
        self.cells.insert(id, (cell.clone(), self.uses));
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_longest_ago_gives_way() {
        let sources = Sources::default();
        let id = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            id
        };
        let source = Source::new(super::super::v2::EncryptedDekSourceType::AesGcmKey, &[1; 32]).unwrap();
        let known = Known { source: Arc::new(source), key_id_hash: "h".into() };
        for number in 0..SOURCES_LEN_MAX {
            sources.keep(id(number), &known);
        }
        assert!(sources.cell(id(0)).initialized(), "used just now");
        sources.keep(id(SOURCES_LEN_MAX), &known);
        assert_eq!(sources.count(), SOURCES_LEN_MAX);
        assert!(sources.cell(id(0)).initialized() && !sources.cell(id(1)).initialized());
    }
}
