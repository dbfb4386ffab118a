//! The same inputs each time: seeds, what was once found, and mutations of both.

use crate::{Target, target};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use swarm_core::rng::Rng;

/// How long a mutated input gets, in bytes.
const LEN_MAX: usize = 4096;

/// Where inputs are that were once found, by the target's name.
fn found_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz").join(name)
}

/// What was once found by a target, in the order of the files' names.
fn found(name: &str) -> Vec<Vec<u8>> {
    let Ok(dir) = std::fs::read_dir(found_dir(name)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = dir.map(|entry| entry.expect("a file's name").path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).expect("a file that can be read")).collect()
}

/// Gives a target its inputs.
///
/// # Panics
/// If there is no such target, or one of the inputs shows an error: the input is printed then.
pub fn check(name: &str) {
    let target = target(name).expect("a target of this name");
    let mut corpus = (target.seeds)();
    corpus.extend(found(name));
    corpus.iter().for_each(|input| run(target, input));
    corpus.push(Vec::new());
    let mut rng = Rng::new(name.bytes().fold(7, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte)));
    let factor = std::env::var("SWARM_FUZZ_FACTOR").map_or(1, |factor| factor.parse().expect("a number"));
    for _ in 0..target.runs * factor {
        let mut input = corpus[rng.index(corpus.len())].clone();
        for _ in 0..1 + rng.below(6) {
            mutate(&mut rng, &mut input, &corpus);
        }
        input.truncate(LEN_MAX);
        run(target, &input);
    }
}

fn run(target: Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let (name, len, dir) = (target.name, input.len(), found_dir(target.name));
        eprintln!("{name} fails with this input of {len} bytes, to be kept in {}:", dir.display());
        eprintln!("printf '{}'", input.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
        resume_unwind(panic);
    }
}

/// Changes something.
fn mutate(rng: &mut Rng, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = rng.index(input.len() + 1);
    let longest = if rng.one_in(4) { 64 } else { 8 };
    let len = (1 + rng.index(longest)).min(input.len() - at);
    match rng.below(10) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..at + len)),
        2 => {
            let again: Vec<u8> = input[at..at + len].to_vec();
            input.splice(at..at, again);
        }
        3 => {
            let mut new = vec![0; 1 + rng.index(8)];
            rng.fill(&mut new);
            input.splice(at..at, new);
        }
        4 => {
            let other = &corpus[rng.index(corpus.len())];
            let from = rng.index(other.len() + 1);
            let to = from + rng.index(other.len() - from + 1);
            input.splice(at..at + len, other[from..to].iter().copied());
        }
        5 => number(rng, &mut input[at..]),
        6 => digits(rng, input, at),
        _ if len == 0 => input.push(rng.next_u64() as u8),
        7 => input[at] = rng.next_u64() as u8,
        8 => input[at] ^= 1 << rng.below(8),
        _ => rng.fill(&mut input[at..at + len]),
    }
}

/// A number of a power of two bytes becomes one that means something.
fn number(rng: &mut Rng, bytes: &mut [u8]) {
    let len = (1 << rng.below(4)).min(bytes.len());
    let near = rng.below(3);
    let value = match rng.below(3) {
        0 => near.wrapping_sub(1),
        1 => (1u64 << rng.below(64)).wrapping_add(near).wrapping_sub(1),
        _ => rng.next_u64() >> rng.below(64),
    };
    match rng.one_in(2) {
        true => bytes[..len].copy_from_slice(&value.to_le_bytes()[..len]),
        false => bytes[..len].copy_from_slice(&value.to_be_bytes()[8 - len..]),
    }
}

/// A decimal number from here on becomes another.
fn digits(rng: &mut Rng, input: &mut Vec<u8>, at: usize) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit) else { return };
    let start = at + start;
    let end =
        input[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |n| start + n);
    let old: u64 =
        std::str::from_utf8(&input[start..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let new = match rng.below(4) {
        0 => old.wrapping_add(1),
        1 => old.saturating_sub(1),
        2 => (1u64 << rng.below(64)).wrapping_sub(rng.below(2)),
        _ => rng.next_u64() >> rng.below(64),
    };
    input.splice(start..end, new.to_string().into_bytes());
}
