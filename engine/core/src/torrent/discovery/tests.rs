use super::pace::{DIALS_BURST, DIALS_PER_S, PARALLEL_MAX, PATIENCE_MAX};
use super::*;

const STRANGER: Origin = Origin::Tracker(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
const ALONE: Demand = Demand { here: 0, wanted: 50, half_open_max: 16, has_nobody: true };
const SEVERAL: Demand = Demand { here: 1, wanted: 50, half_open_max: 16, has_nobody: false };
/// No limit but those on the rate.
const ALL: Demand = Demand { here: 0, wanted: 10_000, half_open_max: 10_000, has_nobody: false };

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The nth address of a network of 16 bits.
fn nth(network: u8, n: u32) -> SocketAddr {
    SocketAddr::from(([10, network, (n >> 8) as u8, n as u8], 6881))
}

fn dialled(d: &mut Discovery, now: Time, demand: Demand) -> Vec<SocketAddr> {
    std::iter::from_fn(|| d.dial(now, demand)).map(|dial| dial.addr).collect()
}

/// Lets virtual time pass in small steps. Each dial of a silent address ends with its patience; those of which `answers` is
/// true connect after a round trip. When each was dialled, until `until` is.
fn play(
    d: &mut Discovery,
    demand: Demand,
    time: Duration,
    mut until: impl FnMut(SocketAddr) -> bool,
) -> Vec<(Duration, SocketAddr)> {
    let (start, step) = (Time::from_micros(1), Duration::from_millis(10));
    let (mut now, mut open, mut all) = (start, Vec::new(), Vec::new());
    while now.since(start) < time {
        let (over, left) = open.into_iter().partition(|(ends_at, _)| *ends_at <= now);
        open = left;
        let over: Vec<(Time, SocketAddr)> = over;
        over.into_iter().for_each(|(_, addr)| d.failed(now, addr));
        while let Some(dial) = d.dial(now, demand) {
            all.push((now.since(start), dial.addr));
            if until(dial.addr) {
                return all;
            }
            open.push((now + dial.patience, dial.addr));
        }
        now += step;
    }
    all
}

#[test]
fn addresses_from_the_network_are_checked() {
    for bad in
        ["1.2.3.4:0", "0.0.0.0:80", "224.0.0.1:80", "127.0.0.1:80", "[::1]:80", "[ff02::1]:80", "[::]:1"]
    {
        assert!(!is_dialable(addr(bad), STRANGER), "{bad}");
    }
    assert!(!is_dialable(addr("255.255.255.255:80"), Origin::User));
    assert!(!is_dialable(addr("[::ffff:127.0.0.1]:80"), STRANGER));
    assert!(is_dialable(addr("127.0.0.1:80"), Origin::Peer("127.0.0.3".parse().unwrap())));
    assert!(is_dialable(addr("[2001:db8::1]:80"), STRANGER));
}

#[test]
fn backoff_doubles_with_each_failure_and_ends() {
    let mut d = Discovery::new(Rng::new(1));
    let a = addr("10.0.0.1:1");
    d.add(a, STRANGER);
    let (mut now, mut rests) = (Time::ZERO, Vec::new());
    while d.is_waiting() {
        let before = now;
        while d.dial(now, SEVERAL).is_none() {
            now += Duration::from_secs(1);
        }
        rests.push(now.since(before).as_secs());
        d.failed(now, a);
    }
    assert_eq!(rests, [0, 2, 4, 8, 16, 32, 64, 128, 256]);
}

#[test]
fn addresses_that_have_failed_are_no_reason_to_ask_for_no_more() {
    let mut d = Discovery::new(Rng::new(1));
    (0..60).for_each(|n| d.add(nth(1, n), STRANGER));
    (60..90).for_each(|n| d.add(nth(1, n), Origin::Peer([192, 0, 2, 7].into())));
    assert_eq!((d.untried_of_others_than_peers(50), d.untried_of_others_than_peers(100)), (50, 60));
    play(&mut d, ALL, Duration::from_secs(30), |_| false);
    assert_eq!(d.untried_of_others_than_peers(50), 0);
}

#[test]
fn canonical_priority_orders_dials_after_the_users_and_before_the_failed() {
    let mut d = Discovery::new(Rng::new(1));
    d.use_canonical_priority(6881);
    d.set_own_ip("123.213.32.10".parse().unwrap());
    d.set_own_ip("2001:db8::1".parse().unwrap());
    let mut now = Time::ZERO;
    for n in 1..=20 {
        d.add(SocketAddr::from(([10, n, 0, 1], 1)), STRANGER);
        d.add(SocketAddr::from(([0x2001, 0xdb8, n.into(), 0, 0, 0, 0, 1], 1)), STRANGER);
    }
    d.add(addr("10.99.0.1:1"), Origin::User);
    let dialled = dialled(&mut d, now, ALL);
    assert_eq!(dialled[0], addr("10.99.0.1:1"));
    let dialled = &dialled[1..];
    assert_eq!(dialled.len(), 40);
    let priority = |addr: &SocketAddr| d.priority(*addr);
    assert!(dialled.is_sorted_by(|a, b| priority(a) > priority(b)), "{dialled:?}");
    // The first ones fail, and now rank below one that is new.
    now += Duration::from_secs(1);
    dialled.iter().take(10).for_each(|addr| d.failed(now, *addr));
    let newest = *dialled.last().unwrap();
    d.not_dialled(now, newest);
    now += RETRY_FIRST;
    assert_eq!(d.dial(now, ALL).unwrap().addr, newest);
    assert_eq!(d.dial(now, ALL).unwrap().addr, dialled[0]);
}

#[test]
fn canonical_priority_follows_a_new_external_address() {
    let mut d = Discovery::new(Rng::new(1));
    d.use_canonical_priority(6881);
    (1..=50).for_each(|n| d.add(nth(n, 1), STRANGER));
    d.set_own_ip("123.213.32.10".parse().unwrap());
    let dialled = dialled(&mut d, Time::ZERO, ALL);
    assert!(dialled.is_sorted_by(|a, b| d.priority(*a) > d.priority(*b)), "{dialled:?}");
}

#[test]
fn ban_covers_a_host_and_expires() {
    let mut d = Discovery::new(Rng::new(1));
    d.ban(Time::ZERO, addr("10.0.0.1:1"));
    d.ban(Time::ZERO, addr("[2001:db8::1]:1"));
    d.ban(Time::ZERO, addr("127.0.0.1:1"));
    assert!(d.is_banned(addr("10.0.0.1:2")));
    assert!(d.is_banned(addr("[2001:db8::ffff]:9")));
    assert!(!d.is_banned(addr("[2001:db8:0:1::1]:1")));
    assert!(d.is_banned(addr("127.0.0.1:1")));
    assert!(!d.is_banned(addr("127.0.0.1:2")));
    d.expire_bans(Time::ZERO + BAN_TIME);
    assert!(!d.is_banned(addr("10.0.0.1:1")));
}

#[test]
fn ban_table_that_is_full_still_takes_bans() {
    let mut d = Discovery::new(Rng::new(1));
    for n in 0..=BANS_MAX as u32 {
        d.ban(Time::from_micros(n.into()), nth((n >> 16) as u8, n));
    }
    assert!(d.is_banned(nth(0, BANS_MAX as u32)));
    assert!(!d.is_banned(nth(0, 0)), "the oldest made room");
}

#[test]
fn half_open_limit_grows_until_one_of_two_hundred_answers_within_three_seconds() {
    for seed in 0..50 {
        let mut d = Discovery::new(Rng::new(seed));
        let honest = nth(2, 1);
        d.add(honest, STRANGER);
        (0..200).for_each(|n| d.add(nth(1, n), STRANGER));
        let dials = play(&mut d, ALONE, Duration::from_secs(60), |addr| addr == honest);
        let (at, last) = *dials.last().unwrap();
        assert_eq!(last, honest);
        assert!(at < Duration::from_secs(3), "seed {seed}: after {at:?}");
    }
}

#[test]
fn half_open_limit_is_low_at_first_and_with_a_peer() {
    let mut d = Discovery::new(Rng::new(1));
    (0..500).for_each(|n| d.add(nth(1, n), STRANGER));
    let mut now = Time::from_micros(1);
    assert_eq!(dialled(&mut d, now, ALONE).len(), 16);
    assert_eq!(d.poll_timeout(), Some(now + pace::PARALLEL_STEP));
    now += pace::PARALLEL_STEP;
    assert_eq!(dialled(&mut d, now, ALONE).len(), 16);
    now += Duration::from_secs(5);
    dialled(&mut d, now, ALONE);
    assert_eq!(d.half_open(), PARALLEL_MAX);
    assert_eq!(dialled(&mut d, now, SEVERAL).len(), 0);
}

#[test]
fn dial_timeout_is_long_while_no_others_wait() {
    let mut d = Discovery::new(Rng::new(1));
    (0..3).for_each(|n| d.add(nth(1, n), STRANGER));
    assert_eq!(d.dial(Time::ZERO, ALONE).unwrap().patience, PATIENCE_MAX);
}

#[test]
fn flood_of_addresses_that_refuse_is_bounded_in_dials_addresses_and_work() {
    let mut d = Discovery::new(Rng::new(1));
    let (mut now, mut dials) = (Time::from_micros(1), 0);
    for second in 0..15_u32 {
        // 4,000 addresses a second, each refused at once.
        for n in 0..4_000 {
            let n = second * 4_000 + n;
            d.add(nth((n >> 16) as u8, n), Origin::Peer("192.0.2.7".parse().unwrap()));
            let at = now + Duration::from_micros(u64::from(n) * 250);
            while let Some(dial) = d.dial(at, SEVERAL) {
                dials += 1;
                d.failed(at, dial.addr);
            }
            assert!(d.idle.iter().count() <= ADDRESSES_MAX);
        }
        now += Duration::from_secs(1);
    }
    assert!(dials <= DIALS_BURST + 30 * DIALS_PER_S, "{dials} dials");
    // Each is put in, woken, and taken out once at the most, but for those that are dialled.
    assert!(d.idle.work <= 4 * 60_000 + 10 * u64::from(dials), "{} steps", d.idle.work);
}

#[test]
fn short_connections_that_name_other_ports_cost_no_more_than_what_they_say() {
    let mut d = Discovery::new(Rng::new(1));
    (0..50).for_each(|n| d.add(nth(1, n), STRANGER));
    let attacker = Ipv4Addr::new(198, 51, 100, 7);
    for n in 0..60_000_u64 {
        let (now, listens) = (Time::from_micros(n * 1_000), SocketAddr::from((attacker, n as u16 + 1)));
        d.connected(listens);
        d.disconnected(now, listens, true, false);
        assert!(d.idle.iter().count() <= ADDRESSES_MAX);
    }
    assert!(d.idle.work <= 5 * 60_000, "{} steps", d.idle.work);
    // What the tracker named is all there, and dialled beside one port of the attacker's for each four others.
    let order = dialled(&mut d, Time::from_micros(600_000_000), ALL);
    let of_tracker = order.iter().take(63).filter(|addr| addr.ip() != attacker).count();
    assert!(of_tracker >= 49, "{of_tracker} of the first 63");
}

#[test]
fn flood_from_one_source_displaces_nothing_from_others() {
    let user: Vec<SocketAddr> = (0..10).map(|n| nth(1, n)).collect();
    let (tracker, honest) = ((0..200).map(|n| nth(2, n)), (0..50).map(|n| nth(3, n)));
    let named_by = |n: u8| Origin::Peer(IpAddr::from([203, 0, 113, n]));
    let mut d = Discovery::new(Rng::new(1));
    user.iter().for_each(|a| d.add(*a, Origin::User));
    tracker.clone().for_each(|a| d.add(a, STRANGER));
    honest.clone().for_each(|a| d.add(a, named_by(1)));
    (0..20_000).for_each(|n| d.add(nth(100, n), named_by(2)));
    let flood = d.idle.iter().filter(|(addr, _)| Class::Peer == d.idle.get(**addr).unwrap().class).count();
    assert_eq!((d.idle.iter().count(), flood), (ADDRESSES_MAX, ADDRESSES_MAX - 210));
    for addr in user.iter().copied().chain(tracker).chain(honest.clone()) {
        assert!(d.idle.get(addr).is_some(), "{addr} was displaced");
    }
    let order = dialled(&mut d, Time::ZERO, ALL);
    assert!(order[..10].iter().all(|addr| user.contains(addr)), "the user's first");
    let of = |network: u8| {
        order.iter().filter(move |a| matches!(a.ip(), IpAddr::V4(ip) if ip.octets()[1] == network))
    };
    // Of 246 others a third was told by peers: what one told of a few before what one told of many.
    assert!(of(2).count() >= 150, "{} of the tracker's", of(2).count());
    assert!(of(3).count() >= 35, "{} of the honest peer's", of(3).count());
}

#[test]
fn crowd_of_ports_of_one_address_is_dialled_last() {
    let mut d = Discovery::new(Rng::new(1));
    (1..=1_000).for_each(|port| d.add(SocketAddr::from(([198, 51, 100, 7], port)), STRANGER));
    (0..20).for_each(|n| d.add(nth(1, n), STRANGER));
    let order = dialled(&mut d, Time::ZERO, ALL);
    let others = order[..21].iter().filter(|addr| addr.port() == 6881).count();
    assert!(others >= 20, "{others} of 20");
}

#[test]
fn origin_that_counts_most_is_kept() {
    let mut d = Discovery::new(Rng::new(1));
    let a = nth(1, 1);
    d.add(a, Origin::Peer("192.0.2.7".parse().unwrap()));
    d.add(a, STRANGER);
    assert!(d.idle.get(a).unwrap().by_tracker);
    d.add(a, Origin::Dht("192.0.2.8".parse().unwrap()));
    assert!(d.idle.get(a).unwrap().by_tracker);
    assert_eq!(d.idle.iter().count(), 1);
}

#[test]
fn dial_rate_alone_delays_a_dial_with_room() {
    let mut d = Discovery::new(Rng::new(1));
    (0..1_000).for_each(|n| d.add(nth(1, n), STRANGER));
    let now = Time::from_micros(1);
    assert_eq!(dialled(&mut d, now, ALL).len(), DIALS_BURST as usize);
    let next = d.poll_timeout().unwrap();
    assert_eq!(next.since(now), Duration::from_secs(1) / DIALS_PER_S);
    assert_eq!(dialled(&mut d, next, ALL).len(), 1);
}

/// A relay may be connected with us in any number of torrents (BEP 55).
#[test]
fn dials_that_cannot_wait_keep_the_sessions_pace() {
    let (mut rate, now) = (pace::DialRate::of_session(), Time::from_micros(1));
    let taken = |rate: &mut pace::DialRate, at| (0..10_000).filter(|_| rate.take_at_once(at)).count() as u32;
    assert_eq!(taken(&mut rate, now), pace::DIALS_BURST);
    assert_eq!(taken(&mut rate, now + Duration::from_millis(100)), pace::SESSION_DIALS_PER_S / 10);
}
