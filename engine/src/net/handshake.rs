//! Opening connections: the one place that dials and the one that accepts, and the 68 bytes that both begin with.

use super::dial::proxy_error;
use super::encryption::Encryptor;
use super::socket::{self, Binding};
use super::transport::Stream;
use super::utp::Utp;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use swarm_core::id::{InfoHash, InfoHashes, PeerId};
use swarm_core::mse::ObfuscatedHash;
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Handshake, HandshakeError, Reserved};

/// How long one who dials us may take over the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one whom we dial over uTP may take to answer: there may be TCP, or others.
const UTP_PATIENCE: Duration = Duration::from_secs(4);
/// The part of a handshake up to the info-hash, after which an acceptor knows which torrent is meant.
const FRONT_LEN: usize = 48;
/// The part that tells a plain handshake from an encrypted one.
const PROTOCOL_LEN: usize = 20;

/// A connection on which handshakes have been exchanged.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// The peer's handshake. [`Reserved::V2`] is set in it if, and only if, version 2 is spoken.
    pub(crate) theirs: Handshake,
    /// Whether the peer dialled us.
    pub(crate) inbound: bool,
}

/// What we say in handshakes about a torrent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ours {
    pub(crate) reserved: Reserved,
    pub(crate) info_hashes: InfoHashes,
    pub(crate) peer_id: PeerId,
}

impl Ours {
    /// The handshake that names the torrent so. With the SHA-1 info-hash of a hybrid it says that we know version 2 too (BEP 52).
    fn naming(&self, info_hash: InfoHash) -> Handshake {
        let upgrade = self.info_hashes.v2.is_some() && !self.is_v2(info_hash);
        let reserved = if upgrade { self.reserved | Reserved::V2 } else { self.reserved };
        Handshake { reserved, info_hash, peer_id: self.peer_id }
    }

    /// The handshake that answers one with this info-hash and these bits.
    fn answering(&self, info_hash: InfoHash, theirs: Reserved) -> Handshake {
        let upgraded = self.info_hashes.v2.filter(|_| theirs.contains(Reserved::V2));
        self.naming(upgraded.map_or(info_hash, |v2| v2.truncated()))
    }

    fn goes_by(&self, info_hash: InfoHash) -> bool {
        self.info_hashes.swarms().any(|swarm| swarm == info_hash)
    }

    fn is_v2(&self, info_hash: InfoHash) -> bool {
        self.info_hashes.v2.is_some_and(|v2| v2.truncated() == info_hash)
    }
}

/// How to reach a peer: attempts, made one after the other until one succeeds.
pub(crate) struct DialPlan {
    pub(crate) addr: SocketAddr,
    attempts: Vec<Attempt>,
}

/// One way to reach a peer, which takes `patience` at most.
struct Attempt {
    transport: Transport,
    encrypted: bool,
    patience: Duration,
    /// How long until somebody answers at all.
    reach_patience: Duration,
}

/// What carries an attempt.
#[derive(Clone)]
pub(crate) enum Transport {
    Tcp,
    Utp(Rc<Utp>),
}

impl Transport {
    fn is_utp(&self) -> bool {
        matches!(self, Transport::Utp(_))
    }
}

impl DialPlan {
    /// Attempts over each of these, encrypted or not in this order.
    pub(crate) fn new(
        addr: SocketAddr,
        patience: Duration,
        transports: &[Transport],
        encrypted: &[bool],
    ) -> DialPlan {
        let over = |transport: &Transport| {
            let transport = transport.clone();
            // Where nobody listens, nobody says so.
            let reach_patience = if transport.is_utp() { patience.min(UTP_PATIENCE) } else { patience };
            encrypted.iter().map(move |&encrypted| Attempt {
                transport: transport.clone(),
                encrypted,
                patience,
                reach_patience,
            })
        };
        DialPlan { addr, attempts: transports.iter().flat_map(over).collect() }
    }

