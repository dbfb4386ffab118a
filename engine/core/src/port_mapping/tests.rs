use super::*;

const PORT: u16 = 6881;
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 7);
const OUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const ROUTE: Route = Route { has_gateway: true, client: CLIENT, upnp: true };

fn start() -> Time {
    Time::from_micros(1_000_000)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a gateway does with what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gateway {
    Pcp { result: u8 },
    NatPmp { result: u16 },
    Silent,
}

/// A mapper, its gateway, and what has happened.
struct Home {
    now: Time,
    mapper: PortMapper,
    gateway: Gateway,
    /// When the gateway was started.
    started: Time,
    outer: Ipv4Addr,
    lifetime_s: u32,
    /// The external port that it gives instead of the one it is asked for.
    other_port: Option<u16>,
    sent: Vec<(Time, Vec<u8>)>,
    upnp: Vec<Upnp>,
    events: Vec<Event>,
}

impl Home {
    fn new(gateway: Gateway) -> Home {
        Home::of(gateway, Transport::Tcp, ROUTE)
    }

    fn of(gateway: Gateway, transport: Transport, route: Route) -> Home {
        let now = start();
        let mut home = Home {
            now,
            mapper: PortMapper::new(now, transport, PORT, route, Rng::new(1)),
            gateway,
            started: Time::ZERO,
            outer: OUTER,
            lifetime_s: 3_600,
            other_port: None,
            sent: Vec::new(),
            upnp: Vec::new(),
            events: Vec::new(),
        };
        home.drain();
        home
    }

    fn epoch(&self) -> [u8; 4] {
        (self.now.since(self.started).as_secs() as u32).to_be_bytes()
    }

    /// The answers to a datagram.
    fn answer(&self, asked: &[u8]) -> Option<Vec<u8>> {
        let version_of = |version: u8| vec![version, asked[1] | 0x80, 0, 1, 0, 0, 0, 0];
        match (self.gateway, asked[0]) {
            (Gateway::Silent, _) => None,
            (Gateway::Pcp { .. }, 0) => Some(version_of(0)),
            (Gateway::NatPmp { .. }, 2) => Some(version_of(0)),
            (Gateway::Pcp { result }, _) => {
                let mut bytes = vec![2, asked[1] | 0x80, 0, result];
                let lifetime = if asked[4..8] == [0; 4] { 0 } else { self.lifetime_s };
                bytes.extend(lifetime.to_be_bytes().into_iter().chain(self.epoch()));
                bytes.extend([0; 12]);
                if asked[1] == 1 {
                    bytes.extend(&asked[24..42]);
                    let port = self.other_port.map_or([asked[42], asked[43]], u16::to_be_bytes);
                    bytes.extend(port);
                    bytes.extend(self.outer.to_ipv6_mapped().octets());
                }
                Some(bytes)
            }
            (Gateway::NatPmp { result }, _) => {
                let [high, low] = result.to_be_bytes();
                let mut bytes = vec![0, asked[1] | 0x80, high, low];
                bytes.extend(self.epoch());
                if asked[1] == 0 {
                    bytes.extend(self.outer.octets());
                } else {
                    let port = self.other_port.map_or([asked[6], asked[7]], u16::to_be_bytes);
                    bytes.extend([asked[4], asked[5]].into_iter().chain(port));
                    bytes.extend(self.lifetime_s.to_be_bytes());
                }
                Some(bytes)
            }
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.mapper.poll_action() {
            match action {
                Action::Send(datagram) => {
                    if let Some(answer) = self.answer(&datagram) {
                        self.mapper.handle_datagram(self.now, &answer);
                    }
                    self.sent.push((self.now, datagram));
                }
                Action::Upnp(upnp) => self.upnp.push(upnp),
            }
        }
        self.events.extend(std::iter::from_fn(|| self.mapper.poll_event()));
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.mapper.poll_timeout().filter(|at| *at <= end) {
            assert!(at >= self.now || self.mapper.poll_timeout() == Some(at));
            self.now = at.max(self.now);
            self.mapper.handle_timeout(self.now);
            self.drain();
            assert!(self.mapper.poll_timeout().is_none_or(|next| next > self.now), "it spins");
        }
        self.now = end;
    }

    fn upnp_says(&mut self, outcome: Result<(u16, Option<IpAddr>), UpnpError>) {
        self.mapper.handle_upnp(self.now, outcome);
        self.drain();
    }

    fn mapped(&self) -> Option<(Method, u16)> {
        self.mapper.mapping().map(|mapping| (mapping.method, mapping.port))
    }

    /// What was sent since `from`, by version, opcode and lifetime.
    fn asked_since(&self, from: Time) -> Vec<(u8, u8)> {
        self.sent.iter().filter(|(at, _)| *at >= from).map(|(_, sent)| (sent[0], sent[1])).collect()
    }
}

#[test]
fn pcp_comes_first_and_is_enough() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let home = Home::of(Gateway::Pcp { result: 0 }, transport, ROUTE);
        let mapping = Mapping { method: Method::Pcp, ip: Some(OUTER), port: PORT };
        assert_eq!(home.events, [Event::Mapped(mapping)]);
        assert_eq!(home.sent.len(), 1);
        let sent = &home.sent[0].1;
        assert_eq!(sent.len(), 60);
        assert_eq!(sent[..8], [2, 1, 0, 0, 0, 0, 0x0e, 0x10], "MAP for an hour");
        assert_eq!(sent[8..24], CLIENT.to_ipv6_mapped().octets());
        assert_eq!(sent[36], transport.number());
        assert_eq!(sent[40..44], [0x1a, 0xe1, 0x1a, 0xe1]);
        assert!(home.upnp.is_empty());
    }
}

