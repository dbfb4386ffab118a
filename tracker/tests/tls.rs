//! The tracker over HTTPS.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{Client, Host, announce, impatient};
use swarm_tracker::{Config, Handle, Server, Tls, TlsError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

for_both_families![
    announces_are_served_over_https,
    plain_and_secure_addresses_share_their_swarms,
    who_speaks_no_tls_harms_nobody,
    half_a_handshake_is_cut_off_in_time,
    the_certificate_can_be_replaced,
];

/// A certificate for `localhost`, in both forms that the tests need.
struct Certificate {
    pem: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new() -> Certificate {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        Certificate {
            pem: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            der: made.cert.der().clone(),
        }
    }

    fn tls(&self) -> Tls {
        Tls::from_pem(self.pem.as_bytes(), self.key.as_bytes()).expect("they fit each other")
    }

    /// A connection of a client that trusts this certificate and no other.
    async fn connect(&self, addr: SocketAddr) -> std::io::Result<Client<TlsStream<TcpStream>>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(addr).await.expect("the tracker accepts");
        let name = "localhost".try_into().expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(Client::new)
    }
}

fn start(host: Host, config: Config, certificate: &Certificate) -> Handle {
    let addr = [SocketAddr::new(host.ip(), 0)];
    let server = Server::bind(config, &addr).and_then(|server| server.bind_tls(&addr, certificate.tls()));
    server.expect("free ports").spawn()
}

async fn announces_are_served_over_https(host: Host) {
    let certificate = Certificate::new();
    let tracker = start(host, Config::default(), &certificate);
    let mut client = certificate.connect(tracker.local_tls_addrs()[0]).await.unwrap();
    assert_eq!(client.get(&announce(1001, "")).await.announce().unwrap().external_ip, Some(host.ip()));
    assert_eq!(client.get(&announce(1002, "")).await.announce().unwrap().peers.len(), 1);
    tracker.stop().await;
    client.closed().await;
}

async fn plain_and_secure_addresses_share_their_swarms(host: Host) {
    let certificate = Certificate::new();
    let tracker = start(host, Config::default(), &certificate);
    let mut plain = Client::new(TcpStream::connect(tracker.local_addrs()[0]).await.unwrap());
    plain.get(&announce(1001, "")).await;
    let mut secure = certificate.connect(tracker.local_tls_addrs()[0]).await.unwrap();
    let peers = secure.get(&announce(1002, "")).await.announce().unwrap().peers;
    assert_eq!(peers[0].addr, SocketAddr::new(host.ip(), 1001));
}

async fn who_speaks_no_tls_harms_nobody(host: Host) {
    let certificate = Certificate::new();
    let tracker = start(host, Config::default(), &certificate);
    let addr = tracker.local_tls_addrs()[0];
    let mut plain = Client::new(TcpStream::connect(addr).await.unwrap());
    plain.send("GET /health HTTP/1.1\r\n\r\n").await;
    let said = plain.closed().await;
    assert!(!said.starts_with(b"HTTP"), "{}", said.escape_ascii());
    let mut client = certificate.connect(addr).await.unwrap();
    assert_eq!(client.get("/health").await.status, 200);
}

async fn half_a_handshake_is_cut_off_in_time(host: Host) {
    let certificate = Certificate::new();
    let tracker = start(host, impatient(), &certificate);
    let mut client = Client::new(TcpStream::connect(tracker.local_tls_addrs()[0]).await.unwrap());
    client.send(b"\x16\x03\x01").await;
    client.closed().await;
}

async fn the_certificate_can_be_replaced(host: Host) {
    let (old, new) = (Certificate::new(), Certificate::new());
    let tracker = start(host, Config::default(), &old);
    let addr = tracker.local_tls_addrs()[0];
    let mut before = old.connect(addr).await.unwrap();
    tracker.set_tls(new.tls());
    assert!(old.connect(addr).await.is_err());
    assert_eq!(new.connect(addr).await.unwrap().get("/health").await.status, 200);
    assert_eq!(before.get("/health").await.status, 200, "who is connected stays");
}

#[test]
fn what_does_not_fit_is_named() {
    let (one, other) = (Certificate::new(), Certificate::new());
    let from = |pem: &str, key: &str| Tls::from_pem(pem.as_bytes(), key.as_bytes());
    assert!(matches!(from(&one.pem, &other.key), Err(TlsError::Unusable(_))));
    assert!(matches!(from("", &one.key), Err(TlsError::Unusable(_))));
    assert!(matches!(from(&one.pem, &one.pem), Err(TlsError::Key(_))));
    assert!(matches!(from("-----BEGIN CERTIFICATE-----\n!", &one.key), Err(TlsError::Certificate(_))));
}
