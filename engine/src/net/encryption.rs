//! Encrypted connections (MSE): their handshakes, and what all of a session share. `enciphered` has their bytes.
//!
//! The handshake is the core's ([`swarm_core::mse`]). Its Diffie-Hellman exchange is worked out on a worker: about 0.15 ms. For strangers
//! that is done one at a time, and at most every [`PACE`], so that whoever dials us without end costs a small part of one core. Those who
//! wait are among the connections without a handshake, whose number is limited as ever.

use super::enciphered::{Buffers, Enciphered};
use super::transport::Stream;
use crate::hash::{Lane, Workers};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::id::InfoHash;
use swarm_core::mse::{
    Action, Agreed, Agreement, Encryption, Handshake, KeyPair, ObfuscatedHash, PrivateKey,
};
use swarm_core::rng::Rng;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_local;

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
}
