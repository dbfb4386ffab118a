//! What proxies answer, and the datagrams of their relays.

use crate::Target;
use crate::input::Input;
use crate::memory::bounded;
use std::net::SocketAddr;
use swarm_core::proxy::{Destination, HEAD_LEN_MAX, Handshake, Proxy, unwrap, wrap};

pub(super) const PROXY: Target = Target { name: "proxy", run: proxy, seeds, runs: 100_000 };

fn proxy(input: &[u8]) {
    bounded(HEAD_LEN_MAX, 4, || handshake(Input(input)));
    if let Some((from, payload)) = unwrap(input) {
        assert!(input.ends_with(payload));
        let to = from.map_or(Destination::Name("host".to_owned(), 1), Destination::Addr);
        let wrapped = wrap(&to, payload).expect("a destination");
        assert_eq!(unwrap(&wrapped), Some((from, payload)));
    }
}

fn handshake(mut input: Input<'_>) {
    let url = input.of(&["socks5://host", "socks5://user:password@host:1", "http://user:password@host:8080"]);
    let proxy: Proxy = url.parse().expect("a proxy");
    let to = match input.below(3) {
        0 => Destination::Addr(SocketAddr::from(([1, 2, 3, 4], 5))),
        1 => Destination::Addr(SocketAddr::from(([7; 16], 8))),
        _ => Destination::Name("example.org".to_owned(), 80),
    };
    let is_relay = input.bool();
    let handshake = if is_relay { Handshake::associate(&proxy) } else { Handshake::connect(&proxy, &to) };
    let Ok(mut handshake) = handshake else { return assert!(is_relay && !proxy.carries_datagrams()) };
    while handshake.wanted() > 0 {
        assert!(handshake.wanted() <= 300);
        let at_most = if input.bool() { 1 } else { 400 };
        let part = input.take(handshake.wanted().min(at_most));
        if part.is_empty() || handshake.handle_bytes(part).is_err() {
            return;
        }
        handshake.poll_output();
    }
    assert_eq!(handshake.relay().is_some(), is_relay);
}

/// The choices at the start, and then one before each part that is read.
fn answer(choices: [u8; 3], parts: &[&[u8]]) -> Vec<u8> {
    let mut seed = choices.to_vec();
    for part in parts {
        seed.push(0);
        seed.extend_from_slice(part);
    }
    seed
}

fn seeds() -> Vec<Vec<u8>> {
    let reply: [&[u8]; 2] = [&[5, 0, 0, 1, 9], &[9, 9, 9, 0, 7]];
    let head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n\r\n";
    let mut http = vec![2, 0, 0];
    // Bytes that are even ask for as much as is wanted.
    head.chunks(4).for_each(|part| http.extend([&[0], part].concat()));
    vec![
        answer([0, 0, 0], &[&[5, 0], reply[0], reply[1]]),
        answer([1, 1, 1], &[&[5, 2], &[1, 0], reply[0], reply[1]]),
        answer([1, 2, 0], &[&[5, 2], &[1, 0], &[5, 0, 0, 3, 1], &[b'x', 0, 7]]),
        answer([0, 2, 1], &[&[5, 0], &[5, 0, 0, 4, 1], &[2; 17]]),
        http,
        [&[0, 0, 0, 1, 1, 2, 3, 4, 0, 9][..], b"payload"].concat(),
        [&[0, 0, 0, 3, 2][..], b"ab\0\x09payload"].concat(),
    ]
}
