//! A small proxy, SOCKS5 and CONNECT on one port, that does what a test tells it to. It alone knows the names that it is given.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// How it behaves.
#[derive(Clone, Default)]
pub struct Manners {
    /// The user and password that it wants.
    pub login: Option<(&'static str, &'static str)>,
    /// What it answers to every request instead of doing it.
    pub refuses: Option<u8>,
    /// What it sends to whoever connects, and nothing else.
    pub garbage: Option<&'static [u8]>,
    /// Its own answers come one byte at a time.
    pub drips: bool,
    /// It relays datagrams.
    pub relays: bool,
    /// Hosts that it knows by name.
    pub names: BTreeMap<String, SocketAddr>,
}

/// It lives until it is dropped.
pub struct Proxy {
    pub addr: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

struct State {
    manners: Manners,
    /// What was asked for, as `HOST:PORT`; relays as `udp`, datagrams as `udp HOST:PORT`.
    asked: Mutex<Vec<String>>,
    /// How often it was asked for what it does not do.
    refused: AtomicUsize,
}

impl Proxy {
    pub async fn start(manners: Manners) -> Proxy {
        Proxy::start_at("127.0.0.1:0".parse().unwrap(), manners).await
    }

    pub async fn start_at(addr: SocketAddr, manners: Manners) -> Proxy {
        let listener = TcpListener::bind(addr).await.expect("a free port");
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State { manners, asked: Mutex::default(), refused: AtomicUsize::new(0) });
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let _ = serve(stream, &state).await;
                });
            }
        });
        Proxy { addr, state, tasks }
    }

    /// Its URL, with or without `USER:PASSWORD@`.
    pub fn url(&self, scheme: &str, login: &str) -> swarm_engine::Proxy {
        format!("{scheme}://{login}{}", self.addr).parse().unwrap()
    }

    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }

    /// How often it was asked for a relay, and has none.
    pub fn refused(&self) -> usize {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// Ends it with all its connections.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

impl State {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn find(&self, host: &str) -> Option<SocketAddr> {
        host.parse().ok().or_else(|| self.manners.names.get(host).copied())
    }

    async fn say(&self, stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        if !self.manners.drips {
            return stream.write_all(bytes).await;
        }
        stream.set_nodelay(true)?;
        for byte in bytes {
            stream.write_all(&[*byte]).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

async fn serve(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    if let Some(garbage) = state.manners.garbage {
        stream.write_all(garbage).await?;
        let _ = stream.read(&mut [0; 512]).await;
        return Ok(());
    }
    match stream.read_u8().await? {
        5 => socks(stream, state).await,
        _ => connect(stream, state).await,
    }
}

async fn socks(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut methods = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut methods).await?;
    match state.manners.login {
        None => state.say(&mut stream, &[5, 0]).await?,
        Some(_) if !methods.contains(&2) => return state.say(&mut stream, &[5, 0xff]).await,
        Some((user, password)) => {
            state.say(&mut stream, &[5, 2]).await?;
            assert_eq!(stream.read_u8().await?, 1);
            let mut login = Vec::new();
            for _ in 0..2 {
                let mut part = vec![0; stream.read_u8().await?.into()];
                stream.read_exact(&mut part).await?;
                login.push(String::from_utf8(part).unwrap());
            }
            let is_right = login == [user, password];
            state.say(&mut stream, &[1, u8::from(!is_right)]).await?;
            if !is_right {
                return Ok(());
            }
        }
    }
    let mut head = [0; 3];
    stream.read_exact(&mut head).await?;
    let mut address = vec![stream.read_u8().await?];
    let len = match address[0] {
        1 => 4,
        4 => 16,
        _ => {
            address.push(stream.read_u8().await?);
            address[1].into()
        }
    };
    let start = address.len();
    address.resize(start + len + 2, 0);
    stream.read_exact(&mut address[start..]).await?;
    let host = host_of(&address).unwrap().0;
    if let Some(code) = state.manners.refuses {
        state.note(host);
        return state.say(&mut stream, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    }
    match head[1] {
        1 => {
            state.note(host.clone());
            let Some(to) = state.find(&host) else {
                return state.say(&mut stream, &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).await;
            };
            let Ok(mut far) = TcpStream::connect(to).await else {
                return state.say(&mut stream, &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
            };
            // A name of no length as the bound address, which our own client takes, and other libraries do not.
            let bound: &[u8] =
                if address[0] == 3 { &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0] } else { &[5, 0, 0, 3, 0, 0, 0] };
            state.say(&mut stream, bound).await?;
            copy_bidirectional(&mut stream, &mut far).await.map(drop)
        }
        3 if state.manners.relays => {
            assert_eq!(host, "0.0.0.0:0", "no address of the client's is named");
            state.note("udp".to_owned());
            relay(stream, state).await
        }
        _ => {
            state.refused.fetch_add(1, Ordering::Relaxed);
            state.say(&mut stream, &[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]).await
        }
    }
}

async fn relay(mut control: TcpStream, state: &State) -> std::io::Result<()> {
    let (inner, outer) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    let outer_v6 = UdpSocket::bind("[::1]:0").await?;
    let [high, low] = inner.local_addr()?.port().to_be_bytes();
    // An empty address: the proxy's own.
    state.say(&mut control, &[5, 0, 0, 1, 0, 0, 0, 0, high, low]).await?;
    let (mut from_client, mut from_others, mut from_v6) = (vec![0; 4096], vec![0; 4096], vec![0; 4096]);
    let mut client = None;
    loop {
        tokio::select! {
            got = inner.recv_from(&mut from_client) => {
                let (len, from) = got?;
                client = Some(from);
                let (host, skip) = host_of(&from_client[3..len]).unwrap();
                state.note(format!("udp {host}"));
                if let Some(to) = state.find(&host) {
                    let outer = if to.is_ipv4() { &outer } else { &outer_v6 };
                    outer.send_to(&from_client[3 + skip..len], to).await?;
                }
            }
            got = outer.recv_from(&mut from_others) => {
                let (len, SocketAddr::V4(from)) = got? else { continue };
                let head = [&[0, 0, 0, 1], &from.ip().octets()[..], &from.port().to_be_bytes()].concat();
                if let Some(client) = client {
                    // What is a part of a datagram is none.
                    inner.send_to(&[&[0, 0, 1], &head[3..], b"a part"].concat(), client).await?;
                    inner.send_to(&[&head, &from_others[..len]].concat(), client).await?;
                }
            }
            got = outer_v6.recv_from(&mut from_v6) => {
                let (len, SocketAddr::V6(from)) = got? else { continue };
                let head = [&[0, 0, 0, 4], &from.ip().octets()[..], &from.port().to_be_bytes()].concat();
                if let Some(client) = client {
                    inner.send_to(&[&head, &from_v6[..len]].concat(), client).await?;
                }
            }
            end = control.read_u8() => return end.map(drop),
        }
    }
}

/// The host and port of a SOCKS address, and its length.
fn host_of(bytes: &[u8]) -> Option<(String, usize)> {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    match bytes.first()? {
        1 => {
            let ip = std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[1..5]).unwrap());
            Some((format!("{ip}:{}", port(5)), 7))
        }
        4 => {
            let ip = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[1..17]).unwrap());
            Some((format!("[{ip}]:{}", port(17)), 19))
        }
        _ => {
            let end = 2 + usize::from(bytes[1]);
            let name = String::from_utf8(bytes[2..end].to_vec()).unwrap();
            Some((format!("{name}:{}", port(end)), end + 2))
        }
    }
}

