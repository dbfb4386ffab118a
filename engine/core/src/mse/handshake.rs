//! The state machine of the handshake, for the one that dials and the one that accepts.

use super::cipher::{Cipher, Decipher, ObfuscatedHash, hash};
use super::dh::{Agreed, Agreement, KEY_LEN, KeyPair, PrivateKey, PublicKey, SharedSecret};
use super::error::MseError;
use super::policy::{Encryption, Method, Methods};
use crate::id::InfoHash;
use crate::rng::Rng;
use std::collections::VecDeque;

/// The longest pad, in bytes.
pub const PAD_LEN_MAX: usize = 512;
/// The verification constant: zeros, which show that both sides have the same key.
const VC: [u8; 8] = [0; 8];
/// The verification constant, methods, and the length of a pad.
const FIELDS_LEN: usize = VC.len() + 4 + 2;
/// What comes at least after `HASH('req1', S)`: the torrent's hash, fields, and the length of IA.
const AFTER_SYNC_HASH: usize = 20 + FIELDS_LEN + 2;

/// Something for the shell to do.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "drivers must do all of it")]
pub enum Action {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Work this out, where it holds up nobody, then call [`Handshake::handle_agreed`].
    Agree(Box<Agreement>),
    /// Look up the torrent that is meant, then call [`Handshake::handle_torrent`].
    FindTorrent(ObfuscatedHash),
    /// All is said: see [`Handshake::established`].
    Finish,
}

/// What a handshake comes to.
#[derive(Debug)]
pub struct Established {
    /// What the stream is from now on.
    pub method: Method,
    /// Enciphers what we send, if anything does.
    pub outgoing: Option<Cipher>,
    /// Deciphers what comes, if anything has to.
    pub incoming: Option<Decipher>,
}

/// One side of a handshake.
pub struct Handshake {
    role: Role,
    rng: Rng,
    state: State,
    /// What has come and is not dealt with yet.
    input: Vec<u8>,
    actions: VecDeque<Action>,
}

enum Role {
    Initiator { keys: Box<KeyPair>, info_hash: InfoHash, offered: Methods, initial: Vec<u8> },
    Acceptor { key: PrivateKey, policy: Encryption },
}

enum State {
    /// Waits for the peer's public key.
    Key,
    /// Waits for the secret to be worked out.
    Agreeing,
    /// Looks for what follows the peer's first pad.
    Sync {
        marker: Marker,
        secret: SharedSecret,
        ciphers: Option<Ciphers>,
    },
    /// The acceptor waits for the torrent's hash.
    Torrent(SharedSecret),
    /// The acceptor waits to be told which torrent that is.
    Finding(SharedSecret),
    /// Waits for the fields. The initiator has had the verification constant by then.
    Fields(Ciphers),
    /// Waits for the second pad, of this length, and for the length of IA.
    Pad(Ciphers, Method, usize),
    Established(Box<Established>),
    Failed,
}

/// Bytes that end a pad.
struct Marker {
    bytes: Vec<u8>,
    /// How many bytes come after them at least.
    after: usize,
    /// How many places have been looked at.
    tried: usize,
}

/// Both directions, while the handshake lasts.
struct Ciphers {
    outgoing: Cipher,
    incoming: Cipher,
}

impl Handshake {
    /// For the one that dials. `initial` (IA) is what it says first: its BitTorrent handshake.
    ///
    /// # Panics
    /// If `initial` is longer than 65,535 bytes.
    pub fn initiator(
        keys: KeyPair,
        info_hash: InfoHash,
        offered: Methods,
        initial: Vec<u8>,
        rng: Rng,
    ) -> Handshake {
        assert!(initial.len() <= usize::from(u16::MAX), "its length has 16 bits");
        let public = keys.public.clone();
        let role = Role::Initiator { keys: Box::new(keys), info_hash, offered, initial };
        let mut handshake = Handshake::new(role, rng);
        handshake.send_key(&public);
        handshake
    }

    /// For the one that is dialled.
    pub fn acceptor(key: PrivateKey, policy: Encryption, rng: Rng) -> Handshake {
        Handshake::new(Role::Acceptor { key, policy }, rng)
    }

