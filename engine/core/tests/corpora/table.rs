//! Tables of the collected cases, for the tests of every crate.

use serde_json::Value;
use std::fs;
use std::path::Path;

/// The rows of a table, if there are corpora.
pub fn rows(table: &str) -> Vec<Value> {
    let Some(folder) = std::env::var_os("SWARM_CORPORA") else {
        eprintln!("skipped: SWARM_CORPORA names no folder with {table}");
        return Vec::new();
    };
    let path = Path::new(&folder).join(table);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows: Vec<Value> = serde_json::from_str(&text).expect("a table is a list of rows");
    assert!(!rows.is_empty(), "{table} has no rows");
    rows
}

/// A text in a row.
pub fn text<'r>(row: &'r Value, key: &str) -> &'r str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} of {row}"))
}

/// The bytes that a text in base 64 stands for.
pub fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let digit = DIGITS.iter().position(|d| *d == c).expect("a digit of base 64");
        (bits, count) = (bits << 6 | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
