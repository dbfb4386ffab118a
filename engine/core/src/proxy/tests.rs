use super::*;
use proptest::prelude::*;
use std::net::SocketAddr;

fn proxy(url: &str) -> Proxy {
    url.parse().unwrap()
}

fn name() -> Destination {
    Destination::Name("tracker.example".to_owned(), 443)
}

fn addr(text: &str) -> Destination {
    Destination::Addr(text.parse().unwrap())
}

/// Plays a handshake, whatever is wanted at a time and `step` bytes of it at most: what was sent, and how it ended.
fn play(
    handshake: Result<Handshake, ProxyError>,
    answers: &[u8],
    step: usize,
) -> (Vec<u8>, Result<Handshake, ProxyError>, usize) {
    let (mut sent, mut read) = (Vec::new(), 0);
    let mut handshake = match handshake {
        Ok(handshake) => handshake,
        Err(error) => return (sent, Err(error), 0),
    };
    loop {
        sent.extend(handshake.poll_output().unwrap_or_default());
        let len = handshake.wanted().min(step).min(answers.len() - read);
        if len == 0 {
            return (sent, Ok(handshake), read);
        }
        if let Err(error) = handshake.handle_bytes(&answers[read..read + len]) {
            return (sent, Err(error), read + len);
        }
        read += len;
    }
}

fn ends_with(proxy: &Proxy, answers: &[u8]) -> ProxyError {
    let results: Vec<_> = [1, 3, 1000]
        .into_iter()
        .map(|step| match play(Handshake::connect(proxy, &name()), answers, step).1 {
            Ok(handshake) => panic!("it is not over: {} more wanted", handshake.wanted()),
            Err(error) => error,
        })
        .collect();
    assert!(results.iter().all(|error| *error == results[0]), "{results:?}");
    results[0]
}

#[test]
fn urls_name_a_proxy() {
    for (url, kind, place) in [
        ("socks5://127.0.0.1:9050", ProxyKind::Socks5, "127.0.0.1:9050"),
        ("socks5h://proxy.example", ProxyKind::Socks5, "proxy.example:1080"),
        ("socks5://[2001:db8::1]:1080/", ProxyKind::Socks5, "[2001:db8::1]:1080"),
        ("http://proxy.example:8080", ProxyKind::Http, "proxy.example:8080"),
        (" http://10.0.0.1 \n", ProxyKind::Http, "10.0.0.1:80"),
    ] {
        let proxy = proxy(url);
        assert_eq!((proxy.kind(), proxy.place().to_string()), (kind, place.to_owned()), "{url}");
    }
    for (url, error) in [
        ("proxy.example:1080", ProxyUrlError::Scheme),
        ("127.0.0.1:1080", ProxyUrlError::NotAUrl),
        ("socks4://proxy.example:1080", ProxyUrlError::Scheme),
        ("https://proxy.example:1080", ProxyUrlError::Scheme),
        ("socks5://:1080", ProxyUrlError::NotAUrl),
        ("socks5:///", ProxyUrlError::NoHost),
        ("socks5://proxy.example:0", ProxyUrlError::NoHost),
        ("socks5://proxy.example:1080/path", ProxyUrlError::Path),
        ("http://proxy.example/?q", ProxyUrlError::Path),
        ("http://us%3aer:secret@proxy.example", ProxyUrlError::Login),
        ("socks5://:secret@proxy.example:1", ProxyUrlError::Login),
    ] {
        assert_eq!(url.parse::<Proxy>().unwrap_err(), error, "{url}");
    }
    let long = "x".repeat(256);
    assert_eq!(format!("socks5://u:{long}@h:1").parse::<Proxy>().unwrap_err(), ProxyUrlError::Login);
    assert!(format!("http://u:{long}@h:1").parse::<Proxy>().is_ok());
}

#[test]
fn the_whole_url_is_the_proxy_again() {
    for url in ["socks5://us%3Aer:p%40ss%2Fw%20rd@h:1080", "http://[2001:db8::1]:8080", "socks5://1.2.3.4:1"]
    {
        let first = proxy(url);
        assert_eq!(proxy(first.secret_url().as_str()), first, "{url}");
    }
}

