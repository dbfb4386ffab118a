//! Local service discovery, and what gateways answer.

use crate::Target;
use crate::input::Input;
use crate::memory::bounded;
use std::net::Ipv4Addr;
use swarm_core::id::InfoHash;
use swarm_core::lsd::{Announcement, HOSTS_MAX, LSD_GROUP_V4, LocalDiscovery};
use swarm_core::port_mapping::{Action, Event, PortMapper, Route, Transport, Trouble, Upnp, UpnpError};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

pub(super) const LSD: Target = Target { name: "lsd", run: lsd, seeds: announcements, runs: 20_000 };
pub(super) const PORT_MAPPING: Target =
    Target { name: "port_mapping", run: port_mapping, seeds: port_mapping_seeds, runs: 50_000 };

/// What was read is written as an announcement that says the same, and only torrents of ours are told of.
fn lsd(input: &[u8]) {
    let Some(announcement) = bounded(input.len(), 16, || Announcement::decode(input)) else { return };
    let again = announcement.encode(LSD_GROUP_V4.into());
    if again.len() <= 1_400 {
        assert_eq!(Announcement::decode(&again), Some(announcement.clone()));
    }
    let ours = InfoHash([0xab; 20]);
    let mut local = LocalDiscovery::new(6881, 7);
    local.add(Time::ZERO, ours);
    for host in 0..2 * HOSTS_MAX {
        let from = ([10, 0, host as u8, (host >> 8) as u8], 6771).into();
        if let Some((peer, hashes)) = local.handle_datagram(Time::ZERO, from, input) {
            assert_eq!((peer.ip(), peer.port()), (from.ip(), announcement.port));
            assert!(host < HOSTS_MAX && hashes.iter().all(|hash| *hash == ours));
        }
    }
}

fn announcements() -> Vec<Vec<u8>> {
    let of = |cookie: Option<&str>| Announcement {
        port: 6881,
        info_hashes: vec![InfoHash([0xab; 20]), InfoHash([1; 20])],
        cookie: cookie.map(str::to_owned),
    };
    vec![of(Some("cookie")).encode(LSD_GROUP_V4.into()), of(None).encode(LSD_GROUP_V4.into())]
}

struct World {
    now: Time,
    mapper: PortMapper,
    /// The last datagram to the gateway.
    asked: Vec<u8>,
    upnp: u32,
}

fn port_mapping(input: &[u8]) {
    let mut input = Input(input);
    let transport = if input.bool() { Transport::Tcp } else { Transport::Udp };
    let now = Time::from_micros(1_000_000);
    let mapper = PortMapper::new(now, transport, 6881, route(&mut input), Rng::new(1));
    let mut world = World { now, mapper, asked: Vec::new(), upnp: 0 };
    world.settle();
    while !input.is_empty() {
        world.step(&mut input);
        world.settle();
    }
    world.mapper.handle_stop(world.now);
    world.settle();
    world.pass(Duration::from_secs(60));
    assert!(world.mapper.is_stopped(), "it never stops");
}

fn route(input: &mut Input<'_>) -> Route {
    let flags = input.byte();
    Route { has_gateway: flags & 1 == 0, client: Ipv4Addr::new(10, 0, 0, flags), upnp: flags & 2 == 0 }
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(9) {
            0 => {
                let datagram = input.chunk();
                self.mapper.handle_datagram(self.now, datagram);
            }
            1..5 => self.answer(input),
            5 => self.pass(Duration::from_millis(
                input.of(&[100, 300, 2_000, 10_000, 61_000, 700_000, 4_000_000]),
            )),
            6 => self.mapper.handle_unreachable(self.now),
            7 => {
                let route = route(input);
                self.mapper.handle_route(self.now, route);
            }
            _ if self.upnp > 0 => {
                self.upnp -= 1;
                let outcome = match input.below(4) {
                    0 => Err(UpnpError::Conflict),
                    1 => Err(UpnpError::PermanentOnly),
                    2 => Err(UpnpError::Other(Trouble::Silent)),
                    _ => Ok((input.u16(), None)),
                };
                self.mapper.handle_upnp(self.now, outcome);
            }
            _ => {}
        }
    }

    /// An answer to the last question: whether it is a mapping, its result, lifetime and port are the input's.
    fn answer(&mut self, input: &mut Input<'_>) {
        let mut datagram = self.asked.clone();
        let [version, opcode, ..] = &mut datagram[..] else { return };
        *opcode |= 0x80;
        let result = input.of(&[0, 0, 0, 1, 2, 3, 8, 11]);
        let (epoch, lifetime, port) = (input.number(), input.number(), input.u16());
        match (*version, datagram.len()) {
            (2, 24..) => {
                datagram[3] = result;
                datagram[4..8].copy_from_slice(&lifetime.to_be_bytes());
                datagram[8..12].copy_from_slice(&epoch.to_be_bytes());
                if let Some(external) = datagram.get_mut(42..44) {
                    external.copy_from_slice(&port.to_be_bytes());
                }
            }
            (_, 12..) => {
                let internal = [datagram[4], datagram[5]];
                datagram.splice(2.., [0, result]);
                datagram.extend(epoch.to_be_bytes());
                datagram.extend(internal);
                datagram.extend(port.to_be_bytes());
                datagram.extend(lifetime.to_be_bytes());
            }
            _ => {
                datagram.extend([0, result]);
                datagram.extend(epoch.to_be_bytes());
                datagram.extend(lifetime.to_be_bytes());
            }
        }
        datagram.truncate(datagram.len() - input.below(8) / 7);
        self.mapper.handle_datagram(self.now, &datagram);
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut wakes = 0;
        while let Some(at) = self.mapper.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.mapper.handle_timeout(self.now);
            self.settle();
            wakes += 1;
            assert!(wakes < 2_000, "it spins");
        }
        self.now = until;
    }

    fn settle(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.mapper.poll_action() {
            match action {
                Action::Send(datagram) => self.asked = datagram,
                Action::Upnp(Upnp::Map { external_port, .. }) => {
                    assert_ne!(external_port, 0);
                    self.upnp += 1;
                }
                Action::Upnp(Upnp::Remove { .. }) => self.mapper.handle_upnp_removed(),
            }
            actions += 1;
            assert!(actions < 50, "it asks without end");
        }
        while let Some(event) = self.mapper.poll_event() {
            if let Event::Mapped(mapping) = event {
                assert_ne!(mapping.port, 0, "nobody can be reached at port 0");
            }
        }
    }
}

fn port_mapping_seeds() -> Vec<Vec<u8>> {
    // An answer: result, epoch, lifetime, port, not cut.
    let answer = [1, 0, 5, 76, 26, 225, 0];
    let refused = [1, 5, 5, 76, 26, 225, 0];
    let pcp = [&[0, 0][..], &answer, &[5, 5], &answer, &[5, 6]].concat();
    let nat_pmp = [&[0, 0][..], &[1, 3, 5, 76, 26, 225, 0], &answer, &answer, &[5, 4]].concat();
    let upnp = [&[1, 0][..], &refused, &[6], &[6], &[8, 0, 8, 1, 8, 3, 26, 225, 5, 6, 7, 3]].concat();
    vec![pcp, nat_pmp, upnp, vec![0, 1, 8, 3, 0, 9, 5, 6]]
}
