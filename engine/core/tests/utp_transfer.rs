//! Transfers over uTP on a virtual line: that all arrives as it was sent, how fast, and how long a queue it makes.

mod utp_world;

use swarm_core::rng::Rng;
use swarm_core::time::Duration;
use swarm_core::utp::{CloseReason, Config, HEADER_LEN, Kind};
use utp_world::{Cubic, Host, MIB, Puppet, Quality, World, config};

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Has a world transfer more than it can, and returns the share of the line from the first seconds on, and the median queue.
fn share(world: &mut World, settle: Duration, measure: Duration) -> (f64, Duration) {
    world.run_for(settle);
    let from = world.now;
    world.run_for(measure);
    let (bytes, queue) = world.lines[0].seen_since(from);
    let line = world.lines[0].quality.rate as f64 * measure.as_secs_f64();
    (bytes as f64 / line, queue)
}

#[test]
fn alone_it_takes_the_line_and_makes_a_queue_of_its_target() {
    for (name, quality) in [
        ("100 Mbit/s, 40 ms", Quality::default()),
        ("20 Mbit/s, 100 ms", Quality { rate: 2_500_000, delay: ms(50), ..Quality::default() }),
        ("1 Mbit/s, 30 ms", Quality { rate: 125_000, delay: ms(15), ..Quality::default() }),
    ] {
        let mut world = World::new(1, quality);
        world.dial(1 << 32);
        let from = world.now;
        world.run_for(s(20));
        let (bytes, queue) = world.lines[0].seen_since(from);
        let share = bytes as f64 / (world.lines[0].quality.rate as f64 * 20.0);
        println!("{name}: {share:.3} of the line with its start, median queue {queue:?}");
        assert!(share >= 0.90, "{name}: {share}");
        assert!(queue <= ms(110), "{name}: {queue:?}");
    }
}

#[test]
fn half_a_percent_of_loss_costs_no_more_than_it_costs_cubic() {
    let quality = Quality { loss: 50, ..Quality::default() };
    let mut world = World::new(2, quality.clone());
    world.dial(1 << 32);
    let (ours, _) = share(&mut world, s(5), s(40));
    let mut world = World::new(2, quality);
    world.cubic = Some(Cubic::new(world.now));
    world.flush();
    world.run_for(s(5));
    let before = world.cubic.as_ref().expect("a flow").delivered;
    world.run_for(s(40));
    let cubic = (world.cubic.as_ref().expect("a flow").delivered - before) as f64 / (12_500_000.0 * 40.0);
    println!("0.5 % loss: {ours:.4} of the line, CUBIC {cubic:.4}");
    assert!(ours >= 0.8 * cubic, "{ours} beside {cubic}");
}

#[test]
fn beside_cubic_it_yields() {
    let mut world = World::new(3, Quality::default());
    world.dial(1 << 32);
    world.run_for(s(10));
    world.cubic = Some(Cubic::new(world.now));
    world.flush();
    let (ours, queue) = share(&mut world, s(10), s(30));
    let cubic = world.cubic.as_ref().expect("a flow").delivered as f64 / (12_500_000.0 * 40.0);
    println!("beside CUBIC: {ours:.3} of the line, CUBIC {cubic:.3}, queue {queue:?}");
    assert!(ours <= 0.10, "{ours}");
    assert!(cubic >= 0.75, "{cubic}");
    // And takes the line again when that is over.
    world.cubic = None;
    let (ours, _) = share(&mut world, s(20), s(10));
    println!("after it: {ours:.3}");
    assert!(ours >= 0.8, "{ours}");
}

#[test]
fn a_clock_that_jumps_or_drifts_changes_little() {
    let mut world = World::new(4, Quality::default());
    world.dial(1 << 32);
    world.run_for(s(5));
    for jump in [600_000_000u32, 600_000_000u32.wrapping_neg(), 3_000_000, 50_000u32.wrapping_neg(), 1 << 31]
    {
        world.clock_offset = world.clock_offset.wrapping_add(jump);
        let (share, queue) = share(&mut world, s(1), s(4));
        println!("after a jump of {jump}: {share:.3}, median queue {queue:?}");
        assert!(share >= 0.85, "after a jump of {jump}: {share}");
        assert!(queue <= ms(200), "after a jump of {jump}: {queue:?}");
    }
    for _ in 0..100 {
        // A hundred parts in a million.
        world.clock_offset = world.clock_offset.wrapping_sub(10);
        world.run_for(ms(100));
    }
    let (share, queue) = share(&mut world, s(1), s(4));
    assert!(share >= 0.85 && queue <= ms(130), "{share} {queue:?}");
}

