//! Who is evicted when there is no room.

use super::*;
use crate::store::holders::SHARED_FROM;

fn full_at(swarms_max: usize) -> Bench {
    let limits = Limits { swarms_max, ..Limits::default() };
    Bench::new(Config { limits, ..Config::default() })
}

/// The `nth` torrent of somebody.
fn torrent(of: &str, nth: u32) -> InfoHash {
    let mut hash = [0; 20];
    hash[..of.len()].copy_from_slice(of.as_bytes());
    // What is made up spreads as well as what is not.
    hash[16..].copy_from_slice(&nth.wrapping_mul(0x9e37_79b9).to_be_bytes());
    hash.rotate_left(16);
    InfoHash(hash)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn found(bench: &mut Bench, hash: InfoHash, source: IpAddr) -> Result<AnnounceResponse, Refusal> {
    bench.try_announce(source, &AnnounceRequest { info_hash: hash, ..request(6881, 0) })
}

fn is_there(bench: &Bench, hash: InfoHash) -> bool {
    bench.store.scrape(&[hash]).files[&hash].complete > 0
}

fn honest_source(nth: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + nth * 256))
}

/// Sources that announce each made-up torrent together, or in turn.
enum Attack {
    Together(Vec<IpAddr>),
    InTurn(Vec<IpAddr>),
}

const MADE_UP: u32 = 20_000;
const ROOM: usize = 1000;
const HONEST: u32 = 50;
const PUBLISHED: u32 = 100;

/// Honest swarms of single announcers, and one publisher's, survive 20,000 made-up ones; new torrents are
/// taken.
fn survive(attack: Attack) {
    let mut bench = full_at(ROOM);
    let publisher = ip("198.51.100.7");
    for nth in 0..PUBLISHED {
        found(&mut bench, torrent("published", nth), publisher).unwrap();
    }
    for nth in 0..HONEST {
        found(&mut bench, torrent("honest", nth), honest_source(nth)).unwrap();
    }
    for nth in 0..MADE_UP {
        let hash = torrent("made up", nth);
        match &attack {
            Attack::Together(sources) => {
                for &source in sources {
                    found(&mut bench, hash, source).unwrap();
                }
            }
            Attack::InTurn(sources) => {
                found(&mut bench, hash, sources[nth as usize % sources.len()]).unwrap();
            }
        }
    }
    assert!(bench.store.stats().swarms <= ROOM);
    for nth in HONEST..2 * HONEST {
        found(&mut bench, torrent("honest", nth), honest_source(nth)).expect("new torrents are taken");
    }
    let lost = (0..2 * HONEST).filter(|&nth| !is_there(&bench, torrent("honest", nth))).count();
    let unpublished = (0..PUBLISHED).filter(|&nth| !is_there(&bench, torrent("published", nth))).count();
    assert_eq!((lost, unpublished), (0, 0), "lost of {} and {PUBLISHED}", 2 * HONEST);
    assert!(bench.store.holders().len() <= ROOM);
    bench.store.check_invariants();
}

#[test]
fn made_up_torrents_of_one_address_drive_out_their_own() {
    survive(Attack::InTurn(vec![ip("203.0.113.5")]));
    survive(Attack::InTurn(vec![ip("2001:db8::5")]));
}

#[test]
fn made_up_torrents_of_a_whole_network_drive_out_their_own() {
    survive(Attack::InTurn((0..=255).map(|n| ip(&format!("203.0.113.{n}"))).collect()));
    survive(Attack::InTurn((0..5000).map(|n| ip(&format!("2001:db8:7:{n:x}::5"))).collect()));
}

#[test]
fn networks_that_work_together_are_no_better_off() {
    for count in 2..SHARED_FROM {
        survive(Attack::Together((0..count).map(|n| ip(&format!("203.0.{n}.5"))).collect()));
    }
}

#[test]
fn there_is_no_share_while_there_is_room() {
    let mut bench = full_at(10_000);
    for nth in 0..10_000 {
        found(&mut bench, torrent("published", nth), V4).unwrap();
    }
    assert_eq!((bench.store.stats().swarms, bench.store.displaced()), (10_000, 0));
}

#[test]
fn one_swarm_is_evicted_for_a_new_one() {
    let mut bench = full_at(ROOM);
    for nth in 0..MADE_UP {
        found(&mut bench, torrent("made up", nth), V4).unwrap();
    }
    assert_eq!(bench.store.displaced(), u64::from(MADE_UP) - ROOM as u64);
    // Who is there already, and who leaves, takes nobody's place.
    for nth in 0..MADE_UP {
        let hash = torrent("made up", nth);
        if is_there(&bench, hash) {
            found(&mut bench, hash, V4).unwrap();
            found(&mut bench, hash, V6).unwrap();
        }
        let stranger =
            AnnounceRequest { info_hash: torrent("left", nth), ..with(Event::Stopped, request(1, 0)) };
        bench.announce(V4, &stranger);
    }
    assert_eq!(bench.store.displaced(), u64::from(MADE_UP) - ROOM as u64);
    bench.store.check_invariants();
}

