//! Swarms that are saved and loaded again.

use super::*;

const UNIX_S: u64 = 1_800_000_000;

fn saved(bench: &Bench) -> Vec<u8> {
    let mut bytes = Vec::new();
    bench.store.save(bench.now, UNIX_S, &mut bytes).unwrap();
    bytes
}

/// Another tracker's store that takes these bytes so many seconds later.
fn load(bytes: &[u8], later_s: u64, config: Config) -> (Bench, Result<Loaded, LoadError>) {
    let bench = Bench::new(config);
    let loaded = bench.store.load(bench.now, UNIX_S + later_s, bytes);
    bench.store.check_invariants();
    (bench, loaded)
}

/// A store with 40 IPv4 and two IPv6 peers in one swarm and one peer in another.
fn bench() -> Bench {
    let mut bench = Bench::new(Config::default());
    bench.now = at(5000);
    for port in 1..=40 {
        bench.announce(V4, &request(port, u64::from(port % 2)));
    }
    bench.announce(V4, &with(Event::Completed, request(1, 0)));
    bench.announce(V6, &request(1, 5));
    bench.announce(V6, &request(2, 0));
    let other = AnnounceRequest { info_hash: InfoHash([8; 20]), ..request(1, 5) };
    bench.announce("203.0.113.5".parse().unwrap(), &other);
    bench
}

#[test]
fn what_is_saved_is_there_again() {
    let before = bench();
    let bytes = saved(&before);
    let (mut after, loaded) = load(&bytes, 60, Config::default());
    assert_eq!(loaded.unwrap(), Loaded { peers: 43, away_s: 60 });
    assert_eq!(after.scrape(), ScrapeStats { complete: 22, incomplete: 20, downloaded: 1 });
    assert_eq!(after.store.stats(), before.store.stats());
    let heard = after.announce(V4, &AnnounceRequest { numwant: Some(100), ..request(99, 5) });
    assert_eq!(ports(&heard), (1..=40).collect());
    assert!(heard.peers.iter().all(|peer| peer.id == Some(request(peer.addr.port(), 0).peer_id)));
    after.announce(V4, &with(Event::Completed, request(1, 0)));
    assert_eq!(after.scrape().downloaded, 1, "it had said so before");
    assert_eq!(saved(&load(&saved(&after), 0, Config::default()).0).len(), saved(&after).len());
}

#[test]
fn silence_counts_across_a_restart() {
    let config = || Config { peer_timeout: Duration::from_secs(100), ..Config::default() };
    let mut before = Bench::new(config());
    before.announce(V4, &request(1, 5));
    before.now = at(60);
    before.announce(V4, &request(2, 5));
    let bytes = saved(&before);
    let there = |later_s| {
        let (mut after, loaded) = load(&bytes, later_s, config());
        loaded.unwrap();
        ports(&after.announce(V4, &request(9, 5)))
    };
    assert_eq!(there(40), [1, 2].into());
    assert_eq!(there(41), [2].into());
    assert_eq!(there(100), [2].into());
    assert_eq!(there(101), [].into());
    assert_eq!(there(u64::MAX - UNIX_S), [].into());
    let (mut after, _) = load(&bytes, 30, config());
    after.expire_at(at(11));
    assert_eq!(ports(&after.announce(V4, &request(9, 5))), [2].into(), "and goes on counting");
    let earlier = Bench::new(config());
    assert_eq!(earlier.store.load(at(0), UNIX_S - 5000, &*bytes).unwrap().peers, 2, "the clock was set back");
}

#[test]
fn what_is_damaged_is_not_taken_at_all() {
    let bytes = saved(&bench());
    for cut in (0..bytes.len()).step_by(7) {
        let (after, loaded) = load(&bytes[..cut], 0, Config::default());
        assert!(loaded.is_err(), "cut at {cut}");
        assert_eq!(after.store.stats(), StoreStats::default());
    }
    for at in (0..bytes.len()).step_by(5) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        let (after, loaded) = load(&wrong, 0, Config::default());
        assert!(loaded.is_err(), "changed at {at}");
        assert_eq!(after.store.stats(), StoreStats::default());
    }
    let (_, longer) = load(&[&*bytes, b"x"].concat(), 0, Config::default());
    assert!(matches!(longer, Err(LoadError::Damaged)));
}

#[test]
fn another_format_is_named() {
    for foreign in [b"".as_slice(), b"no", b"a letter to somebody that is none of our business"] {
        assert!(matches!(load(foreign, 0, Config::default()).1, Err(LoadError::Foreign)));
    }
    let mut newer = saved(&bench());
    newer[16..18].copy_from_slice(&7u16.to_be_bytes());
    let error = load(&newer, 0, Config::default()).1.unwrap_err();
    assert_eq!(error.to_string(), "its format is version 7, and this program knows 1 only");
}

#[test]
fn limits_hold_for_what_is_loaded() {
    let bytes = saved(&bench());
    let with = |limits| load(&bytes, 0, Config { limits, ..Config::default() }).0.store.stats();
    let peers = |stats: StoreStats| stats.seeds + stats.leechers;
    assert_eq!(peers(with(Limits { peers_max: 10, ..Limits::default() })), 10);
    assert_eq!(peers(with(Limits { peers_per_swarm_max: 10, ..Limits::default() })), 11);
    assert_eq!(with(Limits { swarms_max: 1, ..Limits::default() }).swarms, 1);
    let after = Bench::new(Config::default());
    after.store.set_allowed(Some([InfoHash([8; 20])].into_iter().collect()));
    assert_eq!(after.store.load(at(0), UNIX_S, &*bytes).unwrap().peers, 1);
}

#[test]
fn intervals_are_short_until_swarms_are_known() {
    let config = Config { numwant_default: 3, ..Config::default() };
    let (long, short) = (config.interval, config.min_interval);
    let jitter = |interval: Duration| interval..=interval + interval / INTERVAL_JITTER;
    let mut bench = Bench::new(config);
    bench.now = at(1000);
    bench.store.learn(bench.now);
    assert!(jitter(short).contains(&bench.announce(V4, &request(1, 5)).interval));
    assert!(jitter(short).contains(&bench.announce(V4, &request(2, 5)).interval));
    assert!(jitter(long).contains(&bench.announce(V4, &request(3, 5)).interval), "a reply is full");
    // By then everybody has come back.
    bench.now += long + long / INTERVAL_JITTER;
    let other = AnnounceRequest { info_hash: InfoHash([8; 20]), ..request(1, 5) };
    assert!(jitter(long).contains(&bench.announce(V4, &other).interval));
}
