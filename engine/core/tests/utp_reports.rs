//! What was reported of other implementations of uTP, tried on ours. Each test names the report.

mod utp_world;

use swarm_core::time::Duration;
use swarm_core::utp::{CloseReason, Header, Kind};
use utp_world::{MIB, Puppet, Quality, World};

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn data(sent: &[utp_world::Seen]) -> Vec<u16> {
    sent.iter().filter(|seen| seen.header.kind == Kind::Data).map(|seen| seen.header.seq).collect()
}

// bittorrent/libutp#87: a peer that sends us much and acknowledges with its data what it did before has lost nothing.
#[test]
fn data_that_acknowledges_nothing_new_is_no_duplicate_ack() {
    let (mut puppet, connection) = Puppet::dialled(1);
    puppet.host.write(connection, 100);
    assert_eq!(data(&puppet.sent()).len(), 1);
    for _ in 0..10 {
        puppet.data(&[]);
        assert_eq!(data(&puppet.sent()), []);
    }
    // Three STATEs that say nothing else do mean it, once.
    for n in 1..=6 {
        puppet.state(&[]);
        assert_eq!(data(&puppet.sent()).len(), usize::from(n == 3), "after {n}");
    }
}

// anacrolix/old-go-utp#23: a selective ACK without bits made the other side send everything again.
#[test]
fn a_selective_ack_without_bits_loses_nothing() {
    let (mut puppet, connection) = Puppet::dialled(2);
    puppet.host.write(connection, 5000);
    let sent = data(&puppet.sent());
    puppet.ack = sent[0];
    for _ in 0..2 {
        let mut datagram = Vec::new();
        puppet.header(Kind::State).encode(&[], 0, &mut datagram);
        datagram[1] = 1;
        datagram.extend_from_slice(&[0, 0]);
        let (now, addr) = (puppet.now, puppet.addr);
        puppet.host.handle_datagram(now, addr, &datagram);
        let again = data(&puppet.sent());
        assert!(again.iter().all(|seq| !sent.contains(seq)), "{again:?}");
    }
}

// ethereum/trin#635, status-im: a STATE has the number of the next packet with payload, and does not use it up.
#[test]
fn a_state_has_the_next_number() {
    let (mut puppet, connection) = Puppet::dialled(3);
    puppet.data(&[0; 10]);
    puppet.data(&[1; 0]);
    let state = puppet.sent().remove(0).header;
    puppet.host.write(connection, 10);
    let next = puppet.sent().remove(0).header;
    assert_eq!((state.kind, next.kind, state.seq), (Kind::State, Kind::Data, next.seq));
}

// status-im/nim-eth#462: the acknowledgement is lost, the packet comes again, and has to be acknowledged again.
#[test]
fn an_old_packet_is_acknowledged_again() {
    let (mut puppet, _) = Puppet::dialled(4);
    puppet.data(&[0]);
    assert_eq!(puppet.sent_within(s(1)).len(), 1);
    puppet.seq = puppet.seq.wrapping_sub(1);
    puppet.data(&[0]);
    let again = puppet.sent();
    assert_eq!((again.len(), again[0].header.ack), (1, puppet.seq.wrapping_sub(1)));
}

// ethereum/utp#60, #44: more packets than there are numbers.
#[test]
fn numbers_wrap_in_a_long_stream() {
    let bytes = 80_000 * 1452;
    let mut world = World::new(5, Quality { rate: 125_000_000, delay: ms(2), loss: 2, ..Quality::default() });
    world.dial(bytes);
    let has_come = |world: &World| world.hosts[1].streams.values().any(|stream| stream.delivered == bytes);
    assert!(world.run_until(s(100), has_come));
}

// Tribler/tribler#2620, arvidn/libtorrent#2815: hundreds of packets in a row are lost, more than a short selective ACK spans.
#[test]
fn a_long_gap_is_filled_without_a_time_out() {
    let mut world = World::new(6, Quality::default());
    world.dial(1 << 32);
    world.run_for(s(5));
    world.lines[0].is_cut = true;
    world.run_for(ms(40));
    world.lines[0].is_cut = false;
    assert!(world.lines[0].dropped > 250, "{}", world.lines[0].dropped);
    let before = world.accepted().delivered;
    world.run_for(s(1));
    let delivered = world.accepted().delivered - before;
    assert!(delivered > 12_500_000 / 4, "{delivered} bytes in the second after");
}

