//! The targets, a file for each kind of input.

mod dht;
mod discovery;
mod files;
mod hashes;
mod metainfo;
mod mse;
mod proxy;
mod tracker;
mod utp;
mod wire;

use crate::Target;

/// All of them.
pub const TARGETS: &[Target] = &[
    metainfo::BENCODE,
    metainfo::METAINFO,
    metainfo::MAGNET,
    wire::MESSAGES,
    wire::HANDSHAKE,
    wire::EXTENSIONS,
    hashes::HASH_EXCHANGE,
    mse::MSE,
    utp::PACKET,
    utp::SOCKET,
    dht::MESSAGE,
    dht::NODE,
    tracker::HTTP,
    tracker::UDP,
    tracker::STATE,
    discovery::LSD,
    discovery::PORT_MAPPING,
    proxy::PROXY,
    files::IP_FILTER,
    files::RESUME,
    files::WEB_SEED,
];
