//! What strangers and hostile peers can do to a socket of uTP: nothing that lasts.

mod utp_world;

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_core::ip_filter::{IpFilter, IpRange};
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};
use swarm_core::utp::{
    ANSWERS_MAX, CAPACITY_INITIAL, CloseReason, FIN_WAIT, HEADER_LEN, Header, Kind, LINGER_MAX, Packet,
    RESETS_PER_S, SILENCE_MAX, SYNS_MAX, Socket,
};
use utp_world::{MIB, Puppet, Quality, World, config};

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Has a puppet send a SYN; returns the header of the answer.
fn syn(puppet: &mut Puppet, id: u16, seq: u16) -> Header {
    (puppet.send_id, puppet.seq) = (id, seq);
    puppet.send(puppet.header(Kind::Syn), &[], &[]);
    let sent = puppet.sent();
    assert_eq!((sent.len(), sent[0].datagram, sent[0].header.kind), (1, HEADER_LEN, Kind::State));
    assert_eq!((sent[0].header.connection_id, sent[0].header.ack), (id, seq));
    sent[0].header
}

#[test]
fn a_syn_gets_twenty_bytes_and_leaves_nothing() {
    let mut puppet = Puppet::stranger(1);
    for n in 0..2000u16 {
        puppet.addr.set_port(n + 1);
        syn(&mut puppet, n, n);
    }
    assert!(puppet.host.socket.is_empty());
    assert_eq!(puppet.host.socket.poll_timeout(), None);
    // And if nothing can be sent, no more of them wait than this.
    for n in 0..5000u16 {
        puppet.send(Header { connection_id: n, ..puppet.header(Kind::Syn) }, &[], &[]);
    }
    assert_eq!(puppet.sent().len(), ANSWERS_MAX);
}

#[test]
fn state_begins_with_the_first_data_that_proves_the_answer_was_received() {
    // Acknowledging the number before the answer's, as everybody does, or the answer's own, as BEP 29 says.
    for behind in [1u16, 0] {
        let mut puppet = Puppet::stranger(2);
        let answer = syn(&mut puppet, 40, 7);
        (puppet.send_id, puppet.seq) = (41, 8);
        for ack in [answer.seq.wrapping_add(1), answer.seq.wrapping_add(30_000), 0] {
            let forged = Header { ack, ..puppet.header(Kind::Data) };
            puppet.send(forged, &[], b"x");
            assert!(puppet.host.socket.is_empty(), "{ack} is not {}", answer.seq);
        }
        puppet.sent();
        puppet.ack = answer.seq.wrapping_sub(behind);
        // Another address has not received it.
        let port = puppet.addr.port();
        puppet.addr.set_port(port + 1);
        puppet.send(puppet.header(Kind::Data), &[], b"x");
        assert!(puppet.host.socket.is_empty());
        puppet.addr.set_port(port);
        puppet.sent();
        // Nor does anything but data open a connection.
        for kind in [Kind::State, Kind::Fin] {
            puppet.send(puppet.header(kind), &[], &[]);
            assert!(puppet.host.socket.is_empty());
        }
        puppet.sent();
        puppet.data(&[0]);
        assert_eq!(puppet.host.socket.len(), 1);
        let connection = *puppet.host.streams.keys().next().unwrap();
        assert_eq!(puppet.host.streams[&connection].delivered, 1);
        // Our numbers go on from what it has acknowledged.
        puppet.host.write(connection, 10);
        let sent = puppet.sent();
        assert_eq!((sent[0].header.seq, sent[0].header.ack), (puppet.ack.wrapping_add(1), 8));
    }
}

