//! A tracker that does exactly what a test tells it to, byte for byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use url::Url;

/// What is written to a connection after its request.
#[derive(Clone)]
pub enum Say {
    /// These bytes, and the end.
    All(Vec<u8>),
    /// These bytes, then the last ones again and again until the client goes.
    ForEver { first: Vec<u8>, then: Vec<u8>, pause: Duration },
    /// Nothing; the connection stays open.
    Nothing,
}

impl Say {
    /// A response with this status, these headers (each ended by CRLF), and this body.
    pub fn response(status: &str, headers: &str, body: &[u8]) -> Say {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Say::All([head.as_bytes(), body].concat())
    }

    pub fn ok(body: impl AsRef<[u8]>) -> Say {
        Say::response("200 OK", "", body.as_ref())
    }

    pub fn redirect(to: &str) -> Say {
        Say::response("302 Found", &format!("Location: {to}\r\n"), b"")
    }
}

/// A reply with the usual interval and these peers.
pub fn peers(peers: &[SocketAddr]) -> Vec<u8> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in peers {
        match peer {
            SocketAddr::V4(peer) => {
                v4.extend(peer.ip().octets().into_iter().chain(peer.port().to_be_bytes()))
            }
            SocketAddr::V6(peer) => {
                v6.extend(peer.ip().octets().into_iter().chain(peer.port().to_be_bytes()))
            }
        }
    }
    let mut reply = b"d8:intervali1800e5:peers".to_vec();
    reply.extend(format!("{}:", v4.len()).bytes().chain(v4));
    reply.extend(format!("6:peers6{}:", v6.len()).bytes().chain(v6));
    reply.push(b'e');
    reply
}

/// A tracker that lives as long as the test's runtime.
pub struct Scripted {
    pub addr: SocketAddr,
    requests: mpsc::UnboundedReceiver<Url>,
}

impl Scripted {
    /// Answers each request with what `script` says to it and to how many came before.
    pub async fn start(ip: &str, script: impl FnMut(&Url, usize) -> Say + Send + 'static) -> Scripted {
        let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let (told, requests) = mpsc::unbounded_channel();
        let script = Arc::new(Mutex::new((script, 0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, told) = (Arc::clone(&script), told.clone());
                let decide = move |url: Url| {
                    let (script, before) = &mut *script.lock().expect("no script panics");
                    let say = script(&url, *before);
                    *before += 1;
                    let _ = told.send(url);
                    say
                };
                tokio::spawn(converse(stream, addr, decide));
            }
        });
        Scripted { addr, requests }
    }

    /// One that says the same to everybody.
    pub async fn always(ip: &str, say: Say) -> Scripted {
        Scripted::start(ip, move |_, _| say.clone()).await
    }

    /// The URL of this path here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The next requests up to one with this event.
    pub async fn until_event(&mut self, event: &str) -> Vec<Url> {
        let mut requests: Vec<Url> = Vec::new();
        while requests.last().is_none_or(|url| parameter(url, "event").as_deref() != Some(event)) {
            requests.push(self.request().await);
        }
        requests
    }

    /// The next request, as a URL.
    pub async fn request(&mut self) -> Url {
        self.requests.recv().await.expect("the tracker runs")
    }
}

/// The value of a parameter of a request.
pub fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn converse(mut stream: TcpStream, addr: SocketAddr, decide: impl FnOnce(Url) -> Say) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8_lossy(&request);
    let target = request.split(' ').nth(1).expect("a request has a target");
    let url = Url::parse(&format!("http://{addr}{target}")).expect("a target is part of a URL");
    match decide(url) {
        Say::All(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Say::ForEver { first, then, pause } => {
            let _ = stream.write_all(&first).await;
            while stream.write_all(&then).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        }
        Say::Nothing => {}
    }
    // Until the client goes; it would lose what it has not read if this end went first.
    let _ = stream.read(&mut [0; 64]).await;
}
