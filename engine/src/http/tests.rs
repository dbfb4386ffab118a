use super::client::HEAD_LEN_MAX;
use super::*;
use flate2::{Compress, Compression, FlushCompress};
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: usize = 1 << 20;
const MUCH_TIME: Duration = Duration::from_secs(30);

/// A server that reads each request up to its empty line and leaves the rest to `answer`.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            tokio::spawn(answer(stream));
        }
    });
    addr
}

async fn serve_bytes(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    serve(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0]).await;
        }
    })
    .await
}

/// A server that sends these bytes, then others again and again, and tells when the client has gone.
async fn serve_for_ever(
    first: &[u8],
    then: Vec<u8>,
    pause: Duration,
) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (gone, is_gone) = tokio::sync::mpsc::unbounded_channel();
    let first = first.to_vec();
    let addr = serve(move |mut stream| {
        let (first, then, gone) = (first.clone(), then.clone(), gone.clone());
        async move {
            let _ = stream.write_all(&first).await;
            while stream.write_all(&then).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
            let _ = gone.send(());
        }
    });
    (addr.await, is_gone)
}

fn request<'a>(url: &str, binding: &'a Binding, timeout: Duration) -> Request<'a> {
    let url = Url::parse(url).unwrap();
    Request {
        url,
        origin: UrlOrigin::Typed,
        public_only: false,
        family: None,
        filter: Arc::default(),
        binding,
        timeout,
        body_len_max: LIMIT,
    }
}

async fn get_from(addr: SocketAddr) -> Result<Answer, HttpError> {
    get(&request(&format!("http://{addr}/announce"), &Binding::default(), MUCH_TIME)).await
}

fn reason(result: Result<Answer, HttpError>) -> String {
    result.expect_err("it fails").to_string()
}

fn with_body(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A gzip header, and a piece of its data that may be repeated: each gives as many zeros as asked for.
fn zeros_to_repeat(count: usize) -> (Vec<u8>, Vec<u8>) {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255].to_vec();
    let mut block = Vec::with_capacity(count / 100 + 100);
    Compress::new(Compression::best(), false)
        .compress_vec(&vec![0; count], &mut block, FlushCompress::Full)
        .unwrap();
    (header, block)
}

#[tokio::test]
async fn a_body_arrives_with_its_servers_address() {
    let addr = serve_bytes(with_body("", b"hello")).await;
    let answer = get_from(addr).await.unwrap();
    assert_eq!(
        (answer.status, answer.body.as_slice(), answer.server),
        (StatusCode::OK, b"hello".as_slice(), addr)
    );
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let addr = serve_bytes(with_body("", &vec![7; LIMIT])).await;
    assert_eq!(get_from(addr).await.unwrap().body.len(), LIMIT);
    let addr = serve_bytes(with_body("", &vec![7; LIMIT + 1])).await;
    assert!(reason(get_from(addr).await).contains("longer than 1048576 bytes"));
}

