//! The parts that every byte or every message goes through: `cargo bench -p swarmbt-benches`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::ip_filter::{FilterReader, IpFilter, IpRange};
use swarm_core::metainfo::Metainfo;
use swarm_core::mse::{Cipher, PrivateKey};
use swarm_core::picker::{Picker, PickerPeer};
use swarm_core::rng::Rng;
use swarm_core::wire::{DecodeLimits, Message, decode};

fn metainfo(c: &mut Criterion) {
    let mut group = c.benchmark_group("metainfo");
    for (name, pieces, files) in [("2048 pieces, 1 file", 2_048, 1), ("20000 files", 2_048, 20_000)] {
        let bytes = swarm_benches::metainfo(pieces, files);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| Metainfo::parse(black_box(&bytes)).expect("valid")));
    }
}

fn encryption(c: &mut Criterion) {
    let mut group = c.benchmark_group("encryption");
    group.bench_function("a public key", |b| {
        b.iter(|| PrivateKey::new(black_box([0x5a; 20])).public());
    });
    let (mut cipher, payload) = (Cipher::new(b"a key of twenty byte"), vec![7; BLOCK_LEN as usize]);
    let mut sent = payload.clone();
    group.throughput(Throughput::Bytes(BLOCK_LEN.into()));
    group.bench_function("a block", |b| b.iter(|| cipher.apply_to(black_box(&payload), &mut sent)));
}

fn decoder(c: &mut Criterion) {
    let block = BlockRef { piece: PieceIndex(7), begin: 16_384, len: BLOCK_LEN };
    let mut bytes = Vec::new();
    for i in 0..1_000 {
        Message::Have(PieceIndex(i)).encode(&mut bytes);
        Message::Request(block).encode(&mut bytes);
    }
    let mut group = c.benchmark_group("decoder");
    group.throughput(Throughput::Elements(2_000));
    group.bench_function("HAVE and REQUEST", |b| {
        b.iter(|| {
            let (mut rest, limits) = (&bytes[..], DecodeLimits::for_pieces(1_000));
            while let Ok(Some((message, used))) = decode(rest, &limits) {
                black_box(message);
                rest = &rest[used..];
            }
        });
    });
}

fn picker(c: &mut Criterion) {
    let pieces = 2_048;
    let geometry = Geometry::new(u64::from(pieces) << 20, 1 << 20).expect("valid");
    let mut rng = Rng::new(1);
    let haves: Vec<Bitfield> = (0..50)
        .map(|_| {
            let mut have = Bitfield::empty(pieces);
            geometry.piece_indices().filter(|_| rng.one_in(2)).for_each(|piece| {
                have.insert(piece);
            });
            have
        })
        .collect();
    let fresh = || {
        let mut picker = Picker::new(geometry.clone(), Bitfield::empty(pieces));
        for have in &haves {
            picker.peer_joined(have);
        }
        picker
    };
    let mut group = c.benchmark_group("picker");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("1000 HAVEs", |b| {
        let mut picker = fresh();
        b.iter(|| (0..1_000).for_each(|i| picker.peer_got(black_box(PieceIndex(i)))));
    });
    group.throughput(Throughput::Elements(64 * 64));
    group.bench_function("64 pieces, started and received", |b| {
        b.iter_batched(
            fresh,
            |mut picker| {
                let (mut rng, mut picks) = (Rng::new(2), Vec::new());
                for _ in 0..64 {
                    let source =
                        PickerPeer { key: PeerKey(1), have: &haves[3], may_start: true, on_parole: false };
                    picker.pick(source, 64, &mut rng, &mut picks);
                    for block in picks.drain(..) {
                        picker.received(block, PeerKey(1), |_| {});
                    }
                }
                picker
            },
            criterion::BatchSize::LargeInput,
        );
    });
}

fn hashing(c: &mut Criterion) {
    let piece = vec![1; 1 << 20];
    let mut group = c.benchmark_group("sha1");
    group.throughput(Throughput::Bytes(piece.len() as u64));
    group.bench_function("1 MiB", |b| b.iter(|| swarm_engine::hash::sha1([black_box(&piece[..])])));
}

/// A million ranges of each family that do not touch, and what looking up one address among them takes.
fn ip_filter(c: &mut Criterion) {
    let mut rng = Rng::new(1);
    let mut group = c.benchmark_group("IP filter");
    let v4 = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n * 4_000));
    let v6 = |n: u32| IpAddr::from(Ipv6Addr::from_bits(0x2000 << 112 | u128::from(n) << 80));
    let of = |at: &dyn Fn(u32) -> IpAddr| {
        IpFilter::new((0..1_000_000).filter_map(|n| IpRange::new(at(n), at(n)).ok()))
    };
    for (name, filter, at) in [("IPv4", of(&v4), &v4 as &dyn Fn(u32) -> IpAddr), ("IPv6", of(&v6), &v6)] {
        let bytes = filter.memory();
        println!(
            "IP filter/{name}: {} ranges in {:.1} MiB",
            filter.ranges(),
            bytes as f64 / f64::from(1 << 20)
        );
        // Half of them blocked, in no order, so that each look-up begins in cold memory.
        let looked_up: Vec<IpAddr> = (0..65_536)
            .map(|_| match (at(rng.below(1_000_000) as u32), rng.one_in(2)) {
                (IpAddr::V4(ip), true) => Ipv4Addr::from_bits(ip.to_bits() + 1).into(),
                (IpAddr::V6(ip), true) => Ipv6Addr::from_bits(ip.to_bits() + 1).into(),
                (ip, _) => ip,
            })
            .collect();
        group.throughput(Throughput::Elements(looked_up.len() as u64));
        group.bench_function(format!("{name}, of 1000000 ranges"), |b| {
            b.iter(|| looked_up.iter().filter(|ip| filter.is_blocked(**ip)).count());
        });
    }
    let lines: Vec<String> = (0..100_000)
        .map(|n| {
            format!(
                "{:03}.{:03}.{:03}.000 - {0:03}.{1:03}.{2:03}.255 , 000 , somebody",
                n >> 16,
                n >> 8 & 255,
                n & 255
            )
        })
        .collect();
    group.throughput(Throughput::Elements(lines.len() as u64));
    group.bench_function("100000 lines of .dat", |b| {
        b.iter(|| {
            let mut reader = FilterReader::default();
            lines.iter().for_each(|line| reader.handle_line(black_box(line.as_bytes())));
            reader.finish()
        });
    });
}

criterion_group!(benches, metainfo, encryption, decoder, picker, hashing, ip_filter);
criterion_main!(benches);
