use super::*;
use proptest::prelude::*;

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1_000)
}

/// A meter fed `bytes` every `every_ms` from `from_ms` up to `to_ms`.
fn feed(meter: &mut RateMeter, from_ms: u64, to_ms: u64, every_ms: u64, bytes: u64) {
    (from_ms..=to_ms).step_by(every_ms as usize).for_each(|ms| meter.add(at(ms), bytes));
}

fn close(measured: u64, expected: u64, percent: u64) -> bool {
    measured.abs_diff(expected) * 100 <= expected * percent
}

#[test]
fn a_steady_rate_is_known_after_a_second_and_stays() {
    let mut meter = RateMeter::default();
    for second in 0..30 {
        let from = 12_345 + second * 1_000;
        feed(&mut meter, from, from + 999, 10, 10_000);
        let rate = meter.bytes_per_s(at(from + 1_000));
        assert!(close(rate, 1_000_000, 2), "after {} s: {rate}", second + 1);
    }
}

#[test]
fn a_stopped_transfer_fades_within_five_seconds() {
    let mut meter = RateMeter::default();
    feed(&mut meter, 0, 10_000, 10, 10_000);
    let half = meter.bytes_per_s(at(12_500));
    assert!(close(half, 500_000, 12), "{half}");
    assert_eq!(meter.bytes_per_s(at(15_000)), 0);
}

#[test]
fn a_resumed_transfer_is_young_again() {
    let mut meter = RateMeter::default();
    feed(&mut meter, 0, 10_000, 10, 10_000);
    feed(&mut meter, 60_000, 60_999, 10, 20_000);
    let rate = meter.bytes_per_s(at(61_000));
    assert!(close(rate, 2_000_000, 2), "{rate}");
}

#[test]
fn a_dripping_peer_does_not_look_fast() {
    let mut meter = RateMeter::default();
    feed(&mut meter, 0, 60_000, 6_000, 16_384);
    let rate = meter.bytes_per_s(at(60_001));
    assert!(rate <= 16_384 / 4, "{rate}");
}

#[test]
fn a_clock_that_steps_back_does_no_harm() {
    let mut meter = RateMeter::default();
    meter.add(at(10_000), 500);
    meter.add(at(1_000), 500);
    assert_eq!(meter.bytes_per_s(at(1_000)), 1_000);
    assert_eq!(meter.bytes_per_s(at(11_000)), 1_000);
}

#[test]
fn a_meter_fits_a_cache_line() {
    assert!(size_of::<RateMeter>() <= 64);
}

proptest! {
    #[test]
    fn the_meter_agrees_with_a_list_of_everything(
        steps in prop::collection::vec((0u64..900, 1u64..100_000), 1..200),
        look_after_ms in 0u64..6_000,
    ) {
        let (mut meter, mut log, mut now) = (RateMeter::default(), Vec::new(), 77);
        for (pause, bytes) in steps {
            now += pause;
            meter.add(at(now), bytes);
            log.push((now, bytes));
        }
        let begun = log[0].0;
        now += look_after_ms;
        let oldest = (now / 500 + 1).saturating_sub(10) * 500;
        let seen: u64 = log.iter().filter(|(ms, _)| *ms >= oldest).map(|(_, bytes)| bytes).sum();
        let age_ms = (now - begun.max(oldest)).max(1_000);
        prop_assert_eq!(meter.bytes_per_s(at(now)), seen * 1_000 / age_ms);
    }

    #[test]
    fn any_ten_seconds_keep_to_the_limit(
        rate in 1_000u64..2_000_000_000,
        pauses_ms in prop::collection::vec(0u64..400, 100..300),
    ) {
        let mut bucket = TokenBucket::new(at(0), rate);
        let (mut now, mut log) = (0, Vec::new());
        for pause in pauses_ms {
            now += pause;
            log.push((now, bucket.take(at(now), u64::MAX)));
        }
        for (i, (start, _)) in log.iter().enumerate() {
            let within = log[i..].iter().take_while(|(ms, _)| ms - start <= 10_000);
            let taken: u64 = within.map(|(_, bytes)| bytes).sum();
            prop_assert!(taken <= rate * 10 + rate / 10);
        }
    }

    #[test]
    fn a_caller_who_comes_when_told_gets_the_whole_rate(
        rate in 10_000u64..1_000_000_000,
        want_ms in 1u64..=50,
        late_micros in 0u64..20_000,
    ) {
        let (mut bucket, mut now, mut taken) = (TokenBucket::new(at(5), rate), at(5), 0);
        let want = rate * want_ms / 1_000;
        while now < at(10_005) {
            taken += bucket.take(now, u64::MAX);
            now = bucket.next_at(now, want).unwrap() + Duration::from_micros(late_micros);
        }
        // From 5 ms to just before 10,005 ms; what came in after the last visit is missing.
        prop_assert!(taken <= rate * 10);
        prop_assert!(taken >= rate * 99 / 10, "{taken} of {}", rate * 10);
    }

    #[test]
    fn what_was_promised_is_there_in_time(rate in 1u64..u64::MAX, want in 1u64..u64::MAX, now in 0u64..1 << 40) {
        let now = Time::from_micros(now);
        let mut bucket = TokenBucket::new(now, rate);
        let next = bucket.next_at(now, want).unwrap();
        prop_assert!(bucket.take(next, want) > 0);
    }
}

#[test]
fn a_new_rate_counts_from_its_change_on() {
    let mut bucket = TokenBucket::new(at(0), 1_000_000);
    bucket.set_rate(at(50), 10_000_000);
    assert_eq!(bucket.take(at(50), u64::MAX), 50_000);
    assert_eq!(bucket.take(at(60), u64::MAX), 100_000);
    bucket.set_rate(at(160), 1_000);
    assert_eq!(bucket.take(at(160), u64::MAX), 100);
}

#[test]
fn a_rate_of_zero_never_grants() {
    let mut bucket = TokenBucket::new(at(0), 0);
    assert_eq!(bucket.take(at(100_000), 1), 0);
    assert_eq!(bucket.next_at(at(100_000), 1), None);
    bucket.set_rate(at(100_000), 1_000);
    assert_eq!(bucket.next_at(at(100_000), 1), Some(at(100_001)));
}