#[tokio::test]
async fn an_endless_body_is_left_at_the_limit() {
    let (addr, mut gone) =
        serve_for_ever(b"HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 65_536], Duration::ZERO).await;
    assert!(reason(get_from(addr).await).contains("longer than"));
    gone.recv().await.unwrap();
}

#[tokio::test]
async fn compressed_bodies_are_read() {
    let (mut body, zeros) = zeros_to_repeat(1000);
    body.extend_from_slice(&zeros);
    // An empty last block, the checksum of a thousand zeros, their number.
    let mut sum = flate2::Crc::new();
    sum.update(&[0; 1000]);
    body.extend([3, 0].into_iter().chain(sum.sum().to_le_bytes()).chain(1000u32.to_le_bytes()));
    let addr = serve_bytes(with_body("Content-Encoding: gzip\r\n", &body)).await;
    assert_eq!(get_from(addr).await.unwrap().body, [0; 1000]);

    let end = body.len() - 6;
    body[end] ^= 1;
    let addr = serve_bytes(with_body("Content-Encoding: gzip\r\n", &body)).await;
    reason(get_from(addr).await);
    let addr = serve_bytes(with_body("Content-Encoding: gzip\r\n", b"not compressed at all")).await;
    reason(get_from(addr).await);
}

#[tokio::test]
async fn a_bomb_is_left_at_the_limit() {
    let (mut head, block) = zeros_to_repeat(16 << 20);
    head.splice(0..0, *b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n");
    let (addr, mut gone) = serve_for_ever(&head, block, Duration::ZERO).await;
    assert!(reason(get_from(addr).await).contains("longer than"));
    gone.recv().await.unwrap();
}

#[tokio::test]
async fn time_counts_as_a_whole() {
    // Each byte comes in time, all of them do not.
    let (addr, mut gone) =
        serve_for_ever(b"HTTP/1.1 200 OK\r\n\r\n", vec![b'x'], Duration::from_millis(5)).await;
    let binding = Binding::default();
    let request = request(&format!("http://{addr}/"), &binding, Duration::from_millis(200));
    assert_eq!(reason(get(&request).await), "no answer in time");
    gone.recv().await.unwrap();
}

/// How many bytes a server may send that never comes to the point: what is allowed, and what the system holds
/// on the way.
const ENDLESS_LEN_MAX: usize = HEAD_LEN_MAX + (16 << 20);

/// What a server says again and again after `first`, until the client leaves, and how many bytes that are.
async fn endless(first: &[u8], then: &[u8]) -> (HttpError, usize) {
    let (gone, mut is_gone) = tokio::sync::mpsc::unbounded_channel();
    let (first, then) = (first.to_vec(), then.repeat(100));
    let addr = serve(move |mut stream| {
        let (first, then, gone) = (first.clone(), then.clone(), gone.clone());
        async move {
            let mut sent = 0;
            let _ = stream.write_all(&first).await;
            while sent <= 2 * ENDLESS_LEN_MAX && stream.write_all(&then).await.is_ok() {
                sent += then.len();
            }
            let _ = gone.send(sent);
        }
    })
    .await;
    let error = get_from(addr).await.unwrap_err();
    (error, is_gone.recv().await.unwrap())
}

#[tokio::test]
async fn endless_interim_answers_are_left() {
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"] {
        let (error, sent) = endless(b"", interim.as_bytes()).await;
        assert!(error.to_string().contains("the answer takes more than 65536 bytes"), "{error}");
        assert!(sent <= ENDLESS_LEN_MAX, "{sent}");
    }
    let few = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20).into_bytes();
    let addr = serve_bytes([few, with_body("", b"hello")].concat()).await;
    assert_eq!(get_from(addr).await.unwrap().body, b"hello");
}