/// No answer to a SYN, no RESET, and no state, even by what was a valid answer before.
#[test]
fn strangers_at_blocked_addresses_get_no_answer_and_leave_nothing() {
    let mut puppet = Puppet::stranger(20);
    let answer = syn(&mut puppet, 40, 7);
    let ip = puppet.addr.ip();
    let filter = IpFilter::new([IpRange::new(ip, ip).unwrap()]);
    puppet.host.socket.set_ip_filter(Arc::new(filter));
    for n in 0..100 {
        puppet.send(Header { connection_id: n, ..puppet.header(Kind::Syn) }, &[], &[]);
    }
    (puppet.send_id, puppet.seq, puppet.ack) = (41, 8, answer.seq.wrapping_sub(1));
    for kind in [Kind::Data, Kind::State, Kind::Fin, Kind::Reset] {
        puppet.send(puppet.header(kind), &[], b"x");
    }
    assert!(puppet.sent().is_empty() && puppet.host.socket.is_empty());
    assert_eq!((puppet.host.socket.take_blocked(), puppet.host.socket.take_blocked()), (100, 0));
    puppet.host.socket.set_ip_filter(Arc::default());
    puppet.send(puppet.header(Kind::Data), &[], &[0]);
    assert_eq!(puppet.host.socket.len(), 1);
}

#[test]
fn a_first_packet_that_is_overtaken_is_waited_for() {
    let mut puppet = Puppet::stranger(3);
    let answer = syn(&mut puppet, 40, 7);
    (puppet.send_id, puppet.ack) = (41, answer.seq.wrapping_sub(1));
    for seq in [9, 10, 11] {
        puppet.seq = seq;
        puppet.send(puppet.header(Kind::Data), &[], &[0]);
    }
    assert!(puppet.host.socket.is_empty() && puppet.sent().is_empty(), "neither state nor a RESET");
    puppet.seq = 8;
    puppet.data(&[0]);
    assert_eq!(puppet.host.socket.len(), 1);
}

#[test]
fn resets_are_limited_in_rate() {
    let mut puppet = Puppet::stranger(4);
    let mut resets = 0;
    for n in 0..10_000u16 {
        puppet.send_id = n;
        puppet.addr.set_port(1 + n % 500);
        puppet.send(puppet.header(Kind::State), &[], &[]);
        resets += puppet.sent().iter().filter(|seen| seen.header.kind == Kind::Reset).count();
        // Ten seconds in all.
        puppet.wait(1);
    }
    assert!((RESETS_PER_S..=11 * RESETS_PER_S).contains(&(resets as u64)), "{resets}");
    // A RESET gets none.
    puppet.wait(2000);
    puppet.send(puppet.header(Kind::Reset), &[], &[]);
    assert!(puppet.sent().is_empty());
}

#[test]
fn each_peer_is_told_when_its_connection_is_aborted() {
    const COUNT: u16 = 2 * RESETS_PER_S as u16;
    let now = Time::from_micros(1_000_000);
    let mut socket = Socket::new(config(COUNT.into()), Rng::new(21));
    let peer = |n: u16| SocketAddr::from(([10, 0, 0, 9], 1 + n));
    let connections: Vec<_> = (0..COUNT).map(|n| socket.handle_connect(now, peer(n)).unwrap()).collect();
    connections.into_iter().for_each(|connection| socket.handle_abort(now, connection));
    let mut told = BTreeSet::new();
    let mut out = Vec::new();
    while let Some(transmit) = socket.poll_transmit(now, &mut out) {
        assert_eq!(Packet::parse(&out).unwrap().header.kind, Kind::Reset);
        told.insert(transmit.to);
        out.clear();
    }
    assert_eq!(told, (0..COUNT).map(peer).collect());
}

#[test]
fn a_reset_ends_a_connection_only_if_it_names_a_packet_of_ours() {
    let (mut puppet, connection) = Puppet::dialled(5);
    puppet.host.write(connection, 100);
    let seq = puppet.sent()[0].header.seq;
    for ack in [seq.wrapping_add(5), seq.wrapping_sub(20_000)] {
        puppet.send(Header { ack, ..puppet.header(Kind::Reset) }, &[], &[]);
        assert_eq!(puppet.host.streams[&connection].closed, None);
    }
    // Marked with either number.
    let send_id = puppet.send_id.wrapping_add(1);
    puppet.send(Header { connection_id: send_id, ack: seq, ..puppet.header(Kind::Reset) }, &[], &[]);
    assert_eq!(puppet.host.streams[&connection].closed, Some(CloseReason::Reset));
    assert!(puppet.host.socket.is_empty());
}