#[test]
fn a_gateway_that_speaks_only_nat_pmp_is_asked_in_that_at_once() {
    let home = Home::new(Gateway::NatPmp { result: 0 });
    let mapping = Mapping { method: Method::NatPmp, ip: Some(OUTER), port: PORT };
    assert_eq!(home.events, [Event::Mapped(mapping)]);
    assert_eq!(home.asked_since(start()), [(2, 1), (0, 0), (0, 2)]);
}

#[test]
fn silence_leads_to_upnp_in_bounded_time_and_tries() {
    let mut home = Home::new(Gateway::Silent);
    home.pass(secs(8));
    // PCP and NAT-PMP, the latter with a question for the address each time.
    assert_eq!(home.sent.len(), (TRIES + 2 * TRIES) as usize);
    let external_port = PORT;
    assert_eq!(home.upnp, [Upnp::Map { external_port, lifetime_s: 3_600 }]);
    home.upnp_says(Ok((PORT, Some(OUTER.into()))));
    assert_eq!(home.mapped(), Some((Method::Upnp, PORT)));
}

#[test]
fn nobody_at_the_port_leads_to_the_next_way_at_once() {
    let mut home = Home::new(Gateway::Silent);
    for _ in 0..2 {
        home.mapper.handle_unreachable(home.now);
        home.drain();
    }
    assert_eq!(home.upnp.len(), 1);
    assert_eq!(home.now, start());
}

#[test]
fn a_refusal_leads_to_the_next_way_and_all_are_told_once() {
    let mut home = Home::new(Gateway::Pcp { result: 2 });
    home.pass(secs(5));
    let other = Trouble::Refused("its ports are taken".to_owned());
    for _ in 0..=PORTS_TRIED {
        home.upnp_says(Err(UpnpError::Conflict));
    }
    let refused = Trouble::Refused("not authorized".to_owned());
    let told = Event::Failed(vec![
        (Method::Pcp, refused),
        (Method::NatPmp, Trouble::OtherVersion),
        (Method::Upnp, other),
    ]);
    assert_eq!(home.events, [told]);
    let ports: Vec<u16> = home
        .upnp
        .iter()
        .map(|upnp| match upnp {
            Upnp::Map { external_port, .. } => *external_port,
            Upnp::Remove { .. } => panic!("nothing was mapped"),
        })
        .collect();
    assert_eq!(ports.len(), 1 + PORTS_TRIED as usize);
    assert!(ports[0] == PORT && ports[1..].iter().all(|port| *port >= 1_024 && *port != PORT), "{ports:?}");
}

#[test]
fn all_ways_are_tried_again_ever_more_rarely_and_the_same_outcome_is_not_told_again() {
    let mut home = Home::of(Gateway::Silent, Transport::Tcp, Route { upnp: false, ..ROUTE });
    home.pass(secs(24 * 3_600));
    assert_eq!(home.events.len(), 1, "{:?}", home.events);
    // A minute, two, four, … an hour, then each hour.
    let rounds = home.sent.len() / (3 * TRIES as usize);
    assert!((25..=32).contains(&rounds), "{rounds} rounds in a day");
    // A gateway that begins to answer is taken.
    home.gateway = Gateway::NatPmp { result: 0 };
    home.pass(RETRY_MAX + secs(10));
    assert_eq!(home.mapped(), Some((Method::NatPmp, PORT)));
}