    /// For a peer that dials us at the same time, through two NATs: over uTP, and patiently.
    pub(crate) fn punch(
        addr: SocketAddr,
        patience: Duration,
        utp: Option<Rc<Utp>>,
        encrypted: &[bool],
    ) -> DialPlan {
        let transports: Vec<Transport> = utp.map(Transport::Utp).into_iter().collect();
        let mut plan = DialPlan::new(addr, patience, &transports, encrypted);
        plan.attempts.iter_mut().for_each(|attempt| attempt.reach_patience = patience);
        plan
    }
}

/// Why an attempt failed.
enum Failure {
    /// Nobody was reached.
    Unreached(io::Error),
    /// Somebody was, and is none of ours, or does not want to be reached in this way.
    Refused(io::Error),
}

/// Somebody was reached, and did not take the handshake.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Refusal(io::Error);

/// Whether a dial failed after somebody was reached.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Refusal>())
}

/// Dials a peer and exchanges handshakes. `pace` is awaited before each attempt but the first. Nothing is said to a peer that is no longer
/// wanted once it has been reached: it may have dialled us meanwhile.
pub(crate) async fn dial(
    plan: &DialPlan,
    binding: &Binding,
    encryptor: &Encryptor,
    ours: Ours,
    pace: impl AsyncFn(),
    is_wanted: impl Fn() -> bool,
) -> io::Result<Opened> {
    let (mut failure, mut no_relay) = (None, None);
    let (mut unreached, mut is_first) = ([false; 2], true);
    // Some know a hybrid by one of its info-hashes only.
    let swarms = ours.info_hashes.swarms();
    let attempts = swarms.flat_map(|swarm| plan.attempts.iter().map(move |attempt| (swarm, attempt)));
    for (swarm, attempt) in attempts {
        // Where nobody is reached, nobody is reached in another manner either.
        let is_unreached = &mut unreached[usize::from(attempt.transport.is_utp())];
        if *is_unreached {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            pace().await;
        }
        match attempt.make(plan.addr, binding, encryptor, (ours, swarm), &is_wanted).await {
            Ok(opened) => return Ok(opened),
            // Another attempt would lack the same.
            Err(Failure::Unreached(error)) if socket::is_local_error(&error) => return Err(error),
            // What is wrong with the proxy says nothing of the peer; what another attempt finds does. Many carry TCP only.
            Err(Failure::Unreached(error)) if proxy_error(&error).is_some() => {
                if !attempt.transport.is_utp() {
                    return Err(failure.unwrap_or(error));
                }
                *is_unreached = true;
                no_relay = Some(error);
            }
            Err(Failure::Unreached(error)) => {
                *is_unreached = true;
                failure = Some(error);
            }
            Err(Failure::Refused(error)) => failure = Some(io::Error::new(error.kind(), Refusal(error))),
        }
    }
    Err(failure.or(no_relay).unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

impl Attempt {
    async fn make(
        &self,
        addr: SocketAddr,
        binding: &Binding,
        encryptor: &Encryptor,
        ours: (Ours, InfoHash),
        is_wanted: impl Fn() -> bool,
    ) -> Result<Opened, Failure> {
        let now = tokio::time::Instant::now();
        let (until, reached_until) = (now + self.patience, now + self.reach_patience);
        let connected = async {
            match &self.transport {
                Transport::Tcp => Stream::connect_tcp(addr, binding).await,
                Transport::Utp(utp) => utp.connect(addr).await.map(Stream::over_utp),
            }
        };
        let stream = within(reached_until, connected).await.map_err(Failure::Unreached)?;
        if !is_wanted() {
            return Err(Failure::Unreached(io::ErrorKind::AlreadyExists.into()));
        }
        let opened = async {
            match self.encrypted {
                true => initiate_encrypted(stream, encryptor, ours).await,
                false => initiate(stream, ours).await,
            }
        };
        within(until, opened).await.map_err(Failure::Refused)
    }
}

async fn within<T>(until: tokio::time::Instant, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout_at(until, what).await.unwrap_or_else(|late| Err(late.into()))
}

async fn initiate(mut stream: Stream, (ours, swarm): (Ours, InfoHash)) -> io::Result<Opened> {
    stream.write_all(&ours.naming(swarm).encode()).await?;
    be_answered(stream, ours).await
}

/// Our handshake goes out with the encrypted one.
async fn initiate_encrypted(
    mut stream: Stream,
    encryptor: &Encryptor,
    (ours, swarm): (Ours, InfoHash),
) -> io::Result<Opened> {
    encryptor.initiate(&mut stream, swarm, &ours.naming(swarm).encode()).await?;
    be_answered(stream, ours).await
}

async fn be_answered(mut stream: Stream, ours: Ours) -> io::Result<Opened> {
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes[..FRONT_LEN]).await?;
    let answered = decoded(Handshake::decode_info_hash(&bytes[..FRONT_LEN]))?;
    if !ours.goes_by(answered) {
        return Err(invalid("the peer answered for another torrent"));
    }
    stream.read_exact(&mut bytes[FRONT_LEN..]).await?;
    let theirs = decoded(Handshake::decode(&bytes))?;
    Ok(Opened { stream, theirs: speaking(theirs, ours.is_v2(answered)), inbound: false })
}

/// A peer's handshake, that says whether version 2 is spoken.
fn speaking(theirs: Handshake, is_v2: bool) -> Handshake {
    let without = theirs.reserved.without(Reserved::V2);
    Handshake { reserved: if is_v2 { without | Reserved::V2 } else { without }, ..theirs }
}

/// How one who dials us names a torrent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named {
    Plainly(InfoHash),
    Obfuscated(ObfuscatedHash),
}

