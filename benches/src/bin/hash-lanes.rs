//! How quickly one core hashes messages in memory with each kernel: a table for `hash.py`. `hash-lanes [MIB]`: how much is hashed each
//! time, 256 MiB unless told.

use std::time::Instant;
use swarm_engine::hash::lanes::{Algorithm, Choice, Kernel, Sha1Lanes, Sha256Lanes, hash_many};

/// A piece, and a leaf of BitTorrent v2.
const LENGTHS: [usize; 2] = [1 << 20, 16 << 10];
/// What is hashed lies in as many bytes, which no cache of a core holds.
const BYTES: usize = 16 << 20;

/// The best of five, in GB/s.
fn rate<A: Algorithm>(kernel: Kernel, bytes: &[u8], len: usize, repeat: usize) -> f64 {
    let messages: Vec<Vec<&[u8]>> = bytes.chunks(len).map(|message| vec![message]).collect();
    let choice = Choice::always(kernel);
    let best = (0..5).map(|_| {
        let begun = Instant::now();
        for _ in 0..repeat {
            std::hint::black_box(hash_many::<A>(choice, std::hint::black_box(&messages)));
        }
        (bytes.len() * repeat) as f64 / begun.elapsed().as_secs_f64() / 1e9
    });
    best.fold(0.0, f64::max)
}

fn main() {
    let mib = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(256);
    let bytes: Vec<u8> = (0..BYTES).map(|i| (i * 31) as u8).collect();
    let repeat = (mib << 20) / BYTES;
    println!("chosen: SHA-1 {}, SHA-256 {}", Sha1Lanes::choice().kernel, Sha256Lanes::choice().kernel);
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        for len in LENGTHS {
            let (sha1, sha256) = (
                rate::<Sha1Lanes>(kernel, &bytes, len, repeat),
                rate::<Sha256Lanes>(kernel, &bytes, len, repeat),
            );
            println!("{kernel}, {} KiB: SHA-1 {sha1:.2} GB/s, SHA-256 {sha256:.2} GB/s", len >> 10);
        }
    }
}
