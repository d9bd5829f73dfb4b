//! Header blocks: name-value pairs, compressed with one zlib stream per direction and session.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Error;
use super::dictionary::DICTIONARY;

/// Names (in lower case on the wire) and values, in order.
pub type Headers = Vec<(String, String)>;

/// The largest header block taken, decompressed.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// Compresses the blocks one side sends.
#[derive(Debug)]
pub struct Compressor(Compress);

impl Default for Compressor {
    fn default() -> Self {
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.set_dictionary(&DICTIONARY).expect("a new zlib stream takes a dictionary");
        Self(zlib)
    }
}

impl Compressor {
    /// The block for `headers`. Blocks must be sent in the order in which they were made.
    pub fn compress(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        put_len(&mut plain, headers.len());
        for (name, value) in headers {
            for text in [name.to_ascii_lowercase().as_str(), value] {
                put_len(&mut plain, text.len());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - start).expect("no more than was given");
            self.0.compress_vec(&plain[done..], &mut block, FlushCompress::Sync).expect("zlib takes any input");
            if block.len() < block.capacity() {
                return block;
            }
            block.reserve(256);
        }
    }
}

fn put_len(plain: &mut Vec<u8>, len: usize) {
    plain.extend_from_slice(&u32::try_from(len).expect("headers are small").to_be_bytes());
}

/// Decompresses the blocks the other side sends.
#[derive(Debug)]
pub struct Decompressor(Decompress);

impl Default for Decompressor {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decompressor {
    /// The headers of `block`.
    ///
    /// # Errors
    /// [`Error::Protocol`]: the stream cannot be used any more.
    pub fn decompress(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let mut plain = Vec::with_capacity(1024);
        let start = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - start).expect("no more than was given");
            match self.0.decompress_vec(&block[done..], &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(Error::Protocol("the header stream ended")),
                Ok(_) if plain.len() < plain.capacity() => return parse(&plain),
                Ok(_) if plain.len() >= BLOCK_BYTES_MAX => return Err(Error::Protocol("too large a header block")),
                Ok(_) => plain.reserve(plain.len()),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| Error::Protocol("an unknown compression dictionary"))?;
                }
                Err(_) => return Err(Error::Protocol("a damaged header block")),
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, Error> {
    let mut headers = Headers::new();
    for _ in 0..take_len(&mut plain)? {
        let name = take_text(&mut plain)?;
        let value = take_text(&mut plain)?;
        headers.push((name, value));
    }
    if plain.is_empty() { Ok(headers) } else { Err(Error::Protocol("a header block with something behind it")) }
}

fn take_len(plain: &mut &[u8]) -> Result<usize, Error> {
    let (len, rest) = plain.split_first_chunk().ok_or(Error::Protocol("a header block cut short"))?;
    *plain = rest;
    usize::try_from(u32::from_be_bytes(*len)).map_err(|_| Error::Protocol("too large a header block"))
}

fn take_text(plain: &mut &[u8]) -> Result<String, Error> {
    let len = take_len(plain)?;
    let (text, rest) = plain.split_at_checked(len).ok_or(Error::Protocol("a header block cut short"))?;
    *plain = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Error::Protocol("a header that is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `streamtype: stdin`, then `streamtype: error`, as zlib's own library compresses them with the dictionary.
    const KNOWN: [(&str, &str); 2] = [
        ("78f9e3c6a7c202a62346703a2b294a4dcc851625acc525c03c01000000ffff", "stdin"),
        ("c22e950a8a0300000000ffff", "error"),
    ];

    #[test]
    fn reads_blocks_of_another_implementation() {
        let mut decompressor = Decompressor::default();
        for (block, value) in KNOWN {
            let headers = decompressor.decompress(&hex::decode(block).unwrap()).unwrap();
            assert_eq!(headers, [("streamtype".to_owned(), value.to_owned())]);
        }
    }

    #[test]
    fn the_dictionary_is_the_standard_one() {
        // FDICT is set and the dictionary's Adler-32 follows: every SPDY/3 session begins with it.
        let block = Compressor::default().compress(&[("streamType", "stdin")]);
        assert_eq!(DICTIONARY.len(), 1423);
        assert_eq!(block[1] & 0x20, 0x20);
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
        assert_eq!(block[block.len() - 4..], [0, 0, 0xff, 0xff], "flushed to a byte boundary");
    }

    #[test]
    fn blocks_follow_each_other_whatever_their_size() {
        let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
        for len in [0, 1, 1000, 3, 1024, 20_000, 7] {
            let value: String = (0..len).map(|n| char::from(b'!' + (n * n % 89) as u8)).collect();
            let block = compressor.compress(&[("X-Long", &value), ("empty", "")]);
            let headers = decompressor.decompress(&block).unwrap();
            assert_eq!(headers, [("x-long".to_owned(), value), ("empty".to_owned(), String::new())]);
        }
    }

    #[test]
    fn bombs_and_damage_are_refused() {
        let huge = "a".repeat(BLOCK_BYTES_MAX * 4);
        let block = Compressor::default().compress(&[("a", &huge)]);
        assert!(block.len() < 4096);
        assert!(Decompressor::default().decompress(&block).is_err());
        assert!(Decompressor::default().decompress(b"no zlib").is_err());
        let mut block = Compressor::default().compress(&[("a", "b")]);
        block.truncate(block.len() / 2);
        assert!(Decompressor::default().decompress(&block).is_err());
    }
}
