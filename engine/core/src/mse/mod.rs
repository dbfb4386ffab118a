//! Message Stream Encryption (MSE, also called protocol encryption, PE): what hides a connection from those who look for BitTorrent's
//! bytes. It keeps nothing secret from whoever is in the middle and knows the info-hash.
//!
//! [`Encryption`] says when it is used. [`Handshake`] is the state machine of both sides: bytes in, bytes out. What costs time, the
//! Diffie-Hellman exchange, it hands out as an [`Agreement`], which may be worked out anywhere. It never wants a byte that lies behind
//! the handshake ([`Handshake::wanted`]), and keeps less than [`PAD_LEN_MAX`] + 100 bytes of a peer, whatever that sends.
//!
//! ```text
//! A -> B   Ya, PadA
//! B -> A   Yb, PadB
//! A -> B   HASH('req1', S), HASH('req2', SKEY) xor HASH('req3', S),
//!          ENCRYPT(VC, crypto_provide, len(PadC), PadC, len(IA)), ENCRYPT(IA)
//! B -> A   ENCRYPT(VC, crypto_select, len(PadD), PadD), then the stream, as does A
//! ```
//!
//! SKEY is the info-hash. IA, what the initiator says at once, belongs to the stream: it is enciphered even if the stream is
//! plain from then on, which a [`Decipher`] takes care of.

mod cipher;
mod dh;
mod error;
mod handshake;
mod policy;
mod rc4;

pub use cipher::{Cipher, Decipher, ObfuscatedHash};
pub use dh::{Agreed, Agreement, KEY_LEN, KeyPair, PrivateKey, PublicKey, SharedSecret};
pub use error::MseError;
pub use handshake::{Action, Established, Handshake, PAD_LEN_MAX};
pub use policy::{Encryption, Method, Methods};

#[cfg(test)]
mod tests;