#[tokio::test]
async fn endless_heads_and_empty_bodies_are_left() {
    let (_, sent) = endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n").await;
    assert!(sent <= ENDLESS_LEN_MAX, "{sent}");
    // Stored blocks of nothing: compressed data without end, and not a byte in it.
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let head = [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".as_slice(), &gzip].concat();
    let (error, sent) = endless(&head, &[0, 0, 0, 0xff, 0xff]).await;
    assert!(error.to_string().contains("longer than"), "{error}");
    assert!(sent <= ENDLESS_LEN_MAX, "{sent}");
    // Chunks that say much and hold little.
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (_, sent) = endless(chunked, b"1;an=extension-that-is-long\r\nx\r\n").await;
    assert!(sent <= ENDLESS_LEN_MAX, "{sent}");
}

#[tokio::test]
async fn names_and_passwords_are_sent() {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(&with_body("", b"hello")).await.unwrap();
        heard.send(String::from_utf8(request).unwrap()).unwrap();
    });
    let url = format!("http://me:p%40ss@{addr}/announce?a=%20b&c={{}}#fragment");
    assert_eq!(get(&request(&url, &Binding::default(), MUCH_TIME)).await.unwrap().body, b"hello");
    let heard = hears.recv().await.unwrap();
    assert!(heard.starts_with("GET /announce?a=%20b&c={} HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains(&format!("host: {addr}\r\n")), "{heard}");
    assert!(heard.contains("authorization: Basic bWU6cEBzcw==\r\n"), "{heard}");
}

#[tokio::test]
async fn redirects_are_followed_a_few_times() {
    let last = serve_bytes(with_body("", b"here")).await;
    let to = |location: &str| serve_bytes(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n"));
    let first = to(&format!("http://{last}/elsewhere")).await;
    let answer = get_from(first).await.unwrap();
    assert_eq!((answer.body.as_slice(), answer.server), (b"here".as_slice(), last));

    assert_eq!(reason(get_from(to("/announce?again").await).await), "more than 5 redirects");
    let odd =
        ["ftp://127.0.0.1/announce", "file:///etc/passwd", "udp://127.0.0.1:6969/announce", "http://", "//["];
    for location in odd {
        let said = reason(get_from(to(location).await).await);
        assert!(said.starts_with("it redirects to"), "{location}: {said}");
    }
    assert_eq!(get_from(serve_bytes("HTTP/1.1 302 Found\r\n\r\n").await).await.unwrap().status, 302);
}

#[tokio::test]
async fn no_addresses_are_asked_but_those_that_were_checked() {
    let addr = serve_bytes(with_body("", b"hello")).await;
    let binding = Binding::default();
    let url = format!("http://no.such.host.invalid:{}/", addr.port());
    let request = request(&url, &binding, MUCH_TIME);
    assert_eq!(client::send(&request, &request.url, vec![addr.into()]).await.unwrap().server, addr);
}

#[test]
fn a_name_leads_only_where_it_may() {
    let binding = Binding::default();
    let url = "http://tracker.example/x";
    let addrs =
        |list: &[&str]| list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 80)).collect::<Vec<_>>();
    let (typed, public) = (request(url, &binding, MUCH_TIME), "93.184.216.34");
    let named = Request { origin: UrlOrigin::Metainfo, ..request(url, &binding, MUCH_TIME) };
    let found = addrs(&["127.0.0.1", public, "169.254.1.1", "::1", "fe80::1", "0.0.0.0"]);
    let all_of = |request: &Request<'_>, from: Option<&str>| {
        allowed(request, &request.url, from.map(|ip| ip.parse().unwrap()), &found).unwrap()
    };
    assert_eq!(all_of(&named, None), addrs(&[public]));
    assert_eq!(all_of(&typed, None), addrs(&["127.0.0.1", public, "169.254.1.1", "::1", "fe80::1"]));
    assert_eq!(all_of(&typed, Some("1.1.1.1")), addrs(&[public]));

    let local = addrs(&["127.0.0.1", "::1"]);
    let verdict = |request: &Request<'_>, from: Option<IpAddr>| allowed(request, &request.url, from, &local);
    assert!(matches!(verdict(&named, None), Err(HttpError::Forbidden(Forbidden::Loopback(_)))));
    let from = Some("1.1.1.1".parse().unwrap());
    assert!(matches!(verdict(&typed, from), Err(HttpError::Forbidden(Forbidden::Redirect(_)))));

    let strict = Request { public_only: true, ..request(url, &binding, MUCH_TIME) };
    let found = [found, addrs(&["10.0.0.1", "fd00::1", "::ffff:127.0.0.1"])].concat();
    let of = |request: &Request<'_>| allowed(request, &request.url, None, &found).unwrap();
    assert_eq!(of(&strict), addrs(&[public]));
    assert!(matches!(verdict(&strict, None), Err(HttpError::Forbidden(Forbidden::Local(_)))));
}

/// However a URL writes an address of this machine, and whatever leads there.
#[tokio::test]
async fn what_is_fetched_for_strangers_is_never_of_this_machine() {
    let addr = serve_bytes(with_body("", b"secret")).await;
    let port = addr.port();
    let to_it = serve_bytes(format!("HTTP/1.1 302 Found\r\nLocation: http://{addr}/\r\n\r\n")).await;
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ];
    let binding = Binding::default();
    for host in hosts {
        let url = format!("http://{host}:{port}/announce").parse().unwrap();
        let refused = fetch(&url, LIMIT, true, &binding).await.unwrap_err();
        assert!(matches!(refused, Error::LocalAddress { .. }), "{host}: {refused:?}");
    }
    let url = format!("http://{to_it}/").parse().unwrap();
    assert_eq!(fetch(&url, LIMIT, false, &binding).await.unwrap(), b"secret");
}

#[test]
fn a_family_uses_its_own_addresses() {
    let binding = Binding::default();
    let typed = request("http://tracker.example/announce", &binding, MUCH_TIME);
    let found: Vec<SocketAddr> = vec!["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()];
    for (family, only) in [(Family::V4, 0), (Family::V6, 1)] {
        let request =
            Request { family: Some(family), ..request("http://tracker.example/", &binding, MUCH_TIME) };
        assert_eq!(allowed(&request, &request.url, None, &found).unwrap(), [found[only]]);
        let other = &found[1 - only..=1 - only];
        assert_eq!(allowed(&request, &request.url, None, other), Err(HttpError::NoAddress(family)));
    }
    assert_eq!(allowed(&typed, &typed.url, None, &found).unwrap(), found);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_go_through_the_given_device() {
    let url = format!("http://{}/", serve_bytes(with_body("", b"hello")).await);
    let through = |device: &str| Binding { device: Some(device.to_owned()), ..Default::default() };
    assert_eq!(get(&request(&url, &through("lo"), MUCH_TIME)).await.unwrap().body, b"hello");
    reason(get(&request(&url, &through("no-such-device"), MUCH_TIME)).await);
}