#[test]
fn another_network_is_tried_at_once() {
    let mut home = Home::of(Gateway::Silent, Transport::Tcp, Route { upnp: false, ..ROUTE });
    home.pass(secs(20));
    home.gateway = Gateway::Pcp { result: 0 };
    let client = Ipv4Addr::new(10, 0, 0, 2);
    home.mapper.handle_route(home.now, Route { client, ..ROUTE });
    home.drain();
    assert_eq!(home.mapped(), Some((Method::Pcp, PORT)));
    assert_eq!(home.sent.last().unwrap().1[8..24], client.to_ipv6_mapped().octets());
    let sent = home.sent.len();
    home.mapper.handle_route(home.now, Route { client, ..ROUTE });
    home.drain();
    assert_eq!(home.sent.len(), sent, "no change, nothing to do");
}

#[test]
fn a_mapping_is_renewed_at_half_of_its_lifetime_and_lasts_as_long_as_that_works() {
    for gateway in [Gateway::Pcp { result: 0 }, Gateway::NatPmp { result: 0 }] {
        let mut home = Home::new(gateway);
        home.lifetime_s = 600;
        home.pass(secs(10 * 3_600));
        assert_eq!(home.events.len(), 1, "{:?}", home.events);
        let maps = home.sent.iter().filter(|(_, sent)| sent[1] != 0).count();
        assert!((110..=122).contains(&maps), "{maps} requests in ten hours");
    }
}

#[test]
fn a_lifetime_is_believed_within_bounds() {
    for (lifetime_s, at_most) in [(1, 130), (u32::MAX, 5)] {
        let mut home = Home::new(Gateway::Pcp { result: 0 });
        home.lifetime_s = lifetime_s;
        home.pass(secs(1_800));
        let from = home.now;
        home.pass(secs(3_600));
        let maps = home.sent.iter().filter(|(at, sent)| *at >= from && sent[1] == 1).count();
        assert!(maps <= at_most, "{maps} requests in an hour for {lifetime_s}");
        home.pass(LIFETIME_MAX);
        assert!(home.mapped().is_some());
    }
}

#[test]
fn a_gateway_that_falls_silent_keeps_the_mapping_until_it_runs_out() {
    let mut home = Home::new(Gateway::Pcp { result: 0 });
    home.gateway = Gateway::Silent;
    home.pass(secs(3_500));
    assert_eq!(home.events.len(), 1, "{:?}", home.events);
    home.pass(secs(200));
    assert_eq!(home.events[1], Event::Lost(Trouble::Expired));
    let sent = home.sent.len();
    assert!(sent < 150, "{sent} datagrams in an hour");
    // It has started all over, and takes what there is then.
    home.gateway = Gateway::NatPmp { result: 0 };
    home.pass(secs(300));
    assert_eq!(home.mapped(), Some((Method::NatPmp, PORT)));
}

#[test]
fn a_gateway_that_starts_again_has_the_port_mapped_anew() {
    for gateway in [Gateway::Pcp { result: 0 }, Gateway::NatPmp { result: 0 }] {
        let mut home = Home::new(gateway);
        home.pass(secs(300));
        let map = match gateway {
            Gateway::Pcp { .. } => (2, 1),
            _ => (0, 2),
        };
        home.started = home.now;
        let restarted = home.now;
        home.pass(PROBE_INTERVAL + secs(1));
        let maps = home.asked_since(restarted).into_iter().filter(|asked| *asked == map).count();
        assert_eq!(maps, 1, "{gateway:?}");
        home.pass(secs(600));
        let maps = home.asked_since(restarted).into_iter().filter(|asked| *asked == map).count();
        assert_eq!(maps, 1, "{gateway:?}: its clock goes on");
    }
}

