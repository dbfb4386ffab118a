//! Encrypted connections (MSE): what all of a session share, and the bytes of one.
//!
//! The handshake is the core's ([`swarm_core::mse`]). Its Diffie-Hellman exchange is worked out on a worker: about 0.1 ms. For strangers
//! that is done one at a time, and at most every [`PACE`], so that whoever dials us without end costs a small part of one core. Those who
//! wait are among the connections without a handshake, whose number is limited as ever.
//!
//! Received bytes are deciphered where they lie. Sent ones are enciphered in one pass from where they lie, which may be a map, into a
//! buffer. It belongs to a connection only while the system does not take what is in it.

use super::transport::Stream;
use crate::hash::guard;
use crate::hash::{Lane, Workers};
use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::id::InfoHash;
use swarm_core::mse::{
    Action, Agreed, Agreement, Cipher, Decipher, Encryption, Established, Handshake, KeyPair, ObfuscatedHash,
    PrivateKey,
};
use swarm_core::rng::Rng;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_local;

/// How much is enciphered at a time at most, in bytes. It stays in the cache.
const BUFFER_LEN: usize = 64 * 1024;
/// The least, in bytes, however little the system is to take.
const ENCIPHERED_MIN: usize = 16 * 1024;
/// How many buffers without a connection are kept.
const BUFFERS_KEPT: usize = 4;
/// The shortest time from one stranger's exchange to the next.
const PACE: Duration = Duration::from_millis(1);

/// What the encrypted connections of a session share.
pub(crate) struct Encryptor {
    pub(crate) policy: Encryption,
    workers: Arc<Workers>,
    /// Whose turn it is to have a stranger's exchange worked out.
    strangers: Arc<Semaphore>,
    buffers: Rc<Buffers>,
}

#[derive(Default)]
struct Buffers(RefCell<Vec<Box<[u8]>>>);

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

impl Encryptor {
    pub(crate) fn new(policy: Encryption, workers: Arc<Workers>) -> Encryptor {
        Encryptor { policy, workers, strangers: Arc::new(Semaphore::new(1)), buffers: Rc::default() }
    }

    /// Shakes hands with one that we dialled, and says `initial` to it. `stream` is as both agreed from then on.
    pub(super) async fn initiate(
        &self,
        stream: &mut Stream,
        info_hash: InfoHash,
        initial: &[u8],
    ) -> io::Result<()> {
        let (key, rng) = secrets()?;
        let keys = on_worker(&self.workers, move || KeyPair::new(key)).await?;
        let offered = self.policy.offered();
        let mut handshake = Handshake::initiator(keys, info_hash, offered, initial.to_vec(), rng);
        while let Some(action) = next(&mut handshake, stream).await? {
            match action {
                Action::Agree(agreement) => {
                    let agreed = on_worker(&self.workers, move || agreement.work_out()).await?;
                    handshake.handle_agreed(agreed);
                }
                // For acceptors only.
                Action::FindTorrent(_) => handshake.handle_torrent(None).map_err(invalid)?,
                Action::Send(_) | Action::Finish => {}
            }
        }
        self.encrypt(stream, handshake)
    }