#[test]
fn all_arrives_whatever_the_line_does() {
    for seed in 0..30 {
        let quality = Quality {
            delay: ms(1 + seed * 7 % 90),
            rate: [125_000, 1_250_000, 12_500_000][seed as usize % 3],
            buffer: ms(10 + seed * 13 % 300),
            loss: [0, 50, 300, 1000][seed as usize % 4],
            reordered: [0, 100, 2000][seed as usize % 3],
            duplicated: [0, 500][seed as usize % 2],
            mtu: [1500, 1492, 1400, 1280, 576][seed as usize % 5],
        };
        let mut world = World::new(seed, quality.clone());
        let bytes = [100, 50_000, MIB as u64][(seed as usize / 3) % 3];
        let connection = world.dial(bytes);
        let has_come =
            |world: &World| world.hosts[1].streams.values().any(|stream| stream.delivered == bytes);
        assert!(world.run_until(s(600), has_come), "seed {seed}: {quality:?}");
        // And as much back, over the same connection.
        let back = world.accepted_id();
        world.hosts[1].write(back, bytes);
        world.flush();
        let has_come = |world: &World| world.hosts[0].streams[&connection].delivered == bytes;
        assert!(world.run_until(s(600), has_come), "seed {seed}, back: {quality:?}");
        // Both close.
        world.hosts[0].socket.handle_close(world.now, connection);
        world.flush();
        assert!(world.run_until(s(200), |world| world.accepted().has_ended), "seed {seed}");
        world.hosts[1].socket.handle_close(world.now, back);
        world.flush();
        world.run_until(s(200), |world| world.hosts.iter().all(|host| host.socket.is_empty()));
        assert_eq!(world.hosts[0].streams[&connection].closed, Some(CloseReason::Done), "seed {seed}");
        assert_eq!(world.accepted().closed, Some(CloseReason::Done), "seed {seed}");
        assert!(world.hosts.iter().all(|host| host.socket.poll_timeout().is_none()), "no clocks are left");
    }
}

#[test]
fn nothing_is_longer_than_a_relay_can_pass_on_whole() {
    let mut world = World::new(5, Quality::default());
    let config = Config { datagram_len_max: 1430, ..config(100) };
    world.hosts[0] = Host::new("10.0.0.1:1000", config, Rng::new(9));
    let connection = world.dial(1 << 32);
    world.run_for(s(6));
    assert_eq!(world.hosts[0].socket.path(connection).expect("a path").datagram_len_max, 1430);
}

/// The sender's window grows by what is acknowledged, and a packet alone is what follows each gap that was filled.
#[test]
fn a_packet_alone_waits_a_millisecond_for_its_acknowledgement_and_two_wait_for_nothing() {
    let (mut puppet, _) = Puppet::dialled(20);
    puppet.data(&[0; 100]);
    assert_eq!(puppet.sent().len(), 0);
    let sent: Vec<_> =
        puppet.sent_within(ms(2)).iter().map(|seen| (seen.header.kind, seen.header.ack)).collect();
    assert_eq!(sent, [(Kind::State, puppet.seq - 1)]);
    puppet.data(&[0; 100]);
    puppet.data(&[0; 100]);
    let sent: Vec<_> = puppet.sent().iter().map(|seen| (seen.header.kind, seen.header.ack)).collect();
    assert_eq!(sent, [(Kind::State, puppet.seq - 1)]);
}

/// The window of the path, and that of the peer.
#[test]
fn mtu_probes_go_within_both_windows() {
    let (mut puppet, connection) = Puppet::dialled(18);
    let window = puppet.host.socket.path(connection).unwrap().window;
    puppet.host.write(connection, 100_000);
    let sent = puppet.sent();
    let longest = sent.iter().map(|seen| seen.datagram).max().unwrap();
    assert_eq!(longest, 1472, "the first packet probes");
    let bytes: usize = sent.iter().map(|seen| seen.datagram - HEADER_LEN).sum();
    assert!(bytes as u64 <= window, "{bytes} of {window}");

    for room in [400, 1000, 1500, 3000] {
        let (mut puppet, connection) = Puppet::dialled(19);
        puppet.window = room;
        puppet.state(&[]);
        puppet.host.write(connection, 100_000);
        let bytes: usize = puppet.sent().iter().map(|seen| seen.datagram - HEADER_LEN).sum();
        // What is padded takes no room over there once it has come, so the rest of the room is used.
        assert!(bytes <= room as usize + if room < 3000 { 0 } else { 1472 - 548 }, "{bytes} of {room}");
        assert!(bytes > 0);
    }
}

#[test]
fn the_path_mtu_is_found_before_much_is_sent_and_lost_probes_are_no_congestion() {
    for mtu in [1500, 1492, 1420, 1280, 600] {
        let mut world = World::new(5, Quality { mtu, ..Quality::default() });
        let connection = world.dial(1 << 32);
        world.run_for(s(6));
        let found = world.hosts[0].socket.path(connection).expect("a path").datagram_len_max;
        assert!(found <= mtu - 28 && found + 16 > mtu - 28, "{found} of {mtu}");
        let probes = world.lines[0].dropped;
        assert!(probes <= 14, "{probes} probes");
        let (share, _) = share(&mut world, s(0), s(4));
        assert!(share >= 0.85, "{share} with {mtu}");
    }
}

#[test]
fn two_of_them_share_a_line() {
    let mut world = World::new(6, Quality { rate: 2_500_000, ..Quality::default() });
    world.dial(1 << 32);
    world.dial(1 << 32);
    world.run_for(s(30));
    let delivered: Vec<u64> = world.hosts[1].streams.values().map(|stream| stream.delivered).collect();
    let together = delivered.iter().sum::<u64>() as f64 / (2_500_000.0 * 30.0);
    println!("two: {delivered:?}, {together:.3} of the line");
    assert!(together >= 0.85, "{together}");
    let (least, most) = (delivered.iter().min().expect("two"), delivered.iter().max().expect("two"));
    assert!(least * 4 >= *most, "{delivered:?}");
}