#[test]
fn a_gateway_that_claims_a_new_start_all_the_time_is_asked_only_so_often() {
    let mut home = Home::new(Gateway::Pcp { result: 0 });
    home.pass(secs(1));
    let from = home.now;
    for second in 0..100 {
        for nth in 0..100_u32 {
            let mut announce = vec![2, 0x80, 0, 0, 0, 0, 0, 0];
            announce.extend((nth * 7_919 % 1_000).to_be_bytes());
            announce.extend([0; 12]);
            home.mapper.handle_datagram(home.now, &announce);
            home.drain();
        }
        home.pass(secs(1));
        assert!(home.mapped().is_some(), "{second}");
    }
    let maps = home.asked_since(from).into_iter().filter(|asked| *asked == (2, 1)).count();
    assert!((5..=11).contains(&maps), "{maps} in 100 s");
}

#[test]
fn what_was_not_asked_counts_for_nothing() {
    let mut home = Home::new(Gateway::Silent);
    let ours = home.sent[0].1.clone();
    home.gateway = Gateway::Pcp { result: 0 };
    let right = home.answer(&ours).unwrap();
    for at in [24, 36, 41] {
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        home.mapper.handle_datagram(home.now, &wrong);
        assert_eq!(home.mapper.mapping(), None, "another nonce, transport or port: byte {at}");
    }
    for len in 0..60 {
        home.mapper.handle_datagram(home.now, &right[..len]);
        assert_eq!(home.mapper.mapping(), None, "{len} bytes of it");
    }
    home.mapper.handle_datagram(home.now, &ours);
    assert_eq!(home.mapper.mapping(), None, "a request is no answer");
    home.mapper.handle_datagram(home.now, &[0, 0x82, 0, 0, 0, 0, 0, 9, 0x1a, 0xe1, 0x1a, 0xe1, 0, 0, 14, 16]);
    assert_eq!(home.mapper.mapping(), None, "NAT-PMP was not asked");
    home.mapper.handle_datagram(home.now, &right);
    assert!(home.mapper.mapping().is_some());
    let events = home.events.len();
    home.drain();
    home.mapper.handle_datagram(home.now, &right);
    home.drain();
    assert_eq!(home.events.len(), events + 1, "twice is once");
}

#[test]
fn nonsense_leads_to_the_next_way() {
    for (change, expected) in [
        ((|home: &mut Home| home.other_port = Some(0)) as fn(&mut Home), Trouble::Nonsense),
        (|home| home.lifetime_s = 0, Trouble::Nonsense),
        (|home| home.outer = Ipv4Addr::UNSPECIFIED, Trouble::NoAddress),
    ] {
        for gateway in [Gateway::Pcp { result: 0 }, Gateway::NatPmp { result: 0 }] {
            let mut home = Home::of(Gateway::Silent, Transport::Udp, Route { upnp: false, ..ROUTE });
            change(&mut home);
            home.gateway = gateway;
            home.pass(secs(5));
            let Some(Event::Failed(troubles)) = home.events.first() else { panic!("{:?}", home.events) };
            let nth = usize::from(matches!(gateway, Gateway::NatPmp { .. }));
            assert_eq!(troubles[nth].1, expected, "{gateway:?}");
        }
    }
}

#[test]
fn any_bytes_are_survived() {
    let mut rng = Rng::new(7);
    for round in 0..20_000 {
        let mut home = Home::new(Gateway::Silent);
        let mut bytes = vec![0; rng.below(80) as usize];
        rng.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first = [0, 2][round % 2];
        }
        home.mapper.handle_datagram(home.now, &bytes);
        home.drain();
        assert!(home.sent.len() < 5);
    }
}

#[test]
fn another_port_than_ours_is_taken_and_kept() {
    let mut home = Home::new(Gateway::Silent);
    (home.gateway, home.other_port) = (Gateway::Pcp { result: 0 }, Some(40_000));
    home.pass(secs(2));
    assert_eq!(home.mapped(), Some((Method::Pcp, 40_000)));
    home.other_port = None;
    home.pass(secs(2_000));
    let renewal = home.sent.iter().rev().find(|(_, sent)| sent[1] == 1).unwrap();
    assert_eq!(renewal.1[42..44], [0x9c, 0x40], "the port that it has");
    assert_eq!(home.events.len(), 1);
}

#[test]
fn the_outer_address_is_followed() {
    let mut home = Home::new(Gateway::NatPmp { result: 0 });
    home.outer = Ipv4Addr::new(203, 0, 113, 99);
    home.pass(PROBE_INTERVAL + secs(1));
    let mapping = Mapping { method: Method::NatPmp, ip: Some(home.outer), port: PORT };
    assert_eq!(home.events.last(), Some(&Event::Mapped(mapping)));
    assert_eq!(home.events.len(), 2);
}

