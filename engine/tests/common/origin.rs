//! A web server for tests: it serves files from memory, well or badly.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// As it was sent, with its query.
    pub path: String,
    /// First and last byte.
    pub range: Option<(usize, usize)>,
    pub headers: BTreeMap<String, String>,
    /// Which connection it came over, counted from zero.
    pub connection: usize,
    /// Who asked.
    pub from: IpAddr,
}

/// What is sent back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The length that is claimed, if it is not the body's.
    pub claimed_len: Option<usize>,
    /// The body comes in chunks, without a length.
    pub chunked: bool,
    /// The connection is closed afterwards.
    pub close: bool,
    /// These bytes come instead of all else, and the connection is closed.
    pub raw: Option<Vec<u8>>,
    /// Nothing at all comes, and the connection stays open.
    pub silent: bool,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
            claimed_len: None,
            chunked: false,
            close: false,
            raw: None,
            silent: false,
        }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Answer {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same, but the connection ends after so many bytes of the body.
    pub fn cut_to(mut self, len: usize) -> Answer {
        self.claimed_len = Some(self.body.len());
        self.body.truncate(len);
        self.close = true;
        self
    }

    /// The part of a file that is asked for, as a good server sends it.
    pub fn part(asked: &Asked, file: &[u8]) -> Answer {
        let Some((first, last)) = asked.range else { return Answer::new(200, file) };
        if first >= file.len() {
            return Answer::new(416, "").header("content-range", format!("bytes */{}", file.len()));
        }
        let last = last.min(file.len() - 1);
        let range = format!("bytes {first}-{last}/{}", file.len());
        Answer::new(206, &file[first..=last]).header("content-range", range)
    }
}

type Files = BTreeMap<String, Vec<u8>>;
type Handler = dyn Fn(&Asked, &Files) -> Answer + Send + Sync;

/// The server. It ends when this is dropped.
pub struct Origin {
    pub addr: SocketAddr,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

impl Origin {
    /// Serves these files, by their paths as they stand in a request.
    pub async fn of(files: Files) -> Origin {
        Origin::with(files, |asked, files| match files.get(&asked.path) {
            Some(file) => Answer::part(asked, file),
            None => Answer::new(404, "no such file"),
        })
        .await
    }

    /// Answers as the handler says.
    pub async fn with(
        files: Files,
        handler: impl Fn(&Asked, &Files) -> Answer + Send + Sync + 'static,
    ) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (asked, handler, files) = (Arc::default(), Arc::new(handler), Arc::new(files));
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (handler, files, log) = (Arc::clone(&handler), Arc::clone(&files), Arc::clone(&log));
                connections.spawn(async move {
                    let _ = serve(stream, number, &*handler, &files, &log).await;
                });
            }
        });
        Origin { addr, asked, _tasks: tasks }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Bytes that were asked for, by the ranges.
    pub fn bytes_asked(&self) -> usize {
        self.asked().iter().filter_map(|asked| asked.range).map(|(first, last)| last - first + 1).sum()
    }
}

async fn serve(
    stream: TcpStream,
    connection: usize,
    handler: &Handler,
    files: &Files,
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let from = stream.peer_addr()?.ip();
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        let mut words = first.split_whitespace();
        let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let range = headers.get("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        let asked = Asked { method, path, range, headers, connection, from };
        log.lock().unwrap().push(asked.clone());
        let answer = handler(&asked, files);
        if answer.silent {
            std::future::pending::<()>().await;
        }
        if let Some(raw) = answer.raw {
            stream.write_all(&raw).await?;
            return stream.shutdown().await;
        }
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
        answer.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        match answer.chunked {
            true => head.push_str("transfer-encoding: chunked\r\n\r\n"),
            false => {
                let len = answer.claimed_len.unwrap_or(answer.body.len());
                head.push_str(&format!("content-length: {len}\r\n\r\n"));
            }
        }
        stream.write_all(head.as_bytes()).await?;
        if answer.chunked {
            stream.write_all(format!("{:x}\r\n", answer.body.len()).as_bytes()).await?;
            stream.write_all(&answer.body).await?;
            stream.write_all(b"\r\n0\r\n\r\n").await?;
        } else {
            stream.write_all(&answer.body).await?;
        }
        stream.flush().await?;
        if answer.close {
            return stream.shutdown().await;
        }
    }
}
