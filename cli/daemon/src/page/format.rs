//! Numbers, times and names as people read them. Templates escape what comes from here.

pub use crate::units::{rate, size};

/// Longest name in a list, in characters. What is longer would not fit any screen.
const NAME_LEN_MAX: usize = 300;
/// Longest text elsewhere.
const TEXT_LEN_MAX: usize = 4_000;

/// The same; nothing where nothing moves.
pub fn rate_if_any(bytes_per_s: u64) -> String {
    if bytes_per_s == 0 { String::new() } else { rate(bytes_per_s) }
}

/// Thousandths as percent. Only what is whole is 100 %.
pub fn percent(part: u64, whole: u64) -> String {
    let tenths = thousandths(part, whole);
    if tenths.is_multiple_of(10) {
        format!("{} %", tenths / 10)
    } else {
        format!("{}.{} %", tenths / 10, tenths % 10)
    }
}

/// How much of a whole it is, from 0 to 1,000.
pub fn thousandths(part: u64, whole: u64) -> u32 {
    match whole {
        0 => 0,
        whole => (u128::from(part.min(whole)) * 1_000 / u128::from(whole)) as u32,
    }
}

/// A span of time, in its two largest units.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        86_400..8_640_000 => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago that was; of what is long ago the date.
pub fn ago(now: i64, then: i64) -> String {
    match now.saturating_sub(then) {
        ..60 => "just now".to_owned(),
        past @ 60..3_600 => format!("{} min ago", past / 60),
        past @ 3_600..86_400 => format!("{} h ago", past / 3_600),
        past @ 86_400..2_592_000 => format!("{} d ago", past / 86_400),
        _ => stamp(then)[..10].to_owned(),
    }
}

/// Seconds since 1970 as `2026-11-30 03:50 UTC`.
pub fn stamp(time: i64) -> String {
    // What lies beyond the years of four digits is nothing that people write.
    let time = time.clamp(0, 253_402_300_799);
    let (days, seconds) = (time / 86_400, time % 86_400);
    // Days from the 1st of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60)
}

/// The same for machines: `2026-11-30T03:50Z`.
pub fn datetime(time: i64) -> String {
    stamp(time).replacen(' ', "T", 1).replace(" UTC", "Z")
}

/// A name from a torrent: of one line, cut where it is too long, and without what would change how other text is read.
pub fn name(text: &str) -> String {
    plain(text, NAME_LEN_MAX, false)
}

/// A longer text from a torrent; its lines stay.
pub fn text(text: &str) -> String {
    plain(text, TEXT_LEN_MAX, true)
}

fn plain(text: &str, len_max: usize, has_lines: bool) -> String {
    let shown = |c: char| match c {
        '\n' if has_lines => '\n',
        // Marks that turn the direction of what follows can make `exe.txt` of `txt.exe`.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => '\u{fffd}',
        '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut chars = text.chars().map(shown);
    let mut plain: String = chars.by_ref().take(len_max).collect();
    if chars.next().is_some() {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_write_them() {
        assert_eq!(
            (size(0), size(16_384), size(1_500_000)),
            ("0 B".into(), "16 KiB".into(), "1.4 MiB".into())
        );
        assert_eq!((rate_if_any(0), rate(2_048)), (String::new(), "2 KiB/s".into()));
        assert_eq!((percent(1, 2), percent(999_999, 1_000_000)), ("50 %".into(), "99.9 %".into()));
        assert_eq!((percent(5, 5), percent(7, 0), thousandths(9, 3)), ("100 %".into(), "0 %".into(), 1_000));
        assert_eq!(
            (span(59), span(3_700), span(90_000)),
            ("59 s".into(), "1 h 1 min".into(), "1 d 1 h".into())
        );
    }

    #[test]
    fn times_are_dates_once_they_are_long_ago() {
        assert_eq!(stamp(0), "1970-01-01 00:00 UTC");
        assert_eq!(stamp(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(stamp(1_796_010_645), "2026-11-30 03:50 UTC");
        assert_eq!(datetime(1_796_010_645), "2026-11-30T03:50Z");
        for far in [i64::MAX, i64::MIN] {
            assert_eq!(stamp(far).len(), 20);
        }
        let now = 1_796_010_645;
        assert_eq!((ago(now, now - 5), ago(now, now + 9)), ("just now".into(), "just now".into()));
        assert_eq!((ago(now, now - 7_300), ago(now, 0)), ("2 h ago".into(), "1970-01-01".into()));
    }

    #[test]
    fn names_cannot_turn_or_flood_the_text_around_them() {
        assert_eq!(name("a\u{202e}gpj.exe"), "a\u{fffd}gpj.exe");
        assert_eq!(name("a\nb\0c\u{7}"), "a b c ");
        assert_eq!(text("a\nb\r"), "a\nb ");
        let long = name(&"ü".repeat(10_000));
        assert_eq!(long.chars().count(), NAME_LEN_MAX + 1);
        assert!(long.ends_with('…'));
    }
}
