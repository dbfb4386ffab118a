//! Address filters: ranges of addresses that nothing is exchanged with, and the lines of the files that list them.
//!
//! A line is one of these, told apart by itself, so that a file may mix them:
//!
//! | format | a line |
//! |---|---|
//! | CIDR, single addresses, ranges | `192.0.2.0/24`, `2001:db8::/32`, `192.0.2.7`, `192.0.2.0-192.0.2.9` |
//! | eMule `.dat` | `192.000.002.000 - 192.000.002.255 , 000 , some name`; a level above [`LEVEL_MAX`] blocks nothing |
//! | PeerGuardian `.p2p` | `some name:192.0.2.0-192.0.2.255` |
//!
//! Empty lines, and those that begin with `#`, `;` or `//`, say nothing. Zeros before a number mean nothing: it is decimal.

mod line;
mod range;

pub use line::{LEVEL_MAX, parse_line};
use range::Bounds;
pub use range::{IpRange, LineError};

use std::net::IpAddr;

/// Most ranges that a filter is made of.
pub const RANGES_MAX: usize = 4_000_000;
/// How many bad lines are told of one by one.
pub const BAD_LINES_MAX: usize = 5;

/// Which addresses are blocked. The default blocks none.
///
/// It keeps sorted ranges that do not touch: 8 bytes for one of IPv4, 32 for one of IPv6. A look-up is a binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpFilter {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl IpFilter {
    /// Blocks these ranges.
    pub fn new(ranges: impl IntoIterator<Item = IpRange>) -> IpFilter {
        let mut filter = IpFilter::default();
        ranges.into_iter().for_each(|range| filter.push(range));
        filter.sort();
        filter
    }

    fn push(&mut self, range: IpRange) {
        match range.0 {
            Bounds::V4(first, last) => self.v4.push((first, last)),
            Bounds::V6(first, last) => self.v6.push((first, last)),
        }
    }

    fn sort(&mut self) {
        merge(&mut self.v4, |last| last.checked_add(1));
        merge(&mut self.v6, |last| last.checked_add(1));
    }

    /// The same with these ranges too.
    pub fn and(&self, ranges: impl IntoIterator<Item = IpRange>) -> IpFilter {
        let mut filter = self.clone();
        ranges.into_iter().for_each(|range| filter.push(range));
        filter.sort();
        filter
    }

    /// Whether nothing is to be exchanged with this address.
    pub fn is_blocked(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => holds(&self.v6, ip.to_bits()),
        }
    }

    /// Ranges that do not touch each other, of both families.
    pub fn ranges(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether nothing is blocked.
    pub fn is_empty(&self) -> bool {
        self.ranges() == 0
    }

    /// What the ranges take, in bytes.
    pub fn memory(&self) -> usize {
        self.v4.capacity() * size_of::<(u32, u32)>() + self.v6.capacity() * size_of::<(u128, u128)>()
    }
}

impl FromIterator<IpRange> for IpFilter {
    fn from_iter<I: IntoIterator<Item = IpRange>>(ranges: I) -> IpFilter {
        IpFilter::new(ranges)
    }
}

/// Sorts ranges, makes one of those that overlap or touch, and gives back what memory is left.
fn merge<T: Copy + Ord>(ranges: &mut Vec<(T, T)>, after: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    let mut kept = 0;
    for at in 0..ranges.len() {
        let (first, last) = ranges[at];
        match ranges[..kept].last_mut() {
            Some((_, end)) if after(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => {
                ranges[kept] = (first, last);
                kept += 1;
            }
        }
    }
    ranges.truncate(kept);
    ranges.shrink_to_fit();
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], ip: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= ip);
    after.checked_sub(1).is_some_and(|at| ranges[at].1 >= ip)
}

/// Takes the lines of a file one after the other.
#[derive(Debug, Default)]
pub struct FilterReader {
    filter: IpFilter,
    lines: u64,
    bad: Vec<BadLine>,
    bad_count: u64,
}

/// A line that says nothing, and is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number} {reason}")]
#[non_exhaustive]
pub struct BadLine {
    /// Its number in the file, from 1.
    pub number: u64,
    /// What is wrong with it.
    pub reason: LineError,
}

impl FilterReader {
    /// The next line.
    pub fn handle_line(&mut self, line: &[u8]) {
        self.lines += 1;
        match parse_line(line) {
            Ok(range) => range.into_iter().for_each(|range| self.add(range)),
            Err(reason) => self.on_bad_line(reason),
        }
    }

    /// The next line is longer than any that says something.
    pub fn handle_long_line(&mut self) {
        self.lines += 1;
        self.on_bad_line(LineError::TooLong);
    }

    fn on_bad_line(&mut self, reason: LineError) {
        self.bad_count += 1;
        if self.bad.len() < BAD_LINES_MAX {
            self.bad.push(BadLine { number: self.lines, reason });
        }
    }

    /// A range from elsewhere than a line.
    pub fn add(&mut self, range: IpRange) {
        if !self.is_full() {
            self.filter.push(range);
        }
    }

    /// Whether there are [`RANGES_MAX`] ranges: no further ones are kept.
    pub fn is_full(&self) -> bool {
        self.filter.ranges() >= RANGES_MAX
    }

    /// Everything was read: the filter, the first [`BAD_LINES_MAX`] bad lines, and how many there are in all.
    pub fn finish(mut self) -> (IpFilter, Vec<BadLine>, u64) {
        self.filter.sort();
        (self.filter, self.bad, self.bad_count)
    }
}

#[cfg(test)]
mod tests;
