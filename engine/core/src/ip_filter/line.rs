//! What a line says.

use super::range::{IpRange, LineError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The highest level of a line of an eMule `.dat` that is blocked.
pub const LEVEL_MAX: u64 = 127;
/// What a line of a filter file blocks: nothing if it is empty, a comment, or of a level above [`LEVEL_MAX`].
///
/// # Errors
/// If it is none of the formats.
pub fn parse_line(line: &[u8]) -> Result<Option<IpRange>, LineError> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_start_matches('\u{feff}').trim();
    if line.is_empty() || line.starts_with(['#', ';']) || line.starts_with("//") {
        return Ok(None);
    }
    // eMule: FIRST - LAST , LEVEL , NAME. A name in front of a `.p2p` line may have commas too.
    if let Some((range, rest)) = line.split_once(',')
        && let Some(range) = parse_range(range)
    {
        let level = rest.split(',').next().unwrap_or_default().trim().parse().unwrap_or(0);
        return if level > LEVEL_MAX { Ok(None) } else { range.map(Some) };
    }
    let comment = line.find(['#', ';']).map(|at| &line[..at]);
    let found = parse_named_range(line).or_else(|| parse_named_range(comment?));
    found.unwrap_or(Err(LineError::NoRange)).map(Some)
}

/// A range that may have a name before it, up to a colon. Names have colons too, and so have IPv6 addresses, and `ab:2001:db8::1`
/// may be one with or without a name `ab`: of what it may mean, the fewest addresses are meant.
fn parse_named_range(text: &str) -> Option<Result<IpRange, LineError>> {
    if let Some((before, last)) = text.rsplit_once('-')
        && let Some(last) = parse_ip(last)
    {
        let starts = std::iter::once(0).chain(before.match_indices(':').map(|(at, _)| at + 1));
        let firsts = starts.filter_map(|at| parse_ip(&before[at..]));
        let ranges = firsts.map(|first| IpRange::new(first, last));
        return ranges.min_by_key(|range| range.map_or((1, 0), |range| (0, range.span())));
    }
    parse_range(text).or_else(|| parse_range(text.rsplit_once(':')?.1))
}

/// `FIRST - LAST`, `ADDRESS/LEN` or `ADDRESS`.
fn parse_range(text: &str) -> Option<Result<IpRange, LineError>> {
    if let Some((first, last)) = text.split_once('-') {
        return Some(IpRange::new(parse_ip(first)?, parse_ip(last)?));
    }
    if let Some((ip, prefix_len)) = text.split_once('/') {
        return Some(IpRange::network(parse_ip(ip)?, prefix_len.trim().parse().ok()?));
    }
    let ip = parse_ip(text)?;
    Some(IpRange::new(ip, ip))
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let mut parts = text.split('.');
    let mut octets = [0; 4];
    for octet in &mut octets {
        // Three digits, however many of them are zeros.
        let part = parts.next().filter(|part| part.len() <= 3)?;
        *octet = part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}