// freenet/freenet-core#2459: after an outage, waiting stayed long.
#[test]
fn after_an_outage_it_is_soon_as_fast_as_before() {
    let mut world = World::new(7, Quality { rate: 1_250_000, ..Quality::default() });
    let connection = world.dial(1 << 32);
    world.run_for(s(5));
    world.lines.iter_mut().for_each(|line| line.is_cut = true);
    world.run_for(s(12));
    world.lines.iter_mut().for_each(|line| line.is_cut = false);
    let from = world.accepted().delivered;
    assert!(world.run_until(s(16), |world| world.accepted().delivered > from), "the next try is near");
    world.run_for(s(2));
    let from = world.now;
    world.run_for(s(5));
    let (bytes, _) = world.lines[0].seen_since(from);
    assert!(bytes > 5 * 1_250_000 * 8 / 10, "{bytes}");
    assert_eq!(world.hosts[0].streams[&connection].closed, None);
}

// arvidn/libtorrent#7107, #7119: what the system did not take was counted as sent, and then as lost.
#[test]
fn what_was_never_taken_was_never_lost() {
    let (mut puppet, connection) = Puppet::dialled(8);
    let window = puppet.host.socket.path(connection).unwrap().window;
    puppet.host.write(connection, 1_000_000);
    // For long the system takes nothing.
    let until = puppet.now + s(20);
    while let Some(at) = puppet.host.socket.poll_timeout().filter(|at| *at < until) {
        puppet.host.handle_timeout(at);
    }
    puppet.now = until;
    assert_eq!(puppet.host.socket.path(connection).unwrap().window, window);
    let sent = data(&puppet.sent());
    assert!(sent.len() >= 8 && sent.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
}

// arvidn/libtorrent#5836, #509: datagrams longer than the path takes, again and again.
#[test]
fn only_probes_are_longer_than_the_path() {
    let mut world = World::new(9, Quality { mtu: 1400, ..Quality::default() });
    world.dial(10 * MIB as u64);
    let has_come = |world: &World| world.hosts[1].streams.values().any(|s| s.delivered == 10 * MIB as u64);
    assert!(world.run_until(s(20), has_come));
    assert!(world.lines[0].dropped <= 12, "{} were too long", world.lines[0].dropped);
}

// What is on its way when a path becomes narrower cannot be sent again in shorter packets: it goes in pieces, and nothing else does.
#[test]
fn a_path_that_becomes_narrower_ends_no_connection() {
    let mut world = World::new(17, Quality { rate: 1_000_000, ..Quality::default() });
    let connection = world.dial(4 * MIB as u64);
    let is_half = |world: &World| world.hosts[1].streams.values().any(|s| s.delivered >= 2 * MIB as u64);
    assert!(world.run_until(s(20), is_half));
    let in_flight = world.hosts[0].socket.path(connection).unwrap().window;
    world.lines.iter_mut().for_each(|line| line.quality.mtu = 1300);
    world.hosts[0].fragments = 0;
    let has_come = |world: &World| world.accepted().delivered == 4 * MIB as u64;
    assert!(world.run_until(s(30), has_come), "{} bytes have come", world.accepted().delivered);
    assert_eq!(world.hosts[0].streams[&connection].closed, None);
    let fragments = world.hosts[0].fragments;
    assert!(fragments > 0 && fragments * 1000 <= 2 * in_flight, "{fragments} with {in_flight} in flight");
}

// bittorrent/libutp#79: a path that takes no probe stalled whoever wrote little.
#[test]
fn small_messages_are_not_held_up_by_probes() {
    let mut world = World::new(10, Quality { mtu: 576, ..Quality::default() });
    let connection = world.dial(20);
    assert!(world.run_until(s(5), |world| !world.hosts[1].streams.is_empty()));
    for n in 2..40u64 {
        world.hosts[0].write(connection, 20);
        world.flush();
        let has_come = |world: &World| world.accepted().delivered == n * 20;
        assert!(world.run_until(ms(200), has_come), "message {n}");
        world.run_for(s(1));
    }
}

// arvidn/libtorrent#7232: the end of one direction is not that of the other.
#[test]
fn after_the_peers_fin_we_still_send() {
    let (mut puppet, connection) = Puppet::dialled(11);
    puppet.send(puppet.header(Kind::Fin), &[], &[]);
    assert!(puppet.host.streams[&connection].has_ended);
    puppet.host.write(connection, 10);
    let sent = puppet.sent();
    // status-im/nimbus-eth1#1778: and the FIN is acknowledged.
    assert!(sent.iter().all(|seen| seen.header.kind != Kind::Fin && seen.header.ack == puppet.seq));
    assert_eq!(data(&sent).len(), 1);
    puppet.host.socket.handle_close(puppet.now, connection);
    let fin = puppet.sent().remove(0).header;
    assert_eq!(fin.kind, Kind::Fin);
    puppet.ack = fin.seq;
    puppet.state(&[]);
    // A FIN that comes again is acknowledged again, and then it is over.
    puppet.send(puppet.header(Kind::Fin), &[], &[]);
    assert_eq!(puppet.sent().len(), 1);
    assert!(puppet.sent_within(s(5)).is_empty());
    assert_eq!(puppet.host.streams[&connection].closed, Some(CloseReason::Done));
}

// arvidn/libtorrent#7153: after our own FIN what comes is still acknowledged, and a FIN that is lost comes again.
#[test]
fn after_our_fin_we_still_acknowledge() {
    let (mut puppet, connection) = Puppet::dialled(12);
    puppet.host.socket.handle_close(puppet.now, connection);
    let fin = puppet.sent().remove(0).header;
    puppet.data(&[0; 100]);
    puppet.data(&[0; 100]);
    let sent = puppet.sent();
    assert_eq!((sent[0].header.kind, sent[0].header.ack), (Kind::State, puppet.seq.wrapping_sub(1)));
    let again = puppet.sent_within(s(2));
    assert!(again.iter().any(|seen| seen.header.kind == Kind::Fin && seen.header.seq == fin.seq));
}

// ethereum/utp#114: what is over sends nothing more.
#[test]
fn a_reset_connection_sends_nothing() {
    let (mut puppet, connection) = Puppet::dialled(13);
    puppet.host.write(connection, 5000);
    puppet.ack = puppet.sent().last().unwrap().header.seq;
    puppet.send(puppet.header(Kind::Reset), &[], &[]);
    assert_eq!(puppet.host.streams[&connection].closed, Some(CloseReason::Reset));
    assert!(puppet.sent_within(s(100)).is_empty());
}

// µTorrent says INT_MAX while it has measured nothing (a comment in libtorrent), others 0: neither is a delay.
#[test]
fn a_delay_that_is_none_is_not_taken_for_one() {
    for unknown in [0, i32::MAX as u32] {
        let (mut puppet, connection) = Puppet::dialled(14);
        for _ in 0..20 {
            puppet.host.write(connection, 100);
            puppet.ack = puppet.sent().last().unwrap().header.seq;
            puppet.wait(30);
            let header = Header { timestamp_difference: unknown, ..puppet.header(Kind::State) };
            puppet.send(header, &[], &[]);
        }
        assert_eq!(puppet.host.socket.path(connection).unwrap().queue_delay, None);
    }
}

// ethereum/trin#481: duplicates and a SYN that comes again change nothing.
#[test]
fn a_syn_that_comes_again_changes_nothing() {
    let mut world = World::new(15, Quality { duplicated: 10_000, reordered: 3000, ..Quality::default() });
    world.dial(MIB as u64);
    let has_come = |world: &World| world.hosts[1].streams.values().any(|s| s.delivered == MIB as u64);
    assert!(world.run_until(s(60), has_come));
    assert_eq!(world.hosts[1].streams.len(), 1);
}