#[test]
fn what_was_never_sent_is_not_acknowledged() {
    let (mut puppet, connection) = Puppet::dialled(6);
    puppet.host.write(connection, 4000);
    let sent = puppet.sent();
    let last = sent.last().unwrap().header.seq;
    for ahead in [1, 2, 100, 20_000] {
        let ack = last.wrapping_add(ahead);
        puppet.send(Header { ack, ..puppet.header(Kind::State) }, &[0xff; 252], &[]);
    }
    puppet.state(&[0xff; 252]);
    let stream = &puppet.host.streams[&connection];
    assert_eq!((stream.acked, stream.closed), (0, None));
    puppet.ack = last;
    puppet.state(&[]);
    assert!(puppet.host.streams[&connection].acked > 0);
}

#[test]
fn a_window_without_room_is_tried_now_and_then() {
    let (mut puppet, connection) = Puppet::dialled(7);
    puppet.window = 0;
    puppet.state(&[]);
    puppet.host.write(connection, 100_000);
    let mut tries = 0;
    // The peer says that it is there, and takes nothing.
    for _ in 0..120 {
        tries += puppet.sent_within(s(1)).iter().filter(|seen| seen.header.kind == Kind::Data).count();
        puppet.state(&[]);
    }
    assert!((4..=25).contains(&tries), "{tries} in two minutes");
    assert_eq!(puppet.host.streams[&connection].closed, None, "that is the owner's to decide");
    puppet.window = 1 << 20;
    puppet.state(&[]);
    assert!(!puppet.sent_within(s(31)).is_empty());
}

#[test]
fn a_window_smaller_than_a_packet_is_kept_to() {
    let (mut puppet, connection) = Puppet::dialled(8);
    puppet.window = 100;
    puppet.state(&[]);
    puppet.host.write(connection, 1000);
    for _ in 0..10 {
        let sent = puppet.sent();
        assert_eq!(sent.iter().map(|seen| seen.payload).collect::<Vec<_>>(), [100]);
        puppet.ack = sent[0].header.seq;
        puppet.wait(20);
        puppet.state(&[]);
    }
    assert_eq!(puppet.host.streams[&connection].acked, 1000);
}

#[test]
fn whoever_reads_nothing_is_told_so_and_takes_no_more_memory() {
    let mut world = World::new(9, Quality::default());
    world.hosts[1].reads = false;
    let connection = world.dial(64 * MIB as u64);
    world.run_for(s(20));
    let unread = world.accepted().unread;
    assert!((CAPACITY_INITIAL - 2000..=CAPACITY_INITIAL + 1500).contains(&unread), "{unread}");
    // And goes on at once when there is room again.
    let accepted = world.accepted_id();
    world.hosts[1].reads = true;
    world.hosts[1].read(accepted);
    world.flush();
    let is_on = |world: &World| world.accepted().delivered > unread as u64 + 100_000;
    assert!(world.run_until(Duration::from_millis(300), is_on));
    assert_eq!(world.hosts[0].streams[&connection].closed, None);
}

#[test]
fn who_never_closes_is_not_waited_for() {
    // It takes everything, and sends on without end.
    let (mut puppet, connection) = Puppet::dialled(10);
    puppet.host.socket.handle_close(puppet.now, connection);
    puppet.ack = puppet.sent().last().unwrap().header.seq;
    puppet.state(&[]);
    let closed_at = puppet.now;
    while puppet.host.streams[&connection].closed.is_none() {
        puppet.data(&[0; 1000]);
        puppet.sent_within(Duration::from_millis(100));
        assert!(puppet.now.since(closed_at) <= FIN_WAIT + s(1));
    }
    assert_eq!(puppet.host.streams[&connection].delivered, 0, "nobody reads it");
    // It acknowledges nothing, but is there.
    let (mut puppet, connection) = Puppet::dialled(11);
    puppet.host.write(connection, 100_000);
    puppet.host.socket.handle_close(puppet.now, connection);
    let closed_at = puppet.now;
    while puppet.host.streams[&connection].closed.is_none() {
        puppet.state(&[]);
        puppet.sent_within(s(1));
        assert!(puppet.now.since(closed_at) <= LINGER_MAX + s(1));
    }
    assert!(puppet.host.socket.is_empty());
}

