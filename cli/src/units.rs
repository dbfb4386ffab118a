//! Sizes, rates and durations as people write them, both ways.
//!
//! What is typed must have one meaning: `10MB/s` and `80Mbit/s` are rates, `10Mb` is refused, since half of
//! its readers take it for bits and the other half for bytes. Values are exact integers; a fraction of a byte is
//! dropped.

use std::time::Duration;

/// Digits that may follow the decimal point.
const FRACTION_DIGITS_MAX: usize = 9;

/// Why a text is not a size, rate or duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// There is no number at the start.
    Number { example: &'static str },
    /// The number's unit is missing or unknown.
    Unit { unit: String, example: &'static str },
    /// More than 64 bits can hold, or more decimals than mean anything.
    TooLong,
    /// Nothing, where something is needed.
    Zero(&'static str),
}

impl std::error::Error for UnitError {}

impl std::fmt::Display for UnitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnitError::Number { example } => write!(f, "starts with no number; write it as in {example}"),
            UnitError::Unit { unit, example } if unit.is_empty() => {
                write!(f, "has no unit; write it as in {example}")
            }
            UnitError::Unit { unit, example } => {
                write!(f, "unit {unit:?} is not known; write it as in {example}")
            }
            UnitError::TooLong => f.write_str("is out of range"),
            UnitError::Zero(mend) => write!(f, "is zero; {mend}"),
        }
    }
}

const SIZES: &str = "16KiB, 4MiB or 1.5GB";
const RATES: &str = "500KiB/s, 10MB/s or 80Mbit/s";

/// Bytes: `16KiB`, `1.5GB`, `100B`; a bare number counts bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text, SIZES)?;
    let lower = unit.to_ascii_lowercase();
    let scale = match lower.as_str() {
        "" | "b" => Some(1),
        // `Mb` is megabits to many; `mb` and `MB` are bytes to all.
        _ if unit.ends_with('b') && unit != lower => None,
        _ => lower.strip_suffix('b').and_then(scale),
    };
    number.times(scale.ok_or_else(|| unknown(unit, SIZES))?)
}

/// Bytes per second: `500KiB/s`, `10MB/s`, `80Mbit/s`; a bare number counts bytes per second.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text, RATES)?;
    let amount = unit.strip_suffix("/s").unwrap_or(unit);
    let (prefix, bits) = match amount.strip_suffix("bit") {
        Some(prefix) => (Some(prefix), 8),
        None if amount.is_empty() => (Some(""), 1),
        None => (amount.strip_suffix('B'), 1),
    };
    let scale = prefix.and_then(|p| if p.is_empty() { Some(1) } else { scale(&p.to_ascii_lowercase()) });
    let rate = number.times_ratio(scale.ok_or_else(|| unknown(unit, RATES))?, bits)?;
    if rate == 0 { Err(UnitError::Zero("for no limit, leave the option out")) } else { Ok(rate) }
}

/// A duration: `500ms`, `30s`, `10m`, `1h30m`, `2days`.
pub fn parse_duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

/// Bytes, in the unit in which they have one to three digits before the point: `1.4 GiB`, and `16 KiB` where that
/// is exact.
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

/// A number of things: `1 peer`, `12 peers`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// A duration in its two largest units: `0.35s`, `12.3s`, `3m05s`, `2h10m`, `4d03h`.
pub fn duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0 => format!("{:.2}s", duration.as_secs_f64()),
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// The unit's factor, from its lower-case prefix: `k`, `ki`, `m`, `mi` and so on.
fn scale(prefix: &str) -> Option<u64> {
    let (letter, base) = match prefix.strip_suffix('i') {
        Some(letter) => (letter, 1024_u64),
        None => (prefix, 1000),
    };
    let power = ["k", "m", "g", "t", "p"].iter().position(|&l| l == letter)?;
    Some(base.pow(power as u32 + 1))
}

fn unknown(unit: &str, example: &'static str) -> UnitError {
    UnitError::Unit { unit: unit.trim().to_owned(), example }
}

/// A decimal number as it was written: `digits` / 10^`decimals`.
struct Decimal {
    digits: u128,
    decimals: u32,
}

impl Decimal {
    fn times(&self, scale: u64) -> Result<u64, UnitError> {
        self.times_ratio(scale, 1)
    }

    fn times_ratio(&self, scale: u64, divisor: u128) -> Result<u64, UnitError> {
        let whole = self.digits.checked_mul(u128::from(scale)).ok_or(UnitError::TooLong)?;
        u64::try_from(whole / (10_u128.pow(self.decimals) * divisor)).map_err(|_| UnitError::TooLong)
    }
}

/// Splits `text` into the number at its start and the rest, without the spaces between.
fn split_number<'a>(text: &'a str, example: &'static str) -> Result<(Decimal, &'a str), UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(UnitError::Number { example });
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > FRACTION_DIGITS_MAX {
        return Err(UnitError::TooLong);
    }
    let digits = format!("{whole}{fraction}").parse().map_err(|_| UnitError::TooLong)?;
    Ok((Decimal { digits, decimals: fraction.len() as u32 }, unit.trim_start()))
}

#[cfg(test)]
mod tests;
