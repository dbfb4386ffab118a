//! Comparing copies byte by byte.
//!
//! Not by the engine's own verification: the lab proves that the bytes on disk are those of the source.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BUFFER_LEN: usize = 256 * 1024;

/// The first difference between the file at `source` and the one at `copy`, in words; `None` if they are
/// identical. `length` is how long both must be.
///
/// # Errors
/// When the source cannot be read. That the copy cannot be read is a difference.
pub fn difference(source: &Path, copy: &Path, length: u64) -> io::Result<Option<String>> {
    let mut source = File::open(source)?;
    let mut copy = match File::open(copy) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("is missing".to_owned())),
        Err(error) => return Ok(Some(format!("cannot be opened: {error}"))),
    };
    let (mut ours, mut theirs) = (Vec::with_capacity(BUFFER_LEN), Vec::with_capacity(BUFFER_LEN));
    let mut at = 0;
    loop {
        let expected = read(&mut source, &mut ours)?;
        let found = match read(&mut copy, &mut theirs) {
            Ok(count) => count,
            Err(error) => return Ok(Some(format!("cannot be read: {error}"))),
        };
        if ours != theirs {
            let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            return Ok(Some(match same {
                _ if same == expected => "is too long".to_owned(),
                _ if same == found => format!("ends after {} of {length} bytes", at + same as u64),
                _ => format!("differs at byte {}", at + same as u64),
            }));
        }
        at += expected as u64;
        if expected == 0 {
            break;
        }
    }
    if at == length {
        return Ok(None);
    }
    Err(io::Error::other(format!("has {at} bytes where the metainfo has {length}")))
}

/// Reads until the buffer has its length or the file ends.
fn read(file: &mut File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.clear();
    file.take(BUFFER_LEN as u64).read_to_end(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let source: Vec<u8> = (0..BUFFER_LEN + 100).map(|i| (i % 251) as u8).collect();
        let mut damaged = source.clone();
        damaged[BUFFER_LEN + 7] ^= 1;
        let longer = [&source[..], b"x"].concat();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let original = write("source", &source);
        let compare = |copy: &Path| difference(&original, copy, source.len() as u64).unwrap();
        assert_eq!(compare(&write("same", &source)), None);
        let at = format!("differs at byte {}", BUFFER_LEN + 7);
        assert_eq!(compare(&write("damaged", &damaged)), Some(at));
        assert_eq!(compare(&write("longer", &longer)), Some("is too long".to_owned()));
        assert_eq!(
            compare(&write("shorter", &source[..5])),
            Some(format!("ends after 5 of {} bytes", source.len()))
        );
        assert_eq!(compare(&dir.path().join("none")), Some("is missing".to_owned()));
        assert!(difference(&original, &original, 5).is_err(), "the source has changed");
    }
}
