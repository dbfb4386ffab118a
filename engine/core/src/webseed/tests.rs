use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Case {
    seed: WebSeed,
    geometry: Geometry,
    rng: Rng,
    now: Time,
}

fn case() -> Case {
    let geometry = Geometry::new(10 << 20, 1 << 20).unwrap();
    let seed = WebSeed::new(WebSeedIndex(0), geometry.pieces());
    Case { seed, geometry, rng: Rng::new(1), now: Time::from_micros(1) }
}

impl Case {
    fn fault(&mut self, fault: Fault, file: Option<Range<u64>>) -> Penalty {
        self.seed.fault(self.now, &fault, file, &self.geometry, &mut self.rng).expect("it is new")
    }

    fn pieces(&self) -> Vec<u32> {
        self.seed.have().iter().map(|piece| piece.0).collect()
    }

    fn prove(&mut self) {
        let block = self.geometry.block(PieceIndex(0), 0);
        self.seed.started(self.now, FetchId(0), vec![block]);
        self.seed.answered(self.now, FetchId(0));
        self.seed.received(self.now, FetchId(0), block);
        self.seed.ended(FetchId(0));
        self.seed.proved();
    }
}

fn not_found() -> Fault {
    Fault::Status { status: 404 }
}

#[test]
fn back_off_grows_and_ends_with_the_first_good_answer() {
    let mut case = case();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let Penalty::Paused(pause) = case.fault(Fault::Network("gone".to_owned()), None) else { panic!() };
        assert_eq!(case.seed.room(case.now, 1, false), None);
        case.now += pause;
        assert!(case.seed.room(case.now, 1, false).is_some());
        pauses.push(pause);
    }
    assert!(pauses[0] <= PAUSE_FIRST * 5 / 4 && pauses[11] <= PAUSE_MAX * 5 / 4, "{pauses:?}");
    assert!(pauses.windows(2).take(7).all(|two| two[0] < two[1]), "{pauses:?}");
    case.prove();
    let Penalty::Paused(pause) = case.fault(Fault::TooLittle, None) else { panic!() };
    assert!(pause <= PAUSE_FIRST * 5 / 4);
}

#[test]
fn retry_after_is_kept_within_an_hour() {
    for (asked, waits) in [(0, 1), (7, 7), (1_000_000, 3_600)] {
        let busy = Fault::Busy { status: 503, retry_after: Some(asked * SECOND) };
        assert_eq!(case().fault(busy, None), Penalty::Paused(waits * SECOND));
    }
}

#[test]
fn a_missing_file_costs_its_pieces_and_is_tried_again() {
    let mut case = case();
    let file = Some((1 << 20) + 5..(3 << 20) + 5);
    let Penalty::FilePaused(pause) = case.fault(not_found(), file.clone()) else { panic!() };
    assert_eq!(case.pieces(), [0, 4, 5, 6, 7, 8, 9]);
    let again = case.seed.fault(case.now, &not_found(), file.clone(), &case.geometry, &mut case.rng);
    assert_eq!(again, None, "many requests of one moment are one fault");
    // Its neighbour lies in piece 3 too, and has another length for good.
    let wrong = Fault::WrongLength { found: 5, expected: 6 };
    assert_eq!(case.fault(wrong, Some((3 << 20) + 5..(4 << 20))), Penalty::FileDropped);
    case.now += pause;
    case.seed.tick(case.now);
    assert_eq!(case.pieces(), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    let Penalty::FilePaused(again) = case.fault(not_found(), file) else { panic!() };
    assert!(again > pause);
}

#[test]
fn files_that_are_missing_in_a_row_pause_the_url() {
    let mut case = case();
    let penalties: Vec<_> =
        (0..8).map(|nth| case.fault(not_found(), Some(nth << 20..(nth << 20) + 1))).collect();
    assert!(penalties[..7].iter().all(|penalty| matches!(penalty, Penalty::FilePaused(_))));
    assert!(matches!(penalties[7], Penalty::Paused(_)), "{penalties:?}");
}

#[test]
fn a_url_that_lies_is_dropped() {
    let mut case = case();
    assert_eq!(case.fault(Fault::Corrupt, None), Penalty::Dropped);
    case.now += 1_000_000 * SECOND;
    assert_eq!(case.seed.room(case.now, 1, false), None);
}

#[test]
fn little_is_outstanding_until_a_piece_is_verified() {
    let mut case = case();
    assert_eq!(case.seed.room(case.now, 16_384, false), Some(PROBE_LEN));
    assert_eq!(case.seed.room(case.now, 1 << 20, false), Some(1 << 20));
    case.seed.started(case.now, FetchId(0), vec![case.geometry.block(PieceIndex(0), 0)]);
    assert_eq!(case.seed.room(case.now, 1 << 20, false), None);
}

#[test]
fn what_is_outstanding_is_bounded_whatever_the_rate() {
    let mut case = case();
    case.prove();
    for beside_peers in [false, true] {
        for rate in [0, 1_000, 1_000_000, u64::MAX] {
            (case.seed.rate_known, case.seed.fetch_rate) = (rate, rate);
            let (mut asked, mut fetches) = (0, 0);
            while let Some(room) = case.seed.room(case.now, 1 << 20, beside_peers) {
                let blocks =
                    (0..room.div_ceil(16_384)).map(|nth| case.geometry.block(PieceIndex(0), nth as u32 % 64));
                let blocks: Vec<_> = blocks.collect();
                asked += blocks.len() as u64 * 16_384;
                case.seed.started(case.now, FetchId(fetches), blocks);
                fetches += 1;
            }
            let bound = if beside_peers { RUN_BESIDE_PEERS } else { OUTSTANDING };
            assert!(fetches >= 1 && asked <= bound.end, "{asked} bytes in {fetches} at {rate}");
            case.seed.fetches.clear();
        }
    }
}

#[test]
fn a_silent_fetch_is_given_up_but_not_for_our_own_delay() {
    let mut case = case();
    case.prove();
    case.seed.started(case.now, FetchId(1), vec![case.geometry.block(PieceIndex(0), 0)]);
    case.now += SILENT_AFTER;
    assert_eq!(case.seed.given_up(case.now, SECOND, true, None), None);
    assert!(matches!(
        case.seed.given_up(case.now, Duration::ZERO, true, None),
        Some((_, Fault::Silent { .. }))
    ));
    case.seed.excuse(case.now);
    assert_eq!(case.seed.given_up(case.now, Duration::ZERO, true, None), None);
}

#[test]
fn a_crawling_fetch_is_given_up_where_there_are_others() {
    let mut case = case();
    case.prove();
    let blocks: Vec<_> = (0..64).map(|nth| case.geometry.block(PieceIndex(0), nth)).collect();
    case.seed.started(case.now, FetchId(1), blocks.clone());
    for block in &blocks[..4] {
        // A block in 5 s: 3 KB/s, five minutes for the rest.
        case.now += 5 * SECOND;
        case.seed.received(case.now, FetchId(1), *block);
    }
    assert_eq!(case.seed.given_up(case.now, Duration::ZERO, false, None), None);
    assert_eq!(case.seed.given_up(case.now, Duration::ZERO, true, None), Some((FetchId(1), Fault::TooSlow)));
}