#[test]
fn a_swarm_that_many_networks_share_is_never_evicted() {
    let mut bench = full_at(2);
    for nth in 0..2 {
        for source in (0..2 * SHARED_FROM).map(honest_source) {
            found(&mut bench, torrent("shared", nth), source).unwrap();
        }
    }
    assert_eq!(found(&mut bench, torrent("new", 0), V4), Err(Refusal::Full));
    assert_eq!(bench.store.holders().len(), 0);
    // They have left, one by one, and it is theirs no longer.
    for source in (1..2 * SHARED_FROM).map(honest_source) {
        let left = AnnounceRequest { info_hash: torrent("shared", 0), ..request(6881, 0) };
        bench.announce(source, &with(Event::Stopped, left));
    }
    bench.expire_at(at(1));
    bench.store.check_invariants();
    found(&mut bench, torrent("new", 0), V4).unwrap();
    assert!(!is_there(&bench, torrent("shared", 0)));
    assert!(is_there(&bench, torrent("shared", 1)));
}

#[test]
fn nobody_evicts_the_swarm_of_another() {
    let mut bench = full_at(100);
    let (victim, attacker) = (ip("198.51.100.7"), ip("203.0.113.5"));
    found(&mut bench, torrent("victim", 0), victim).unwrap();
    for port in 1..1000 {
        let joins = AnnounceRequest { info_hash: torrent("victim", 0), ..request(port, 0) };
        bench.announce(attacker, &joins);
    }
    for nth in 0..200 {
        found(&mut bench, torrent("honest", nth), honest_source(nth % 50)).unwrap();
    }
    assert!(is_there(&bench, torrent("victim", 0)));
    // Once it has been looked at it weighs on whoever has most of it.
    bench.expire_at(at(1));
    bench.store.check_invariants();
    found(&mut bench, torrent("new", 0), ip("192.0.2.1")).unwrap();
    assert!(!is_there(&bench, torrent("victim", 0)), "it has become the attacker's");
}

#[test]
fn ports_of_one_address_do_not_fill_the_tracker() {
    let limits = Limits { peers_max: 3000, ..Limits::default() };
    let mut bench = Bench::new(Config { limits, ..Config::default() });
    for nth in 0..HONEST {
        found(&mut bench, torrent("honest", nth), honest_source(nth)).unwrap();
    }
    for n in 0..20_000u16 {
        let many = AnnounceRequest { info_hash: torrent("made up", u32::from(n % 9)), ..request(1 + n, 5) };
        bench.announce(ip("203.0.113.5"), &many);
    }
    for nth in 0..HONEST {
        // A newcomer to a swarm that is known, and one with another swarm.
        let joins = AnnounceRequest { info_hash: torrent("honest", nth), ..request(2, 5) };
        assert_eq!(bench.announce(V4, &joins).warning, None, "it is listed");
        found(&mut bench, torrent("new", nth), honest_source(nth)).unwrap();
    }
    assert!((0..HONEST).all(|nth| is_there(&bench, torrent("honest", nth))));
    let stats = bench.store.stats();
    assert!(stats.seeds + stats.leechers <= 3000);
    bench.store.check_invariants();
}

#[test]
fn an_announce_does_not_cost_its_own_swarm() {
    let limits = Limits { peers_max: 1, ..Limits::default() };
    let mut bench = Bench::new(Config { limits, ..Config::default() });
    found(&mut bench, HASH, V4).unwrap();
    let late = bench.announce(V4, &request(2, 5));
    assert_eq!(ports(&late), [6881].into());
    assert!(late.warning.is_some());
    assert_eq!(bench.store.displaced(), 0);
}

#[test]
fn there_is_room_again_once_peers_have_gone() {
    for limits in
        [Limits { swarms_max: 1, ..Limits::default() }, Limits { peers_max: 8, ..Limits::default() }]
    {
        let mut bench = Bench::new(Config { limits, ..Config::default() });
        for source in (0..SHARED_FROM + 2).map(honest_source).take(8) {
            found(&mut bench, HASH, source).unwrap();
        }
        assert_eq!(found(&mut bench, torrent("other", 0), V4), Err(Refusal::Full));
        bench.expire_at(at(100_000));
        assert!(found(&mut bench, torrent("other", 0), V4).is_ok());
    }
}

proptest! {
    #[test]
    fn holders_are_known_and_limits_kept(
        seed: u64,
        ops in prop::collection::vec((0u32..30, 0u32..20, 1u16..5, 0u8..10), 0..600),
    ) {
        let limits = Limits { swarms_max: 12, peers_max: 60, ..Limits::default() };
        let config = Config { limits, peer_timeout: Duration::from_secs(60), ..Config::default() };
        let mut bench = Bench { store: Store::new(config), rng: Rng::new(seed), now: at(0) };
        for (torrent_nth, source, port, kind) in ops {
            let source = if source < 4 { V6 } else { honest_source(source / 2) };
            let event = (kind == 0).then_some(Event::Stopped);
            let request = AnnounceRequest { info_hash: torrent("any", torrent_nth), event, ..request(port, 0) };
            let _ = bench.try_announce(source, &request);
            match kind {
                1 => bench.now += Duration::from_secs(20),
                2 => bench.store.expire(bench.now),
                _ => {}
            }
            let stats = bench.store.stats();
            prop_assert!(stats.swarms <= 12 && stats.seeds <= 60);
        }
        bench.store.check_invariants();
    }
}