/// Exchanges handshakes with somebody who has dialled us. `find` says which torrent is meant, by which info-hash, and what we say there, or
/// `None` if we do not have it.
pub(crate) async fn accept<T>(
    mut stream: Stream,
    encryptor: &Encryptor,
    find: impl Fn(Named) -> Option<(T, InfoHash, Ours)>,
) -> io::Result<(T, Opened)> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        let mut bytes = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut bytes[..PROTOCOL_LEN]).await?;
        let front = Handshake::decode_info_hash(&bytes[..PROTOCOL_LEN]);
        if front.is_ok() && !encryptor.policy.takes_plain() {
            return Err(invalid("not encrypted"));
        }
        if front.is_ok() || !encryptor.policy.takes_encrypted() {
            front.map_err(invalid)?;
            stream.read_exact(&mut bytes[PROTOCOL_LEN..FRONT_LEN]).await?;
            let info_hash = decoded(Handshake::decode_info_hash(&bytes[..FRONT_LEN]))?;
            let found = find(Named::Plainly(info_hash)).ok_or_else(|| invalid("no such torrent here"))?;
            return answer(stream, bytes, found.0, found.2).await;
        }
        let obfuscated = |hash| {
            let (torrent, info_hash, ours) = find(Named::Obfuscated(hash))?;
            Some(((torrent, ours), info_hash))
        };
        let found = encryptor.accept(&mut stream, &bytes[..PROTOCOL_LEN], obfuscated).await?;
        stream.read_exact(&mut bytes[..FRONT_LEN]).await?;
        if !found.1.goes_by(decoded(Handshake::decode_info_hash(&bytes[..FRONT_LEN]))?) {
            return Err(invalid("the handshakes are for two torrents"));
        }
        answer(stream, bytes, found.0, found.1).await
    })
    .await?
}

/// The front of the peer's handshake has come.
async fn answer<T>(
    mut stream: Stream,
    mut bytes: [u8; HANDSHAKE_LEN],
    torrent: T,
    ours: Ours,
) -> io::Result<(T, Opened)> {
    let (named, theirs) = decoded(Handshake::decode_front(&bytes[..FRONT_LEN]))?;
    let answer = ours.answering(named, theirs);
    stream.write_all(&answer.encode()).await?;
    stream.read_exact(&mut bytes[FRONT_LEN..]).await?;
    let theirs = speaking(decoded(Handshake::decode(&bytes))?, ours.is_v2(answer.info_hash));
    Ok((torrent, Opened { stream, theirs, inbound: true }))
}

/// What a part of a handshake says.
fn decoded<T>(decoded: Result<Option<T>, HandshakeError>) -> io::Result<T> {
    decoded.map_err(invalid)?.ok_or_else(|| invalid("the handshake is too short"))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