#[test]
fn a_password_is_never_shown() {
    for url in ["socks5://user:s3cret@proxy.example:1", "http://user:s3cret@proxy.example:1"] {
        let proxy = proxy(url);
        let shown = format!("{proxy} {proxy:?} {proxy:#?}");
        assert!(!shown.contains("s3cret") && !shown.contains("user"), "{shown}");
    }
    let error = "socks9://user:s3cret@proxy.example".parse::<Proxy>().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[test]
fn socks_is_asked_by_name_and_by_address() {
    for (to, request) in [
        (name(), [&b"\x05\x01\0\x03\x0ftracker.example"[..], &[1, 187]].concat()),
        (addr("1.2.3.4:80"), b"\x05\x01\0\x01\x01\x02\x03\x04\0\x50".to_vec()),
        (addr("[::ffff:1.2.3.4]:80"), b"\x05\x01\0\x01\x01\x02\x03\x04\0\x50".to_vec()),
        (
            addr("[2001:db8::1]:80"),
            [&b"\x05\x01\0\x04"[..], &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80]]
                .concat(),
        ),
    ] {
        let answers = b"\x05\0\x05\0\0\x01\0\0\0\0\0\0and the rest is the peer's";
        for step in [1, 1000] {
            let handshake = Handshake::connect(&proxy("socks5://h:1"), &to);
            let (sent, ended, read) = play(handshake, answers, step);
            assert_eq!(sent, [b"\x05\x01\0", &request[..]].concat());
            assert_eq!((ended.unwrap().wanted(), read), (0, 12), "no more is read than is the proxy's");
        }
    }
}

#[test]
fn socks_replies_may_name_any_kind_of_address() {
    for reply in [
        &b"\x05\0\0\x01\0\0\0\0\0\0"[..],
        b"\x05\0\0\x03\x04host\0\x01",
        b"\x05\0\0\x03\0\0\x01",
        b"\x05\0\0\x04................\0\x01",
    ] {
        let answers = [b"\x05\0", reply].concat();
        let (_, ended, read) = play(Handshake::connect(&proxy("socks5://h:1"), &name()), &answers, 1);
        assert_eq!((ended.unwrap().wanted(), read), (0, answers.len()));
    }
}

#[test]
fn socks_login_is_by_user_and_password() {
    let with = proxy("socks5://us%20er:pass%3a@h:1");
    let (sent, ended, _) =
        play(Handshake::connect(&with, &addr("1.2.3.4:80")), b"\x05\x02\x01\0\x05\0\0\x01\0\0\0\0\0\0", 1);
    assert_eq!(ended.unwrap().wanted(), 0);
    assert_eq!(sent, b"\x05\x02\0\x02\x01\x05us er\x05pass:\x05\x01\0\x01\x01\x02\x03\x04\0\x50");

    let without = proxy("socks5://h:1");
    for (proxy, answers, error) in [
        (&with, &b"\x05\x02\x01\x01"[..], ProxyError::LoginRefused),
        (&with, b"\x05\xff", ProxyError::LoginUnknown),
        (&without, b"\x05\xff", ProxyError::LoginWanted),
        (&without, b"\x05\x02", ProxyError::LoginWanted),
        (&without, b"\x05\x01", ProxyError::Malformed),
        (&without, b"HTTP/1.1 400", ProxyError::OtherProtocol),
        (&without, b"\x04\0", ProxyError::OtherProtocol),
    ] {
        assert_eq!(ends_with(proxy, answers), error);
    }
}

#[test]
fn failures_tell_the_destination_from_the_proxy() {
    for (code, error, about_destination) in [
        (1, ProxyError::Failed(1), true),
        (2, ProxyError::NotAllowed, true),
        (3, ProxyError::Unreachable, true),
        (4, ProxyError::Unreachable, true),
        (5, ProxyError::ConnectionRefused, true),
        (6, ProxyError::Unreachable, true),
        (7, ProxyError::NoConnections, false),
        (8, ProxyError::Unreachable, true),
        (200, ProxyError::Failed(200), true),
    ] {
        let found = ends_with(&proxy("socks5://h:1"), &[5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!((found, found.is_about_destination()), (error, about_destination), "{code}");
    }
    for (status, error, about_destination) in [
        (403, ProxyError::NotAllowed, true),
        (405, ProxyError::NoConnections, false),
        (407, ProxyError::LoginWanted, false),
        (500, ProxyError::Failed(500), true),
        (502, ProxyError::Failed(502), true),
    ] {
        let head = format!("HTTP/1.1 {status} No\r\nContent-Length: 5\r\n\r\n");
        let found = ends_with(&proxy("http://h:1"), head.as_bytes());
        assert_eq!((found, found.is_about_destination()), (error, about_destination), "{status}");
    }
}

#[test]
fn connect_reads_the_head_and_nothing_of_what_follows() {
    let head = b"HTTP/1.1 100 Wait\r\n\r\nHTTP/1.0 200 Connection established\r\nVia: 1.1 tinyproxy\r\n\r\n";
    let answers = [&head[..], b"\r\n\r\nthe peer's"].concat();
    for step in [1, 2, 1000] {
        let (sent, ended, read) =
            play(Handshake::connect(&proxy("http://us:pa@h:1"), &name()), &answers, step);
        assert_eq!((ended.unwrap().wanted(), read), (0, head.len()));
        let text = "CONNECT tracker.example:443 HTTP/1.1\r\nHost: tracker.example:443\r\n\
                    Proxy-Authorization: Basic dXM6cGE=\r\n\r\n";
        assert_eq!(String::from_utf8(sent).unwrap(), text);
    }
    assert_eq!(ends_with(&proxy("http://us:pa@h:1"), b"HTTP/1.1 407 No\r\n\r\n"), ProxyError::LoginRefused);
    assert_eq!(ends_with(&proxy("http://h:1"), b"\x05\0"), ProxyError::OtherProtocol);
    assert_eq!(ends_with(&proxy("http://h:1"), b"HTTP/1.1 yes\r\n\r\n"), ProxyError::Malformed);
}

#[test]
fn a_head_without_end_is_left() {
    let answers = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 2 * HEAD_LEN_MAX]].concat();
    let (_, ended, read) = play(Handshake::connect(&proxy("http://h:1"), &name()), &answers, 1000);
    assert_eq!(ended.err(), Some(ProxyError::Malformed));
    assert!(read <= HEAD_LEN_MAX + 4, "{read}");
}

