//! Sizes, rates and durations as people write them, both ways.
//!
//! What is typed must have one meaning. [`UNITS_HELP`] is the rule, for users too. Values are exact integers; a fraction of
//! a byte is dropped.

use std::ops::RangeInclusive;
use std::time::Duration;

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

/// Digits that may follow the decimal point.
const FRACTION_DIGITS_MAX: usize = 9;

/// Why a text is not a size, rate or duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// There is no number at the start.
    Number { example: &'static str },
    /// The number's unit is missing or unknown.
    Unit { unit: String, example: &'static str },
    /// The unit means different things to different people: how to write the one and the other.
    Ambiguous { unit: String, spellings: [String; 2] },
    /// More than 64 bits can hold, or more decimals than mean anything.
    TooLong,
    /// Nothing, where something is needed.
    Zero(&'static str),
}

impl std::error::Error for UnitError {}

impl std::fmt::Display for UnitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnitError::Number { example } => {
                write!(f, "does not start with a number; write it as in {example}")
            }
            UnitError::Unit { unit, example } if unit.is_empty() => {
                write!(f, "has no unit; write it as in {example}")
            }
            UnitError::Unit { unit, example } => {
                write!(f, "has the unknown unit {unit:?}; write it as in {example}")
            }
            UnitError::Ambiguous { unit, spellings: [one, other] } => {
                write!(f, "has the ambiguous unit {unit:?}; write {one} or {other}")
            }
            UnitError::TooLong => f.write_str("is out of range"),
            UnitError::Zero(mend) => write!(f, "is zero; {mend}"),
        }
    }
}

const SIZES: &str = "16K, 4MiB or 1.5GB";
const RATES: &str = "500k, 10MB/s or 80Mbit/s";
const DURATIONS: &str = "500ms, 30s, 10m or 1h30m";

/// Bytes: `16KiB`, `16k`, `1.5GB`, `100B`; a bare number counts bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let typed = Typed::split(text, SIZES)?;
    match typed.meaning() {
        Some(Meaning { scale, of: Of::Bytes, is_per_s: false }) => typed.number.times(scale),
        Some(Meaning { of: Of::Either { letter, .. }, is_per_s: false, .. }) => {
            let number = typed.digits;
            let (decimal, binary) = match letter {
                Some(letter) => (format!("{number}{letter}B (1,000s)"), format!("{number}{letter} (1,024s)")),
                None => (format!("{number}B"), format!("{number} (bytes)")),
            };
            Err(typed.ambiguous([decimal, binary]))
        }
        _ => Err(typed.unknown(SIZES)),
    }
}

/// Bytes per second: `500k`, `10MB/s`, `80Mbit/s`, `80Mbps`; a bare number counts bytes per second.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let typed = Typed::split(text, RATES)?;
    let Meaning { scale, of, .. } = typed.meaning().ok_or_else(|| typed.unknown(RATES))?;
    let bits = match of {
        Of::Bytes => 1,
        Of::Bits => 8,
        Of::Either { letter, i } => {
            let (number, letter) = (typed.digits, letter.map(String::from).unwrap_or_default());
            let bytes = format!("{number}{letter}{i}B/s (bytes)");
            return Err(typed.ambiguous([bytes, format!("{number}{letter}{i}bit/s (bits)")]));
        }
    };
    match typed.number.times_ratio(scale, bits)? {
        0 => Err(UnitError::Zero("for no limit, leave the option out")),
        rate => Ok(rate),
    }
}

/// A duration: `500ms`, `30s`, `10m`, `1h30m`, `2days`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    use humantime::DurationError;
    let number = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
    // To humantime these are months, to most people a slip.
    if text.trim() == format!("{number}M") {
        let spellings = [format!("{number}m (minutes)"), format!("{number}months")];
        return Err(UnitError::Ambiguous { unit: "M".to_owned(), spellings });
    }
    humantime::parse_duration(text).map_err(|error| match error {
        DurationError::Empty | DurationError::NumberExpected(_) | DurationError::InvalidCharacter(_) => {
            UnitError::Number { example: DURATIONS }
        }
        DurationError::NumberOverflow => UnitError::TooLong,
        DurationError::UnknownUnit { unit, .. } => UnitError::Unit { unit, example: DURATIONS },
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

/// What a unit says.
struct Meaning {
    /// How many of what is counted.
    scale: u64,
    of: Of,
    is_per_s: bool,
}

/// What a unit counts.
enum Of {
    Bytes,
    Bits,
    /// A small `b`: bits to some and bytes to others. Its prefix, as it should be written.
    Either {
        letter: Option<char>,
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
                Some(prefix) => (prefix, Of::Either { letter: None, i: "" }, false),
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
        Of::Either { .. } if power == 0 && i.is_empty() => Of::Either { letter: Some('k'), i },
        Of::Either { .. } => Of::Either { letter: Some(['K', 'M', 'G', 'T', 'P'][power]), i },
        of => of,
    };
    Some(Meaning { scale: base.pow(power as u32 + 1), of, is_per_s })
}

/// What was typed, in its parts.
struct Typed<'a> {
    digits: &'a str,
    number: Decimal,
    unit: &'a str,
}

impl Typed<'_> {
    /// Splits `text` into the number at its start and the rest, without the spaces between.
    fn split<'a>(text: &'a str, example: &'static str) -> Result<Typed<'a>, UnitError> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        Ok(Typed { digits, number: Decimal::parse(digits, example)?, unit: unit.trim_start() })
    }

    fn meaning(&self) -> Option<Meaning> {
        meaning(self.unit)
    }

    fn unknown(&self, example: &'static str) -> UnitError {
        UnitError::Unit { unit: self.unit.to_owned(), example }
    }

    fn ambiguous(&self, spellings: [String; 2]) -> UnitError {
        UnitError::Ambiguous { unit: self.unit.to_owned(), spellings }
    }
}

/// A decimal number as it was written: `digits` / 10^`decimals`.
struct Decimal {
    digits: u128,
    decimals: u32,
}

impl Decimal {
    fn parse(number: &str, example: &'static str) -> Result<Decimal, UnitError> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(UnitError::Number { example });
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > FRACTION_DIGITS_MAX {
            return Err(UnitError::TooLong);
        }
        let digits = format!("{whole}{fraction}").parse().map_err(|_| UnitError::TooLong)?;
        Ok(Decimal { digits, decimals: fraction.len() as u32 })
    }

    fn times(&self, scale: u64) -> Result<u64, UnitError> {
        self.times_ratio(scale, 1)
    }

    fn times_ratio(&self, scale: u64, divisor: u128) -> Result<u64, UnitError> {
        let whole = self.digits.checked_mul(u128::from(scale)).ok_or(UnitError::TooLong)?;
        u64::try_from(whole / (10_u128.pow(self.decimals) * divisor)).map_err(|_| UnitError::TooLong)
    }
}

#[cfg(test)]
mod tests;
