//! The bytes of an encrypted stream.
//!
//! Received bytes are deciphered where they lie. Sent ones are enciphered in one pass from where they lie, which may be a map, into a
//! buffer. It belongs to a stream only while the system does not take what is in it.

use crate::hash::guard;
use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::rc::Rc;
use swarm_core::mse::{Cipher, Decipher, Established, Method};

/// How much is enciphered at a time at most, in bytes. It stays in the cache.
const BUFFER_LEN: usize = 64 * 1024;
/// The least, in bytes, however little the system is to take.
const ENCIPHERED_MIN: usize = 16 * 1024;
/// How many buffers without a connection are kept.
const BUFFERS_KEPT: usize = 4;
#[derive(Default)]
pub(super) struct Buffers(RefCell<Vec<Box<[u8]>>>);

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_LEN].into())
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < BUFFERS_KEPT {
            kept.push(buffer);
        }
    }
}

/// The ciphers of one stream, and bytes that are enciphered and not sent.
pub(super) struct Enciphered {
    outgoing: Option<Cipher>,
    incoming: Option<Decipher>,
    unsent: Option<Unsent>,
    buffers: Rc<Buffers>,
    pub(super) method: Method,
}

struct Unsent {
    buffer: Box<[u8]>,
    left: Range<usize>,
}

impl Enciphered {
    pub(super) fn new(established: Established, buffers: Rc<Buffers>) -> Enciphered {
        let Established { method, outgoing, incoming } = established;
        Enciphered { outgoing, incoming, unsent: None, buffers, method }
    }

    /// Whether bytes have to be transformed, now or later.
    pub(super) fn is_needed(&self) -> bool {
        self.outgoing.is_some() || self.incoming.is_some()
    }

