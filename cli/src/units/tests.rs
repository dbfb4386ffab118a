use super::*;
use proptest::prelude::*;

#[test]
fn sizes_take_binary_and_decimal_units() {
    let of = |text| parse_size(text).unwrap();
    assert_eq!(of("16KiB"), 16_384);
    assert_eq!(of("4MiB"), 4 << 20);
    assert_eq!(of("1.5GB"), 1_500_000_000);
    assert_eq!(of("100"), 100);
    assert_eq!(of("100B"), 100);
    assert_eq!(of("2 tib"), 2 << 40);
    assert_eq!(of("0"), 0);
    assert_eq!(of("0.0005kB"), 0);
}

#[test]
fn sizes_that_could_mean_two_things_are_refused() {
    for text in ["", "KiB", "4M", "4Mb", "1.2.3KiB", ".5KiB", "5.KiB", "-1", "4MiB/s", "4XiB", "1e3"] {
        assert!(parse_size(text).is_err(), "{text}");
    }
    assert_eq!(parse_size("99999999999999999999"), Err(UnitError::TooLong));
    assert_eq!(parse_size("20000PiB"), Err(UnitError::TooLong));
    assert_eq!(parse_size("0.0000000001GB"), Err(UnitError::TooLong));
}

#[test]
fn rates_take_bytes_and_bits() {
    let of = |text| parse_rate(text).unwrap();
    assert_eq!(of("10MB/s"), 10_000_000);
    assert_eq!(of("80Mbit/s"), 10_000_000);
    assert_eq!(of("500KiB/s"), 512_000);
    assert_eq!(of("500KiB"), 512_000);
    assert_eq!(of("1.5Gbit/s"), 187_500_000);
    assert_eq!(of("9000"), 9_000);
    assert_eq!(of("9000B/s"), 9_000);
    for text in ["10Mb/s", "10mb/s", "10M", "MB/s", "10MB/h"] {
        assert!(parse_rate(text).is_err(), "{text}");
    }
    assert!(matches!(parse_rate("0"), Err(UnitError::Zero(_))));
    assert!(matches!(parse_rate("7bit/s"), Err(UnitError::Zero(_))));
}

#[test]
fn durations_add_their_parts() {
    let of = |text| parse_duration(text).unwrap();
    assert_eq!(of("30s"), Duration::from_secs(30));
    assert_eq!(of("10m"), Duration::from_secs(600));
    assert_eq!(of("1h30m"), Duration::from_secs(5_400));
    assert_eq!(of("250ms"), Duration::from_millis(250));
    assert_eq!(of("2d"), Duration::from_secs(172_800));
    for text in ["", "30", "s", "30x", "1h30", "-1s"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn errors_say_the_mend() {
    let error = parse_size("4Mb").unwrap_err().to_string();
    assert_eq!(error, r#"unit "Mb" is not known; write it as in 16KiB, 4MiB or 1.5GB"#);
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
        prop_assert_eq!(parse_size(&decimal.to_lowercase()), parse_size(&decimal));
    }

    #[test]
    fn fractions_are_exact_to_the_byte(n in 0u64..1 << 40) {
        let text = format!("{}.{:09}GB", n / 1_000_000_000, n % 1_000_000_000);
        prop_assert_eq!(parse_size(&text), Ok(n));
    }

    #[test]
    fn eight_bits_are_a_byte(n in 1u64..1 << 40) {
        prop_assert_eq!(parse_rate(&format!("{n}bit/s")).ok(), Some(n / 8).filter(|&n| n > 0));
        prop_assert_eq!(parse_rate(&format!("{n}B/s")), Ok(n));
    }

    #[test]
    fn what_is_printed_reads_back_within_a_twentieth_of_its_unit(n in any::<u64>(), shift in 5u32..64) {
        let n = n >> shift;
        let back = parse_size(&size(n)).unwrap();
        prop_assert!(back.abs_diff(n) as f64 <= n as f64 * 0.051 + 0.5, "{} {}", size(n), back);
    }
}
