//! Where the last lines of a file begin.

use std::io::SeekFrom;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// How much is read at once.
const BLOCK_BYTES: u64 = 64 * 1024;

/// The offset at which the last `lines` lines begin. A last line without its newline is not counted, but is part of
/// the tail (upstream `findTailLineStartIndex`).
///
/// # Errors
/// When the file cannot be read.
pub async fn start(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let mut right = file.seek(SeekFrom::End(0)).await?;
    let mut newlines_len = 0;
    let mut block = Vec::new();
    while right > 0 {
        let left = right.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(left)).await?;
        block.clear();
        (&mut *file).take(right - left).read_to_end(&mut block).await?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if newlines_len == lines {
                return Ok(left + at as u64 + 1);
            }
            newlines_len += 1;
        }
        right = left;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn starts() {
        let table: [(&str, u64, u64); 9] = [
            ("", 0, 0),
            ("", 3, 0),
            ("a\nb\nc\n", 0, 6),
            ("a\nb\nc\n", 1, 4),
            ("a\nb\nc\n", 3, 0),
            ("a\nb\nc\n", 9, 0),
            ("a\nb\nc", 0, 4),
            ("a\nb\nc", 1, 2),
            ("\n\n\n", 2, 1),
        ];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for (text, lines, expected) in table {
            std::fs::write(&path, text).unwrap();
            assert_eq!(
                start(&mut File::open(&path).await.unwrap(), lines).await.unwrap(),
                expected,
                "{text:?} {lines}"
            );
        }
        let long = "0123456789abcde\n".repeat(20_000); // several blocks
        std::fs::write(&path, &long).unwrap();
        let at = start(&mut File::open(&path).await.unwrap(), 12_345).await.unwrap();
        assert_eq!(at, 16 * (20_000 - 12_345));
    }
}