    /// Deciphers the first `count` bytes that were read.
    pub(super) fn decipher(&mut self, read: &mut [IoSliceMut<'_>], mut count: usize) {
        let Some(incoming) = &mut self.incoming else { return };
        for slice in read {
            let len = slice.len().min(count);
            incoming.apply(&mut slice[..len]);
            count -= len;
        }
        if incoming.is_over() {
            self.incoming = None;
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// Takes bytes, at most about `limit`, if all that it has taken before is sent. `send` has the system take some.
    pub(super) fn write(
        &mut self,
        from: &[IoSlice<'_>],
        limit: usize,
        mut send: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.send_unsent(&mut send)?;
        let Some(cipher) = &mut self.outgoing else { return send(from) };
        let mut buffer = self.buffers.take();
        let room = limit.clamp(ENCIPHERED_MIN, BUFFER_LEN);
        let mut len = 0;
        for slice in from {
            let part = &slice[..slice.len().min(room - len)];
            let to = &mut buffer[len..len + part.len()];
            if guard::read_bytes(part, |bytes| cipher.apply_to(bytes, to)).is_err() {
                return Err(cut_short());
            }
            len += part.len();
        }
        self.unsent = Some(Unsent { buffer, left: 0..len });
        match self.send_unsent(send) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(len),
        }
    }

    /// Has the system take what is left; `WouldBlock` if it does not take all of it.
    pub(super) fn send_unsent(
        &mut self,
        mut send: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let Some(Unsent { buffer, left }) = &mut self.unsent else { return Ok(()) };
        while left.start < left.end {
            match send(&[IoSlice::new(&buffer[left.clone()])]) {
                Ok(count) => left.start += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.take().into_iter().for_each(|unsent| self.buffers.give_back(unsent.buffer));
        Ok(())
    }
}

/// What the system says when it writes from a map of a file that was cut short.
fn cut_short() -> io::Error {
    #[cfg(unix)]
    return io::Error::from_raw_os_error(libc::EFAULT);
    #[cfg(not(unix))]
    io::ErrorKind::UnexpectedEof.into()
}

/// Whether that is what the system has said, and not that the connection has failed.
pub(crate) fn is_cut_short(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(libc::EFAULT);
    #[cfg(windows)]
    return error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(10_014);
    #[cfg(not(any(unix, windows)))]
    return error.kind() == io::ErrorKind::UnexpectedEof;
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_core::id::InfoHash;
    use swarm_core::mse::{Action, Encryption, Handshake, KeyPair, PrivateKey};
    use swarm_core::rng::Rng;

    /// Both ends of a handshake that is over.
    fn ends() -> [Enciphered; 2] {
        let keys = KeyPair::new(PrivateKey::new([3; 20]));
        let torrent = InfoHash([1; 20]);
        let mut ends = [
            Handshake::initiator(keys, torrent, Encryption::Require.offered(), Vec::new(), Rng::new(1)),
            Handshake::acceptor(PrivateKey::new([9; 20]), Encryption::Require, Rng::new(2)),
        ];
        let mut arriving = [Vec::new(), Vec::new()];
        for _ in 0..2_000 {
            for (at, end) in ends.iter_mut().enumerate() {
                match end.poll_action() {
                    Some(Action::Send(bytes)) => arriving[1 - at].extend(bytes),
                    Some(Action::Agree(agreement)) => end.handle_agreed(agreement.work_out()),
                    Some(Action::FindTorrent(_)) => end.handle_torrent(Some(torrent)).unwrap(),
                    Some(Action::Finish) => {}
                    None => {
                        let count = end.wanted().min(arriving[at].len());
                        let bytes: Vec<u8> = arriving[at].drain(..count).collect();
                        end.handle_bytes(&bytes).unwrap();
                    }
                }
            }
        }
        let buffers = Rc::<Buffers>::default();
        ends.map(|end| Enciphered::new(end.established().expect("it is over"), Rc::clone(&buffers)))
    }

    fn would_block() -> io::Error {
        io::ErrorKind::WouldBlock.into()
    }

    #[test]
    fn bytes_are_taken_once_and_buffers_used_again() {
        let [mut from, mut to] = ends();
        let text: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let (mut taken, mut arrived, mut room) = (0, Vec::new(), 0);
        while arrived.len() < text.len() {
            // The system takes nothing, a little, or all.
            room = (room + 7_001) % 90_000;
            let mut left = room;
            let send = |bytes: &[IoSlice<'_>]| {
                let count = bytes.iter().map(|slice| slice.len()).sum::<usize>().min(left);
                left -= count;
                arrived.extend(bytes.iter().flat_map(|slice| slice.to_vec()).take(count));
                if count == 0 { Err(would_block()) } else { Ok(count) }
            };
            let rest = &text[taken..];
            match from.write(
                &[IoSlice::new(&rest[..rest.len() / 2]), IoSlice::new(&rest[rest.len() / 2..])],
                0,
                send,
            ) {
                Ok(count) => {
                    assert!(count <= ENCIPHERED_MIN, "as little as is to wait below");
                    taken += count;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(!from.has_unsent());
        assert_eq!(from.buffers.0.borrow().len(), 1, "one was made, and given back");
        let (one, other) = arrived.split_at_mut(1_000);
        to.decipher(&mut [IoSliceMut::new(one), IoSliceMut::new(other)], 299_999);
        to.decipher(&mut [IoSliceMut::new(&mut other[298_999..])], 1);
        assert!(arrived == text);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_cut_short_underneath_its_map_is_what_the_system_would_say() {
        const LEN: usize = 40_000;
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN as u64).unwrap();
        let map = memmap2::MmapOptions::new().len(LEN).map_raw_read_only(&file).unwrap();
        // SAFETY: the map lives as long, and is read under a guard only.
        let mapped = unsafe { std::slice::from_raw_parts(map.as_ptr(), LEN) };
        let [mut from, _] = ends();
        let send = |bytes: &[IoSlice<'_>]| Ok(bytes.iter().map(|slice| slice.len()).sum());
        let slices = [IoSlice::new(b"header"), IoSlice::new(&mapped[1_000..])];
        assert_eq!(from.write(&slices, usize::MAX, send).unwrap(), LEN - 1_000 + 6);
        file.set_len(5_000).unwrap();
        let error = from.write(&slices, usize::MAX, send).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    }
}
