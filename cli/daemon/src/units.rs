//! Numbers as people read them.

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
