//! libutp as a program: carries connections between TCP and uTP.
//!
//! `libutp_relay from-utp LISTEN TO` accepts over uTP and dials `TO` over TCP, `to-utp` does the reverse. It says
//! `listening`, and what each connection carried.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use libutp_rs2::UtpUdpContext;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [direction, listen, to] = &args[..] else {
        return Err("usage: libutp_relay from-utp|to-utp LISTEN TO".into());
    };
    let (listen, to) = (listen.parse()?, to.parse()?);
    // libutp is used by one thread at a time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        match direction.as_str() {
            "from-utp" => from_utp(listen, to).await,
            "to-utp" => to_utp(listen, to).await,
            other => Err(format!("{other} is no direction").into()),
        }
    })
}

async fn from_utp(listen: SocketAddr, to: SocketAddr) -> Result<(), Error> {
    let utp = UtpUdpContext::new_udp(listen).await?;
    println!("listening");
    loop {
        let stream = utp.accept().await?;
        spawn_local(async move {
            if let Ok(tcp) = TcpStream::connect(to).await {
                carry(tcp, stream).await;
            }
        });
    }
}

async fn to_utp(listen: SocketAddr, to: SocketAddr) -> Result<(), Error> {
    let tcp = TcpListener::bind(listen).await?;
    let utp: Arc<UtpUdpContext> = UtpUdpContext::new_udp(SocketAddr::new(listen.ip(), 0)).await?;
    println!("listening");
    loop {
        let (connection, _) = tcp.accept().await?;
        let stream = utp.connect(to).await?;
        spawn_local(carry(connection, stream));
    }
}

/// Carries bytes both ways until either side ends.
async fn carry(tcp: TcpStream, utp: impl AsyncRead + AsyncWrite) {
    let (from_tcp, to_tcp) = tcp.into_split();
    let (from_utp, to_utp) = tokio::io::split(utp);
    tokio::select! {
        sent = copy(from_tcp, to_utp) => println!("sent {sent:?}"),
        received = copy(from_utp, to_tcp) => println!("received {received:?}"),
    }
}

/// As `tokio::io::copy`, but it does not flush, which this binding of libutp refuses.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<u64> {
    let (mut buffer, mut copied) = (vec![0; 64 << 10], 0);
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..length]).await?;
        copied += length as u64;
    }
}
