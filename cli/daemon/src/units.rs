//! Numbers as people read and write them.

/// How many files may be named at once.
const FILES_MAX: usize = 500_000;

/// Bytes, in the unit in which they have one to three digits before the point: `1.4 GiB`, and `16 KiB` where
/// that is exact.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(bytes.trailing_zeros() < 10 * unit as u32 && bytes > 0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Bytes per second: `80.1 MiB/s`.
pub fn rate(bytes_per_s: u64) -> String {
    size(bytes_per_s) + "/s"
}

/// Indices of files as in `0,3-5`.
///
/// # Errors
/// How they are to be written.
pub fn parse_files(text: &str) -> Result<Vec<u32>, &'static str> {
    const WRONG: &str = "is no list of files; write it as in 0,3-5";
    let mut files = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().map_err(|_| WRONG)?, last.parse().map_err(|_| WRONG)?);
        if first > last || (last - first) as usize >= FILES_MAX - files.len() {
            return Err(WRONG);
        }
        files.extend(first..=last);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_with_ranges() {
        assert_eq!(parse_files("0,3-5").unwrap(), [0, 3, 4, 5]);
        for wrong in ["", "a", "5-3", "1-", "0-4294967295", "1,,2"] {
            assert!(parse_files(wrong).is_err(), "{wrong}");
        }
    }
}