    fn new(role: Role, rng: Rng) -> Handshake {
        Handshake { role, rng, state: State::Key, input: Vec::new(), actions: VecDeque::new() }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How many bytes to read next at most: all of them belong to the handshake, and the peer sends them without hearing more
    /// from us. 0 while something else has to be done first.
    pub fn wanted(&self) -> usize {
        let needed = match &self.state {
            State::Key => KEY_LEN,
            State::Sync { marker, .. } => marker.needed(self.input.len()),
            State::Torrent(_) => 20,
            State::Fields(_) => self.fields_len(),
            State::Pad(_, _, len) => *len + self.ia_len_len(),
            State::Agreeing | State::Finding(_) | State::Established(_) | State::Failed => 0,
        };
        needed.saturating_sub(self.input.len())
    }

    /// Bytes have come, at most as many as are [wanted](Self::wanted).
    ///
    /// # Errors
    /// When this is no handshake, or leads to none.
    ///
    /// # Panics
    /// If there are more than wanted.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), MseError> {
        assert!(bytes.len() <= self.wanted(), "{} bytes, {} wanted", bytes.len(), self.wanted());
        self.input.extend_from_slice(bytes);
        while self.wanted() == 0 || matches!(self.state, State::Sync { .. }) {
            let state = std::mem::replace(&mut self.state, State::Failed);
            let (next, goes_on) = self.step(state)?;
            self.state = next;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Takes a step with what has come. Whether there may be another.
    fn step(&mut self, state: State) -> Result<(State, bool), MseError> {
        Ok(match state {
            State::Key => {
                let bytes = self.take(KEY_LEN);
                let theirs = PublicKey::from_bytes(bytes.first_chunk().ok_or(MseError::PublicKey)?)?;
                let agreement = match &self.role {
                    Role::Initiator { keys, .. } => {
                        Agreement { ours: keys.private.clone(), public: Some(keys.public.clone()), theirs }
                    }
                    Role::Acceptor { key, .. } => Agreement { ours: key.clone(), public: None, theirs },
                };
                self.actions.push_back(Action::Agree(Box::new(agreement)));
                (State::Agreeing, false)
            }
            State::Sync { mut marker, secret, ciphers } => match marker.end_in(&self.input)? {
                None => (State::Sync { marker, secret, ciphers }, false),
                Some(end) => {
                    self.input.drain(..end);
                    match ciphers {
                        None => (State::Torrent(secret), true),
                        Some(mut ciphers) => {
                            ciphers.incoming.apply(&mut VC.clone());
                            (State::Fields(ciphers), true)
                        }
                    }
                }
            },
            State::Torrent(secret) => {
                let (sent, mask) = (self.take(20), hash(&[b"req3", &secret.0]));
                let obfuscated = std::array::from_fn(|i| sent[i] ^ mask[i]);
                self.actions.push_back(Action::FindTorrent(ObfuscatedHash(obfuscated)));
                (State::Finding(secret), false)
            }
            State::Fields(mut ciphers) => {
                let mut fields = self.take(self.fields_len());
                ciphers.incoming.apply(&mut fields);
                (self.on_fields(ciphers, &fields)?, true)
            }
            State::Pad(mut ciphers, method, len) => {
                let mut rest = self.take(len + self.ia_len_len());
                ciphers.incoming.apply(&mut rest);
                let ia_len =
                    rest[len..].first_chunk().map_or(0, |&bytes| usize::from(u16::from_be_bytes(bytes)));
                (self.finish(ciphers, method, ia_len), false)
            }
            done @ (State::Agreeing | State::Finding(_) | State::Established(_) | State::Failed) => {
                (done, false)
            }
        })
    }

    /// The secret is worked out.
    pub fn handle_agreed(&mut self, agreed: Agreed) {
        if !matches!(self.state, State::Agreeing) {
            return;
        }
        let Agreed { public, secret } = agreed;
        match &self.role {
            Role::Acceptor { .. } => {
                self.send_key(&public);
                let marker =
                    Marker { bytes: hash(&[b"req1", &secret.0]).to_vec(), after: AFTER_SYNC_HASH, tried: 0 };
                self.state = State::Sync { marker, secret, ciphers: None };
            }
            Role::Initiator { .. } => self.state = self.request(secret),
        }
    }

    /// Sends the third step, and waits for the fourth.
    fn request(&mut self, secret: SharedSecret) -> State {
        let pad_len = self.pad_len();
        let Role::Initiator { info_hash, offered, initial, .. } = &self.role else { return State::Failed };
        let mut outgoing = Cipher::derive(b"keyA", &secret, *info_hash);
        let incoming = || Cipher::derive(b"keyB", &secret, *info_hash);
        let mask = hash(&[b"req3", &secret.0]);
        let mut sent = hash(&[b"req1", &secret.0]).to_vec();
        sent.extend(ObfuscatedHash::of(*info_hash).0.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        let enciphered = sent.len();
        push_fields(&mut sent, *offered, pad_len);
        sent.extend_from_slice(&(initial.len() as u16).to_be_bytes());
        sent.extend_from_slice(initial);
        outgoing.apply(&mut sent[enciphered..]);
        self.actions.push_back(Action::Send(sent));
        let mut marker = VC.to_vec();
        incoming().apply(&mut marker);
        let ciphers = Ciphers { outgoing, incoming: incoming() };
        State::Sync {
            marker: Marker { bytes: marker, after: 4 + 2, tried: 0 },
            secret,
            ciphers: Some(ciphers),
        }
    }

    /// The torrent that the peer means, if it is here.
    ///
    /// # Errors
    /// If it is not.
    pub fn handle_torrent(&mut self, info_hash: Option<InfoHash>) -> Result<(), MseError> {
        let State::Finding(secret) = std::mem::replace(&mut self.state, State::Failed) else { return Ok(()) };
        let info_hash = info_hash.ok_or(MseError::NoSuchTorrent)?;
        let outgoing = Cipher::derive(b"keyB", &secret, info_hash);
        let incoming = Cipher::derive(b"keyA", &secret, info_hash);
        self.state = State::Fields(Ciphers { outgoing, incoming });
        self.handle_bytes(&[])
    }

    /// The fields have come: the acceptor is offered methods, the initiator is told which one it is.
    fn on_fields(&mut self, ciphers: Ciphers, fields: &[u8]) -> Result<State, MseError> {
        let (vc, fields) = fields.split_at(fields.len() - 6);
        let methods = Methods(u32::from_be_bytes([fields[0], fields[1], fields[2], fields[3]]));
        let pad_len = u16::from_be_bytes([fields[4], fields[5]]);
        if vc.iter().any(|&byte| byte != 0) {
            return Err(MseError::Verification);
        }
        if usize::from(pad_len) > PAD_LEN_MAX {
            return Err(MseError::PadLength(pad_len));
        }
        let method = match &self.role {
            Role::Initiator { offered, .. } => {
                methods.only().filter(|&method| offered.has(method)).ok_or(MseError::NotOffered(methods.0))?
            }
            Role::Acceptor { policy, .. } => policy.choose(methods).ok_or(MseError::NoMethod(methods.0))?,
        };
        Ok(State::Pad(ciphers, method, pad_len.into()))
    }

    fn finish(&mut self, ciphers: Ciphers, method: Method, ia_len: usize) -> State {
        let Ciphers { mut outgoing, incoming } = ciphers;
        if let Role::Acceptor { .. } = self.role {
            let mut sent = Vec::new();
            let pad_len = self.pad_len();
            push_fields(&mut sent, Methods(method as u32), pad_len);
            outgoing.apply(&mut sent);
            self.actions.push_back(Action::Send(sent));
        }
        self.actions.push_back(Action::Finish);
        let left = (method == Method::Plaintext).then_some(ia_len);
        let incoming = Some(Decipher::new(incoming, left)).filter(|incoming| !incoming.is_over());
        let outgoing = (method == Method::Rc4).then_some(outgoing);
        State::Established(Box::new(Established { method, outgoing, incoming }))
    }

    /// What it came to, if it is over and well.
    pub fn established(self) -> Option<Established> {
        match self.state {
            State::Established(established) => Some(*established),
            _ => None,
        }
    }

    fn is_initiator(&self) -> bool {
        matches!(self.role, Role::Initiator { .. })
    }

    /// The initiator finds its verification constant by searching for it.
    fn fields_len(&self) -> usize {
        if self.is_initiator() { FIELDS_LEN - VC.len() } else { FIELDS_LEN }
    }

    /// Bytes of the length of IA, which only the initiator sends.
    fn ia_len_len(&self) -> usize {
        if self.is_initiator() { 0 } else { 2 }
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        self.input.drain(..len).collect()
    }

    fn pad_len(&mut self) -> usize {
        self.rng.index(PAD_LEN_MAX + 1)
    }

    /// Sends a public key and a pad.
    fn send_key(&mut self, public: &PublicKey) {
        let mut sent = public.to_bytes().to_vec();
        sent.resize(KEY_LEN + self.pad_len(), 0);
        self.rng.fill(&mut sent[KEY_LEN..]);
        self.actions.push_back(Action::Send(sent));
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("wanted", &self.wanted()).finish_non_exhaustive()
    }
}

impl Marker {
    /// How many bytes there are at least, from the end of the key on, if there are `have` and the marker is not in them.
    fn needed(&self, have: usize) -> usize {
        let earliest = (have + 1).saturating_sub(self.bytes.len());
        earliest + self.bytes.len() + self.after
    }

    /// Where the marker ends in what has come. No place is looked at twice.
    fn end_in(&mut self, input: &[u8]) -> Result<Option<usize>, MseError> {
        let len = self.bytes.len();
        let places = (input.len() + 1).saturating_sub(len).min(PAD_LEN_MAX + 1);
        let found = (self.tried..places).find(|&at| input[at..at + len] == self.bytes);
        self.tried = places;
        match found {
            Some(at) => Ok(Some(at + len)),
            None if places > PAD_LEN_MAX => Err(MseError::NoSync),
            None => Ok(None),
        }
    }
}

/// The verification constant, methods and a pad. A pad inside of what is enciphered is zeros, as others have it.
fn push_fields(to: &mut Vec<u8>, methods: Methods, pad_len: usize) {
    to.extend_from_slice(&VC);
    to.extend_from_slice(&methods.0.to_be_bytes());
    to.extend_from_slice(&(pad_len as u16).to_be_bytes());
    to.resize(to.len() + pad_len, 0);
}