#[test]
fn a_relay_is_where_the_proxy_says_or_at_the_proxy_itself() {
    let associate = |reply: &[u8]| {
        let answers = [b"\x05\0", reply].concat();
        let (sent, ended, _) = play(Handshake::associate(&proxy("socks5://h:1")), &answers, 1000);
        assert_eq!(sent, b"\x05\x01\0\x05\x03\0\x01\0\0\0\0\0\0", "no address of ours is named");
        ended.map(|handshake| handshake.relay().unwrap())
    };
    for (reply, ip, port) in [
        (&b"\x05\0\0\x01\x0a\0\0\x01\x12\x34"[..], Some("10.0.0.1"), 0x1234),
        (b"\x05\0\0\x01\0\0\0\0\x12\x34", None, 0x1234),
        (b"\x05\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x12\x34", None, 0x1234),
        (b"\x05\0\0\x03\0\x12\x34", None, 0x1234),
        (b"\x05\0\0\x03\x02hi\x12\x34", None, 0x1234),
    ] {
        let relay = associate(reply).unwrap();
        assert_eq!((relay.ip, relay.port), (ip.map(|ip| ip.parse().unwrap()), port));
    }
    assert_eq!(associate(b"\x05\0\0\x01\x0a\0\0\x01\0\0").unwrap_err(), ProxyError::Malformed);
    assert_eq!(associate(b"\x05\x07\0\x01\0\0\0\0\0\0").unwrap_err(), ProxyError::NoDatagrams);
    assert_eq!(Handshake::associate(&proxy("http://h:1")).err(), Some(ProxyError::NoDatagrams));
}

#[test]
fn datagrams_are_wrapped_and_unwrapped() {
    for to in ["1.2.3.4:5", "[2001:db8::1]:5"] {
        let wrapped = wrap(&addr(to), b"payload").unwrap();
        assert_eq!(unwrap(&wrapped), Some((Some(to.parse::<SocketAddr>().unwrap()), &b"payload"[..])));
    }
    let wrapped = wrap(&name(), b"payload").unwrap();
    assert!(wrapped.len() - 7 <= OVERHEAD_MAX);
    assert_eq!(unwrap(&wrapped), Some((None, &b"payload"[..])));
    let mut fragment = wrapped.clone();
    fragment[2] = 1;
    assert_eq!(unwrap(&fragment), None, "a part of a datagram");
    for len in 0..wrapped.len() - 7 {
        assert_eq!(unwrap(&wrapped[..len]), None);
    }
}

#[test]
fn what_is_no_name_is_not_asked_for() {
    let long = "a".repeat(256);
    for name in ["", "a\r\nb", "a b", "a:1", "ä", &long] {
        let to = Destination::Name(name.to_owned(), 1);
        for url in ["socks5://h:1", "http://h:1"] {
            assert_eq!(Handshake::connect(&proxy(url), &to).err(), Some(ProxyError::BadName), "{name}");
        }
        assert!(wrap(&to, b"").is_err());
    }
}

#[test]
fn destinations_are_told_apart() {
    let of = |url: &str| Destination::of_url(&Url::parse(url).unwrap()).unwrap();
    assert_eq!(of("udp://1.2.3.4:5"), addr("1.2.3.4:5"));
    assert_eq!(of("udp://[2001:db8::1]:5"), addr("[2001:db8::1]:5"));
    assert_eq!(of("https://tracker.example/announce"), name());
    assert!(Destination::new("LocalHost.", 1).is_localhost());
    assert!(Destination::new("a.localhost", 1).is_localhost());
    assert!(!name().is_localhost());
}

proptest! {
    #[test]
    fn whatever_a_proxy_says_ends_or_wants_more(answers: Vec<u8>, http: bool, step in 1..64_usize) {
        let proxy = proxy(if http { "http://h:1" } else { "socks5://u:p@h:1" });
        let prefix: &[u8] = if http { b"HTTP/1.1 200" } else { b"\x05\x02\x01\0\x05\0\0" };
        let answers = [prefix, &answers].concat();
        let _ = play(Handshake::connect(&proxy, &name()), &answers, step);
        let _ = unwrap(&answers);
    }
}
