//! Sizes, rates and durations as people write them, both ways.
//!
//! What is typed must have one meaning. [`UNITS_HELP`] is the rule, for users too. Values are exact integers;
//! a fraction of a byte is dropped.

use std::ops::RangeInclusive;
use std::time::Duration;
pub use swarm_daemon::units::{rate, size};

/// How units are written, for `--help`.
pub const UNITS_HELP: &str = "\
Units:
  k M G T          1,024s of bytes, as in aria2 and curl: 16k, 1.5G
  KiB MiB GiB TiB  1,024s of bytes: 16KiB
  kB MB GB TB      1,000s of bytes: 1.5GB
  bit/s or bps     bits, for rates only; kbit/s, Mbps are 1,000s: 80Mbit/s
  ms s m h days    durations: 500ms, 30s, 1h30m
A size or rate without a unit is in bytes; `/s` after the bytes of a rate can be
left out. `10Mb`, which can be read as bits and as bytes, is refused.";

const FRACTION_DIGITS_MAX: usize = 9;

const SIZES: &str = "16K, 4MiB or 1.5GB";
const RATES: &str = "500k, 10MB/s or 80Mbit/s";
const DURATIONS: &str = "500ms, 30s, 10m or 1h30m";

const OUT_OF_RANGE: &str = "is out of range";

fn no_number(example: &str) -> String {
    format!("does not start with a number; write it as in {example}")
}

fn unknown_unit(unit: &str, example: &str) -> String {
    match unit {
        "" => format!("has no unit; write it as in {example}"),
        _ => format!("has the unknown unit {unit:?}; write it as in {example}"),
    }
}

/// Different people read the unit differently: how to write the one and the other.
fn ambiguous<T>(unit: &str, one: &str, other: &str) -> Result<T, String> {
    Err(format!("has the ambiguous unit {unit:?}; write {one} or {other}"))
}

/// Bytes: `16KiB`, `16k`, `1.5GB`, `100B`; a bare number counts bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let decimal = Decimal::parse(number, SIZES)?;
    match meaning(unit) {
        Some(Meaning { scale, of: Of::Bytes, is_per_s: false }) => decimal.scaled(scale, 1),
        Some(Meaning { of: Of::Either { letter, .. }, is_per_s: false, .. }) => match letter {
            "" => ambiguous(unit, &format!("{number}B"), &format!("{number} (bytes)")),
            _ => {
                let decimal = format!("{number}{letter}B (1,000s)");
                ambiguous(unit, &decimal, &format!("{number}{letter} (1,024s)"))
            }
        },
        _ => Err(unknown_unit(unit, SIZES)),
    }
}

/// Bytes per second: `500k`, `10MB/s`, `80Mbit/s`, `80Mbps`; a bare number counts bytes per second.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let decimal = Decimal::parse(number, RATES)?;
    let Meaning { scale, of, .. } = meaning(unit).ok_or_else(|| unknown_unit(unit, RATES))?;
    let rate = match of {
        Of::Bytes => decimal.scaled(scale, 1)?,
        Of::Bits => decimal.scaled(scale, 8)?,
        Of::Either { letter, i } => {
            let amount = format!("{number}{letter}{i}");
            return ambiguous(unit, &format!("{amount}B/s (bytes)"), &format!("{amount}bit/s (bits)"));
        }
    };
    if rate == 0 { Err("is zero; for no limit, leave the option out".to_owned()) } else { Ok(rate) }
}

/// A duration: `500ms`, `30s`, `10m`, `1h30m`, `2days`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    use humantime::DurationError as E;
    let number = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
    // To humantime these are months, to most people a slip.
    if text.trim() == format!("{number}M") {
        return ambiguous("M", &format!("{number}m (minutes)"), &format!("{number}months"));
    }
    humantime::parse_duration(text).map_err(|error| match error {
        E::Empty | E::NumberExpected(_) | E::InvalidCharacter(_) => no_number(DURATIONS),
        E::NumberOverflow => OUT_OF_RANGE.to_owned(),
        E::UnknownUnit { unit, .. } => unknown_unit(&unit, DURATIONS),
    })
}

/// A parser of whole numbers in this range.
pub fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match range.clone().into_inner() {
            (min, u64::MAX) => format!("is not a whole number from {min} up"),
            (min, max) => format!("is not a whole number from {min} to {max}"),
        })
    }
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

struct Meaning {
    /// How many of what is counted.
    scale: u64,
    of: Of,
    is_per_s: bool,
}

enum Of {
    Bytes,
    Bits,
    /// A small `b`: bits to some and bytes to others. Its prefix, as it should be written.
    Either {
        letter: &'static str,
        i: &'static str,
    },
}

/// Reads a unit, without the number before it.
fn meaning(unit: &str) -> Option<Meaning> {
    let (amount, is_bps) = match unit.strip_suffix("ps") {
        Some(amount) if amount.ends_with(['b', 'B']) => (amount, true),
        _ => (unit, false),
    };
    let (amount, is_per_s) = match amount.strip_suffix("/s") {
        Some(_) if is_bps => return None,
        Some(amount) => (amount, true),
        None => (amount, is_bps),
    };
    let is_bit = |end: &str| end.eq_ignore_ascii_case("bit");
    let (prefix, of, is_bare) = match amount.len().checked_sub(3).and_then(|at| amount.split_at_checked(at)) {
        Some((prefix, end)) if is_bit(end) => (prefix, Of::Bits, false),
        _ => match amount.strip_suffix('B') {
            Some(prefix) => (prefix, Of::Bytes, false),
            None => match amount.strip_suffix('b') {
                Some(prefix) if is_bps => (prefix, Of::Bits, false),
                Some(prefix) => (prefix, Of::Either { letter: "", i: "" }, false),
                None => (amount, Of::Bytes, true),
            },
        },
    };
    let (letter, i) = match prefix.strip_suffix('i').filter(|letter| !letter.is_empty()) {
        Some(letter) => (letter, "i"),
        None => (prefix, ""),
    };
    if letter.is_empty() {
        return Some(Meaning { scale: 1, of, is_per_s });
    }
    let base: u64 = if is_bare || i == "i" { 1024 } else { 1000 };
    let power = ["k", "m", "g", "t", "p"].iter().position(|known| known.eq_ignore_ascii_case(letter))?;
    let of = match of {
        Of::Either { .. } if power == 0 && i.is_empty() => Of::Either { letter: "k", i },
        Of::Either { .. } => Of::Either { letter: ["K", "M", "G", "T", "P"][power], i },
        of => of,
    };
    Some(Meaning { scale: base.pow(power as u32 + 1), of, is_per_s })
}

/// What was typed: the number at the start, and the unit after it without the spaces between.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// A decimal number as it was written: `digits` / 10^`decimals`.
struct Decimal {
    digits: u128,
    decimals: u32,
}

impl Decimal {
    fn parse(number: &str, example: &str) -> Result<Decimal, String> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(no_number(example));
        }
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}").parse().ok();
        let digits = digits.filter(|_| fraction.len() <= FRACTION_DIGITS_MAX).ok_or(OUT_OF_RANGE)?;
        Ok(Decimal { digits, decimals: fraction.len() as u32 })
    }

    fn scaled(&self, scale: u64, divisor: u128) -> Result<u64, String> {
        let whole = self.digits.checked_mul(u128::from(scale)).ok_or(OUT_OF_RANGE)?;
        u64::try_from(whole / (10_u128.pow(self.decimals) * divisor)).map_err(|_| OUT_OF_RANGE.to_owned())
    }
}

#[cfg(test)]
mod tests;