    /// Shakes hands with one that has dialled us; `first` is what it has sent so far. `find` says which torrent is meant.
    pub(super) async fn accept<T>(
        &self,
        stream: &mut Stream,
        first: &[u8],
        find: impl FnOnce(ObfuscatedHash) -> Option<(T, InfoHash)>,
    ) -> io::Result<T> {
        let (key, rng) = secrets()?;
        let mut handshake = Handshake::acceptor(key, self.policy, rng);
        handshake.handle_bytes(first).map_err(invalid)?;
        let (mut find, mut found) = (Some(find), None);
        while let Some(action) = next(&mut handshake, stream).await? {
            match action {
                Action::Agree(agreement) => {
                    let agreed = self.agree_with_stranger(*agreement).await?;
                    handshake.handle_agreed(agreed);
                }
                Action::FindTorrent(hash) => {
                    let meant = find.take().and_then(|find| find(hash));
                    handshake.handle_torrent(meant.as_ref().map(|(_, hash)| *hash)).map_err(invalid)?;
                    found = meant.map(|(torrent, _)| torrent);
                }
                Action::Send(_) | Action::Finish => {}
            }
        }
        self.encrypt(stream, handshake)?;
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn agree_with_stranger(&self, agreement: Agreement) -> io::Result<Agreed> {
        let turn = Arc::clone(&self.strangers).acquire_owned().await.map_err(io::Error::other)?;
        let (next_at, workers) = (tokio::time::Instant::now() + PACE, Arc::clone(&self.workers));
        // Whose connection ends meanwhile does not give up the turn: the work is done all the same.
        let agreed = spawn_local(async move {
            let agreed = on_worker(&workers, move || agreement.work_out()).await;
            spawn_local(async move {
                tokio::time::sleep_until(next_at).await;
                drop(turn);
            });
            agreed
        });
        agreed.await.map_err(io::Error::other)?
    }

    fn encrypt(&self, stream: &mut Stream, handshake: Handshake) -> io::Result<()> {
        let established = handshake.established().ok_or(io::ErrorKind::InvalidData)?;
        stream.encrypt(Enciphered::new(established, Rc::clone(&self.buffers)));
        Ok(())
    }
}

/// Reads and writes what a handshake wants, until it wants something else. `None` when it is over.
async fn next(handshake: &mut Handshake, stream: &mut Stream) -> io::Result<Option<Action>> {
    let mut buffer = [0; 128];
    loop {
        match handshake.poll_action() {
            Some(Action::Send(bytes)) => stream.write_all(&bytes).await?,
            Some(Action::Finish) => return Ok(None),
            Some(action) => return Ok(Some(action)),
            None => {
                let wanted = handshake.wanted().min(buffer.len());
                let count = stream.read_some(&mut buffer[..wanted]).await?;
                handshake.handle_bytes(&buffer[..count]).map_err(invalid)?;
            }
        }
    }
}

/// A secret exponent, and randomness for what everybody sees: nothing of the session's own may be worked out from that.
fn secrets() -> io::Result<(PrivateKey, Rng)> {
    let mut exponent = [0; 20];
    getrandom::fill(&mut exponent).map_err(io::Error::other)?;
    let seed = getrandom::u64().map_err(io::Error::other)?;
    Ok((PrivateKey::new(exponent), Rng::new(seed)))
}

async fn on_worker<R: Send + 'static>(
    workers: &Workers,
    job: impl FnOnce() -> R + Send + 'static,
) -> io::Result<R> {
    let (tx, rx) = oneshot::channel();
    workers.submit(Lane::Transfer, move || {
        // Nobody may wait for it any more.
        if !tx.is_closed() {
            let _ = tx.send(job());
        }
    });
    rx.await.map_err(io::Error::other)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The ciphers of one stream, and bytes that are enciphered and not sent.
pub(super) struct Enciphered {
    outgoing: Option<Cipher>,
    incoming: Option<Decipher>,
    unsent: Option<Unsent>,
    buffers: Rc<Buffers>,
    pub(super) method: swarm_core::mse::Method,
}

struct Unsent {
    buffer: Box<[u8]>,
    left: Range<usize>,
}

impl Enciphered {
    fn new(established: Established, buffers: Rc<Buffers>) -> Enciphered {
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

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_core::mse::Methods;
    use tokio::task::LocalSet;

    /// An exchange, as an acceptor wants it.
    fn agreement(seed: u8) -> Agreement {
        let keys = KeyPair::new(PrivateKey::new([seed; 20]));
        let mut initiator =
            Handshake::initiator(keys, InfoHash([1; 20]), Methods(3), Vec::new(), Rng::new(1));
        let Some(Action::Send(hello)) = initiator.poll_action() else { panic!("it begins with its key") };
        let mut acceptor = Handshake::acceptor(PrivateKey::new([9; 20]), Encryption::Allow, Rng::new(2));
        acceptor.handle_bytes(&hello[..96]).unwrap();
        match acceptor.poll_action() {
            Some(Action::Agree(agreement)) => *agreement,
            other => panic!("{other:?}"),
        }
    }

    /// In virtual time, which does not pass while a worker works. Every second stranger has gone before its turn.
    #[tokio::test(start_paused = true)]
    async fn strangers_exchanges_are_worked_out_one_at_a_time_and_not_without_a_pause() {
        const STRANGERS: u32 = 40;
        let workers = Arc::new(Workers::new("test", 2).unwrap());
        let encryptor = Rc::new(Encryptor::new(Encryption::Allow, workers));
        let agreement = agreement(5);
        let crowd = async {
            let start = tokio::time::Instant::now();
            let come = (0..STRANGERS).map(|nth| {
                let (encryptor, agreement) = (Rc::clone(&encryptor), agreement.clone());
                let come = spawn_local(async move { encryptor.agree_with_stranger(agreement).await.is_ok() });
                if nth % 2 == 1 {
                    come.abort();
                }
                come
            });
            for (nth, come) in come.collect::<Vec<_>>().into_iter().enumerate() {
                assert_eq!(come.await.unwrap_or(false), nth % 2 == 0);
            }
            start.elapsed()
        };
        let took = LocalSet::new().run_until(crowd).await;
        assert!(took >= PACE * (STRANGERS / 2 - 1), "{took:?}");
    }

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