#[test]
fn upnp_without_leases_is_asked_for_good_and_made_again_now_and_then() {
    let mut home = Home::of(Gateway::Silent, Transport::Tcp, Route { has_gateway: false, ..ROUTE });
    assert!(home.sent.is_empty());
    home.upnp_says(Err(UpnpError::PermanentOnly));
    assert_eq!(home.upnp.last(), Some(&Upnp::Map { external_port: PORT, lifetime_s: 0 }));
    home.upnp_says(Ok((PORT, None)));
    assert_eq!(home.mapped(), Some((Method::Upnp, PORT)));
    for nth in 1..=6 {
        home.pass(UPNP_RENEW_INTERVAL);
        assert_eq!(home.upnp.len(), 2 + nth);
        home.upnp_says(Ok((PORT, None)));
    }
    assert_eq!(home.events.len(), 1);
}

#[test]
fn what_upnp_says_too_late_counts_for_nothing() {
    let mut home = Home::of(Gateway::Silent, Transport::Tcp, Route { has_gateway: false, ..ROUTE });
    home.pass(UPNP_PATIENCE + secs(1));
    assert!(matches!(home.events[..], [Event::Failed(_)]));
    home.pass(RETRY_FIRST);
    assert_eq!(home.upnp.len(), 2);
    home.upnp_says(Err(UpnpError::Other(Trouble::Nonsense)));
    home.upnp_says(Ok((PORT, None)));
    assert_eq!(home.mapped(), Some((Method::Upnp, PORT)));
}

#[test]
fn at_the_end_our_mapping_is_taken_away_and_nothing_else() {
    let mut home = Home::new(Gateway::Pcp { result: 0 });
    home.mapper.handle_stop(home.now);
    home.drain();
    let last = &home.sent.last().unwrap().1;
    assert_eq!((last[1], &last[4..8], &last[40..42]), (1, &[0; 4][..], &[0x1a, 0xe1][..]));
    assert!(home.mapper.is_stopped());

    let mut home = Home::new(Gateway::NatPmp { result: 0 });
    home.mapper.handle_stop(home.now);
    home.drain();
    assert_eq!(home.sent.last().unwrap().1, [0, 2, 0, 0, 0x1a, 0xe1, 0, 0, 0, 0, 0, 0]);
    assert!(home.mapper.is_stopped());
    home.pass(secs(10_000));
    assert_eq!(home.mapper.poll_timeout(), None);

    let mut home = Home::of(Gateway::Silent, Transport::Tcp, Route { has_gateway: false, ..ROUTE });
    home.upnp_says(Ok((PORT, None)));
    home.mapper.handle_stop(home.now);
    home.drain();
    assert_eq!(home.upnp.last(), Some(&Upnp::Remove { external_port: PORT }));
    assert!(!home.mapper.is_stopped());
    home.mapper.handle_upnp_removed();
    assert!(home.mapper.is_stopped());
}

#[test]
fn the_end_does_not_wait_for_a_gateway_that_has_never_answered() {
    let mut home = Home::new(Gateway::Silent);
    home.mapper.handle_stop(home.now);
    assert!(!home.mapper.is_stopped(), "the request is to be sent first");
    home.drain();
    let last = &home.sent.last().unwrap().1;
    assert_eq!((last[1], &last[4..8]), (1, &[0; 4][..]), "what it may have granted is taken away");
    assert!(home.mapper.is_stopped());
    assert_eq!(home.mapper.poll_timeout(), None);
}

#[test]
fn the_end_waits_for_a_silent_gateway_only_so_long_and_for_nothing_if_nothing_was_asked() {
    let mut home = Home::new(Gateway::Pcp { result: 0 });
    home.gateway = Gateway::Silent;
    home.mapper.handle_stop(home.now);
    home.drain();
    assert!(!home.mapper.is_stopped());
    home.pass(STOP_PATIENCE);
    assert!(home.mapper.is_stopped());

    let mut home = Home::of(Gateway::Silent, Transport::Tcp, Route { upnp: false, ..ROUTE });
    home.pass(secs(30));
    let sent = home.sent.len();
    home.mapper.handle_stop(home.now);
    home.drain();
    assert!(home.mapper.is_stopped());
    assert_eq!(home.sent.len(), sent);
}
