//! From messages of any length, in parts, to blocks for the lanes.

use super::{Algorithm, Choice, Kernel, LANES_MAX};

/// A message on its way through a lane.
struct Lane<'a> {
    /// Which one.
    message: usize,
    /// What is left of the part that is being hashed, and the parts after it.
    part: &'a [u8],
    parts: &'a [&'a [u8]],
    /// What could not be hashed where it lies: a block that begins in one part and ends in another, and the padding at the end.
    gathered: [u8; 128],
    gathered_len: usize,
    /// Length of the whole message, in bytes.
    len: u64,
    /// Whether the padding is in `gathered`.
    is_last: bool,
}

impl<'a> Lane<'a> {
    fn new(message: usize, parts: &'a [&'a [u8]]) -> Lane<'a> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let mut lane =
            Lane { message, part: &[], parts, gathered: [0; 128], gathered_len: 0, len, is_last: false };
        lane.fill();
        lane
    }

    /// Sees to it that there are blocks to hash.
    fn fill(&mut self) {
        if self.gathered_len > 0 {
            return;
        }
        while self.part.len() < 64 {
            let take = self.part.len().min(64 - self.gathered_len);
            self.gathered[self.gathered_len..][..take].copy_from_slice(&self.part[..take]);
            self.gathered_len += take;
            self.part = &self.part[take..];
            if self.gathered_len == 64 {
                return;
            }
            match self.parts.split_first() {
                Some((&part, rest)) => (self.part, self.parts) = (part, rest),
                None => return self.pad(),
            }
            // A block that has begun is finished from the new part, however long that is.
            if self.gathered_len > 0 && self.part.len() >= 64 {
                let take = 64 - self.gathered_len;
                self.gathered[self.gathered_len..64].copy_from_slice(&self.part[..take]);
                self.gathered_len = 64;
                self.part = &self.part[take..];
                return;
            }
        }
    }

    /// FIPS 180-4, 5.1.1: a one, zeros, and the length in bits at the end of a block.
    fn pad(&mut self) {
        let end = if self.gathered_len < 56 { 64 } else { 128 };
        self.gathered[self.gathered_len..end].fill(0);
        self.gathered[self.gathered_len] = 0x80;
        self.gathered[end - 8..end].copy_from_slice(&(self.len * 8).to_be_bytes());
        self.gathered_len = end;
        self.is_last = true;
    }

    /// What can be hashed now: whole blocks, at least one unless the message is over.
    fn ready(&self) -> &[u8] {
        match self.gathered_len {
            0 => &self.part[..self.part.len() / 64 * 64],
            len => &self.gathered[..len],
        }
    }

    /// Goes past what has been hashed. Gives whether the message is over.
    fn advance(&mut self, blocks: usize) -> bool {
        if self.gathered_len == 0 {
            self.part = &self.part[64 * blocks..];
        } else if 64 * blocks < self.gathered_len {
            self.gathered.copy_within(64..128, 0);
            self.gathered_len -= 64 * blocks;
        } else {
            self.gathered_len = 0;
            if self.is_last {
                return true;
            }
        }
        self.fill();
        false
    }
}

/// The digest of each message, which comes in parts. `choice` is [`Algorithm::choice`], or what is to be tried.
pub fn hash_many<A: Algorithm>(choice: Choice, messages: &[Vec<&[u8]>]) -> Vec<A::Digest> {
    let mut digests = vec![A::Digest::default(); messages.len()];
    let mut waiting = messages.iter().enumerate().map(|(n, parts)| Lane::new(n, parts));
    let mut lanes: Vec<Lane<'_>> = waiting.by_ref().take(choice.kernel.lanes()).collect();
    let mut states = vec![A::INIT; lanes.len()];
    while !lanes.is_empty() {
        let is_wide = lanes.len() >= choice.messages_min;
        let kernel = if is_wide { choice.kernel } else { Kernel::Single };
        let used = if is_wide { lanes.len() } else { 1 };
        let ready: [&[u8]; LANES_MAX] =
            std::array::from_fn(|n| lanes[..used].get(n).map_or(&[][..], Lane::ready));
        let count = ready[..used].iter().map(|bytes| bytes.len() / 64).min().unwrap_or(0);
        A::compress_many(kernel, &mut states[..used], &ready[..used], count);
        for n in (0..used).rev() {
            if !lanes[n].advance(count) {
                continue;
            }
            let digest = digests[lanes[n].message].as_mut();
            for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(states[n].as_ref()) {
                *bytes = word.to_be_bytes();
            }
            match waiting.next() {
                Some(lane) => (lanes[n], states[n]) = (lane, A::INIT),
                None => {
                    lanes.swap_remove(n);
                    states.swap_remove(n);
                }
            }
        }
    }
    digests
}