#[test]
fn who_says_nothing_is_gone() {
    let mut puppet = Puppet::stranger(12);
    let connection = puppet.host.socket.handle_connect(puppet.now, puppet.addr).unwrap();
    puppet.host.streams.insert(connection, utp_world::Stream::default());
    assert_eq!(puppet.sent_within(s(60)).len(), SYNS_MAX as usize);
    assert_eq!(puppet.host.streams[&connection].closed, Some(CloseReason::TimedOut));

    let (mut puppet, connection) = Puppet::dialled(13);
    let sent = puppet.sent_within(SILENCE_MAX);
    assert!(sent.len() >= 4, "for the mappings of NATs");
    assert_eq!(puppet.host.streams[&connection].closed, Some(CloseReason::TimedOut));

    let (mut puppet, connection) = Puppet::dialled(14);
    puppet.host.write(connection, 10);
    let sent = puppet.sent_within(s(100));
    assert!(sent.len() <= 12, "{}", sent.len());
    assert_eq!(puppet.host.streams[&connection].closed, Some(CloseReason::TimedOut));
}

#[test]
fn connections_are_limited_in_number() {
    let mut puppet = Puppet::stranger(15);
    for n in 0..30u16 {
        puppet.addr.set_port(1 + n);
        (puppet.send_id, puppet.seq) = (40, 7);
        puppet.send(puppet.header(Kind::Syn), &[], &[]);
        let Some(answer) = puppet.sent().first().map(|seen| seen.header) else { continue };
        (puppet.send_id, puppet.seq, puppet.ack) = (41, 8, answer.seq.wrapping_sub(1));
        puppet.data(&[0]);
        puppet.sent();
    }
    assert_eq!(puppet.host.socket.len(), 10);
    assert!(puppet.host.socket.handle_connect(puppet.now, puppet.addr).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the packets of a peer say, nothing breaks, little is kept, and what goes out is bounded.
    #[test]
    fn any_packets_are_taken_without_harm(
        packets in proptest::collection::vec(
            (0u8..5, any::<[u16; 2]>(), 0u16..6, 0u16..6, any::<u32>(), 0usize..70, 0usize..1500, 0u64..700),
            1..200,
        ),
        closes_after in 0usize..200,
    ) {
        let (mut puppet, connection) = Puppet::dialled(16);
        let mut sent = 0;
        for (n, (kind, wild, seq, ack, window, sack, len, wait)) in packets.into_iter().enumerate() {
            let kind = [Kind::Data, Kind::Fin, Kind::State, Kind::Reset, Kind::Syn][usize::from(kind)];
            let kind = if kind == Kind::Reset && wild[0] % 8 != 0 { Kind::Data } else { kind };
            let header = Header {
                seq: if wild[0] % 5 == 0 { wild[1] } else { puppet.seq.wrapping_add(seq) },
                ack: if wild[0] % 7 == 0 { wild[1] } else { puppet.ack.wrapping_add(ack) },
                window: if wild[0] % 3 == 0 { window % 5000 } else { window },
                timestamp: window.rotate_left(7),
                timestamp_difference: window.rotate_left(13),
                ..puppet.header(kind)
            };
            let bits: Vec<u8> = (0..sack * 4 % 253).map(|at| (window >> (at % 24)) as u8).collect();
            let bits = &bits[..bits.len() / 4 * 4];
            // Bytes are compared with what a peer would write; here they are nobody's.
            let mut datagram = Vec::new();
            header.encode(bits, 0, &mut datagram);
            datagram.resize(datagram.len() + len, 0);
            let received = puppet.host.socket.handle_datagram(puppet.now, puppet.addr, &datagram);
            puppet.host.events();
            if let Some(received) = received {
                puppet.host.socket.handle_read(received.connection, received.payload.len());
            }
            puppet.host.write(connection, u64::from(wild[1] % 3000));
            if n == closes_after {
                puppet.host.socket.handle_close(puppet.now, connection);
            }
            sent += puppet.sent_within(Duration::from_millis(wait)).len();
        }
        prop_assert!(sent < 20_000);
        puppet.sent_within(SILENCE_MAX * 2);
        prop_assert!(puppet.host.socket.is_empty());
        prop_assert_eq!(puppet.host.socket.poll_timeout(), None);
    }
}
