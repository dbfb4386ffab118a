use super::*;
use proptest::prelude::*;

#[test]
fn sizes_take_binary_and_decimal_units() {
    for (text, bytes) in [
        ("16KiB", 16_384),
        ("16Ki", 16_384),
        ("16K", 16_384),
        ("16k", 16_384),
        ("4MiB", 4 << 20),
        ("4M", 4 << 20),
        ("4m", 4 << 20),
        ("1.5G", 3 << 29),
        ("1.5GB", 1_500_000_000),
        ("16kB", 16_000),
        ("16KB", 16_000),
        ("1MB", 1_000_000),
        ("100", 100),
        ("100B", 100),
        ("2 TiB", 2 << 40),
        ("0", 0),
        ("0.0005kB", 0),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn sizes_with_two_meanings_are_refused_with_both_spellings() {
    for (text, spellings) in [
        ("4Mb", "write 4MB (1,000s) or 4M (1,024s)"),
        ("4mb", "write 4MB (1,000s) or 4M (1,024s)"),
        ("1.5kb", "write 1.5kB (1,000s) or 1.5k (1,024s)"),
        ("2 tib", "write 2TB (1,000s) or 2T (1,024s)"),
        ("100b", "write 100B or 100 (bytes)"),
    ] {
        let error = parse_size(text).unwrap_err();
        assert!(error.starts_with("has the ambiguous unit") && error.ends_with(spellings), "{text}: {error}");
    }
}

#[test]
fn what_is_no_size_is_refused() {
    for text in [
        "", "KiB", "1.2.3KiB", ".5KiB", "5.KiB", "-1", "4MiB/s", "4XiB", "1e3", "4Mbit", "4Mbps", "4iB",
        "4BB", "0x10", "1,5G", "4Mb/s", "١",
    ] {
        assert!(parse_size(text).is_err(), "{text}");
    }
    assert_eq!(parse_size("99999999999999999999"), Err(OUT_OF_RANGE.to_owned()));
    assert_eq!(parse_size("20000PiB"), Err(OUT_OF_RANGE.to_owned()));
    assert_eq!(parse_size("0.0000000001GB"), Err(OUT_OF_RANGE.to_owned()));
}

#[test]
fn rates_take_bytes_and_bits() {
    for (text, bytes_per_s) in [
        ("10MB/s", 10_000_000),
        ("10MB", 10_000_000),
        ("10MBps", 10_000_000),
        ("10M", 10 << 20),
        ("10M/s", 10 << 20),
        ("500k", 512_000),
        ("500KiB/s", 512_000),
        ("500KiB", 512_000),
        ("20kB/s", 20_000),
        ("20KB/s", 20_000),
        ("80Mbit/s", 10_000_000),
        ("80mbit/s", 10_000_000),
        ("80MBit/s", 10_000_000),
        ("80Mbit", 10_000_000),
        ("80Mbps", 10_000_000),
        ("80mbps", 10_000_000),
        ("8Mibit/s", 1 << 20),
        ("64kbit/s", 8_000),
        ("80bit/s", 10),
        ("80bps", 10),
        ("1.5Gbit/s", 187_500_000),
        ("9000", 9_000),
        ("9000B/s", 9_000),
    ] {
        assert_eq!(parse_rate(text), Ok(bytes_per_s), "{text}");
    }
    for text in ["MB/s", "10MB/h", "10Mps", "10Mbps/s", "10/", "10X/s", "10/s/s", "10bitbit"] {
        assert!(parse_rate(text).is_err(), "{text}");
    }
    for text in ["0", "7bit/s"] {
        assert!(parse_rate(text).is_err_and(|error| error.starts_with("is zero")), "{text}");
    }
}

#[test]
fn rates_with_two_meanings_are_refused_with_both_spellings() {
    for (text, spellings) in [
        ("10Mb", "write 10MB/s (bytes) or 10Mbit/s (bits)"),
        ("10mb", "write 10MB/s (bytes) or 10Mbit/s (bits)"),
        ("10Mb/s", "write 10MB/s (bytes) or 10Mbit/s (bits)"),
        ("10Mib/s", "write 10MiB/s (bytes) or 10Mibit/s (bits)"),
        ("2.5kb", "write 2.5kB/s (bytes) or 2.5kbit/s (bits)"),
        ("80b/s", "write 80B/s (bytes) or 80bit/s (bits)"),
    ] {
        let error = parse_rate(text).unwrap_err();
        assert!(error.starts_with("has the ambiguous unit") && error.ends_with(spellings), "{text}: {error}");
    }
}

#[test]
fn durations_add_their_parts() {
    let of = |text| parse_duration(text).unwrap();
    assert_eq!(of("30s"), Duration::from_secs(30));
    assert_eq!(of("10m"), Duration::from_secs(600));
    assert_eq!(of("1h30m"), Duration::from_secs(5_400));
    assert_eq!(of("250ms"), Duration::from_millis(250));
    assert_eq!(of("2d"), Duration::from_secs(172_800));
    for (text, wrong) in [
        ("", "does not start with a number; write it as in 500ms, 30s, 10m or 1h30m"),
        ("s", "does not start with a number; write it as in 500ms, 30s, 10m or 1h30m"),
        ("-1s", "does not start with a number; write it as in 500ms, 30s, 10m or 1h30m"),
        ("30", "has no unit; write it as in 500ms, 30s, 10m or 1h30m"),
        ("1h30", "has no unit; write it as in 500ms, 30s, 10m or 1h30m"),
        ("30x", "has the unknown unit \"x\"; write it as in 500ms, 30s, 10m or 1h30m"),
        ("30M", "has the ambiguous unit \"M\"; write 30m (minutes) or 30months"),
        ("99999999999999999999s", "is out of range"),
    ] {
        assert_eq!(parse_duration(text).unwrap_err(), wrong, "{text}");
    }
}

#[test]
fn whole_numbers_stay_within_their_range() {
    let parse = whole::<u16>(1..=120);
    assert_eq!(parse("120"), Ok(120));
    for text in ["0", "121", "-1", "1.5", "", "x", "99999999999999999999"] {
        assert_eq!(parse(text), Err("is not a whole number from 1 to 120".to_owned()), "{text}");
    }
    assert_eq!(whole::<u64>(1..=u64::MAX)("0"), Err("is not a whole number from 1 up".to_owned()));
}

#[test]
fn values_print_short() {
    assert_eq!(size(0), "0 B");
    assert_eq!(size(1_023), "1023 B");
    assert_eq!(size(1_024), "1 KiB");
    assert_eq!(size(1_048_575), "1.0 MiB");
    assert_eq!(size(u64::MAX), "16.0 EiB");
    assert_eq!(size(16 << 20), "16 MiB");
    assert_eq!(size((16 << 20) + 1), "16.0 MiB");
    assert_eq!(rate(1_536), "1.5 KiB/s");
    assert_eq!(duration(Duration::from_millis(348)), "0.35s");
    assert_eq!(duration(Duration::from_millis(12_340)), "12.3s");
    assert_eq!(duration(Duration::from_secs(185)), "3m05s");
    assert_eq!(duration(Duration::from_secs(7_800)), "2h10m");
    assert_eq!(duration(Duration::from_secs(356_400)), "4d03h");
}

proptest! {
    #[test]
    fn any_text_is_a_value_or_an_error(text in "[0-9.]{0,25}[a-zA-Z/ ]{0,6}|\\PC{0,12}") {
        let _ = parse_size(&text);
        let _ = parse_rate(&text);
        let _ = parse_duration(&text);
    }

    #[test]
    fn whole_sizes_are_exact(n in 0u64..1 << 30, power in 0usize..4) {
        let binary = format!("{n}{}", ["B", "KiB", "MiB", "GiB"][power]);
        prop_assert_eq!(parse_size(&binary), Ok(n << (10 * power)));
        let decimal = format!("{n}{}", ["B", "kB", "MB", "GB"][power]);
        prop_assert_eq!(parse_size(&decimal), Ok(n * 1_000u64.pow(power as u32)));
        if power > 0 {
            let bare = format!("{n}{}", ["k", "M", "G"][power - 1]);
            prop_assert_eq!(parse_size(&bare), parse_size(&binary));
            prop_assert_eq!(parse_size(&bare.to_lowercase()), parse_size(&bare.to_uppercase()));
            let refused = parse_size(&decimal.to_lowercase()).unwrap_err();
            prop_assert!(refused.contains("ambiguous"), "{}", refused);
        }
    }

    #[test]
    fn fractions_are_exact_to_the_byte(n in 0u64..1 << 40) {
        let text = format!("{}.{:09}GB", n / 1_000_000_000, n % 1_000_000_000);
        prop_assert_eq!(parse_size(&text), Ok(n));
    }

    #[test]
    fn eight_bits_are_a_byte(n in 1u64..1 << 40) {
        prop_assert_eq!(parse_rate(&format!("{n}bit/s")).ok(), Some(n / 8).filter(|&n| n > 0));
        prop_assert_eq!(parse_rate(&format!("{n}bps")), parse_rate(&format!("{n}bit/s")));
        prop_assert_eq!(parse_rate(&format!("{n}B/s")), Ok(n));
    }

    #[test]
    fn a_rate_in_bytes_is_written_as_a_size_is(n in 1u64..1 << 30, unit in "[kKmMgG]?i?B?") {
        let size = parse_size(&format!("{n}{unit}"));
        for rate in ["", "/s"].map(|per| parse_rate(&format!("{n}{unit}{per}"))) {
            prop_assert_eq!(rate.is_ok(), size.is_ok());
            prop_assert!(rate.is_err() || rate == size);
        }
    }

    #[test]
    fn both_spellings_of_what_is_ambiguous_are_understood(
        n in 1u64..1 << 20, unit in "[kKmMgG]?i?b", per in "(/s)?", is_rate in any::<bool>(),
    ) {
        let parse = if is_rate { parse_rate } else { parse_size };
        match parse(&format!("{n}{unit}{per}")) {
            Err(error) if error.contains("ambiguous") => {
                for spelling in error.rsplit_once("write ").unwrap().1.split(" or ") {
                    let spelling = spelling.split(" (").next().unwrap();
                    prop_assert!(parse(spelling).is_ok() || n < 8, "{}", spelling);
                }
            }
            other => prop_assert!(other.is_err()),
        }
    }

    #[test]
    fn what_is_printed_reads_back_within_a_twentieth_of_its_unit(n in any::<u64>(), shift in 5u32..64) {
        let n = n >> shift;
        let back = parse_size(&size(n)).unwrap();
        prop_assert!(back.abs_diff(n) as f64 <= n as f64 * 0.051 + 0.5, "{} {}", size(n), back);
    }
}