async fn connect(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut head = vec![b'C'];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let forwarded = target.strip_prefix("http://").map(|url| url.split_once('/').unwrap());
    let host = forwarded.map_or(target, |(host, _)| host).to_owned();
    if let Some((user, password)) = state.manners.login {
        use base64::Engine as _;
        let login = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
        if !head.contains(&format!("Proxy-Authorization: Basic {login}\r\n")) {
            return state.say(&mut stream, b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n").await;
        }
    }
    state.note(host.clone());
    let far = match state.find(&host) {
        Some(to) if forwarded.is_some() || head.starts_with("CONNECT ") => TcpStream::connect(to).await.ok(),
        _ => None,
    };
    let Some(mut far) = far else {
        return state.say(&mut stream, b"HTTP/1.1 502 No\r\n\r\n").await;
    };
    if let Some((_, path)) = forwarded {
        let (first, fields) = head.split_once("\r\n").unwrap();
        let method = first.split(' ').next().unwrap();
        far.write_all(format!("{method} /{path} HTTP/1.1\r\n{fields}").as_bytes()).await?;
        return forward_answer(far, stream).await;
    }
    state.say(&mut stream, b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut far).await.map(drop)
}

/// Passes one answer on, and hangs up.
async fn forward_answer(mut far: TcpStream, mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(far.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; len.parse().unwrap()];
    far.read_exact(&mut body).await?;
    let (first, fields) = head.split_once("\r\n").unwrap();
    stream.write_all(format!("{first}\r\nConnection: close\r\n{fields}").as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}
