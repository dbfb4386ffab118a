//! Port mapping of sessions, with a gateway on loopback that does as the test says.

mod common;

use common::tracker::{Say, Scripted, parameter, peers};
use common::{Swarm, session_on};
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_engine::{DhtOptions, Event, MappingMethod, Session, SessionEvents, SessionOptions, Transport};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

const OUTER_PORT: u16 = 40_123;

/// Answers PCP. Others never hear of it.
struct Gateway {
    addr: SocketAddr,
    asked: mpsc::UnboundedReceiver<Vec<u8>>,
}

/// What was asked: the lifetime and the internal port.
fn lifetime_and_port(request: &[u8]) -> (u32, u16) {
    let lifetime = u32::from_be_bytes(request[4..8].try_into().unwrap());
    (lifetime, u16::from_be_bytes(request[40..42].try_into().unwrap()))
}

impl Gateway {
    /// One that answers each datagram with what `script` makes of it, if it makes anything.
    async fn start(script: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Gateway {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let addr = socket.local_addr().unwrap();
        let (told, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 1_200];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let _ = told.send(buffer[..len].to_vec());
                if let Some(answer) = script(&buffer[..len]) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Gateway { addr, asked }
    }

    /// One that grants [`OUTER_PORT`].
    async fn granting() -> Gateway {
        Gateway::start(granted).await
    }
}

/// The answer of PCP that grants [`OUTER_PORT`]; nothing to NAT-PMP.
fn granted(request: &[u8]) -> Option<Vec<u8>> {
    let mut answer = request.to_vec();
    answer.get_mut(8..24)?.fill(0);
    answer[1] |= 0x80;
    if answer.len() == 60 {
        answer[42..44].copy_from_slice(&OUTER_PORT.to_be_bytes());
        answer[44..].copy_from_slice(&std::net::Ipv4Addr::new(203, 0, 113, 5).to_ipv6_mapped().octets());
    }
    Some(answer)
}

fn behind(gateway: &Gateway, change: impl FnOnce(SessionOptions) -> SessionOptions) -> Session {
    session_on("127.0.0.1", |options| change(options.gateway(gateway.addr)))
}

async fn mapping(events: &mut SessionEvents) -> Event {
    loop {
        let (id, event) = events.next().await.expect("the session runs");
        if matches!(event, Event::PortMapped { .. } | Event::PortNotMapped { .. }) {
            assert_eq!(id, None, "of no torrent");
            return event;
        }
    }
}

#[tokio::test]
async fn trackers_are_told_the_port_that_the_world_sees_and_the_end_takes_it_away() {
    let swarm = Swarm::new("127.0.0.1").await;
    let mut gateway = Gateway::granting().await;
    let session = behind(&gateway, |options| options.utp(false));
    let ours = session.listen_addrs()[0].port();
    let mut events = session.events();
    let mapped = mapping(&mut events).await;
    let Event::PortMapped { transport, port, method, ip, external_port } = mapped else {
        panic!("{mapped:?}")
    };
    assert_eq!(
        (transport, port, method, external_port),
        (Transport::Tcp, ours, MappingMethod::Pcp, OUTER_PORT)
    );
    assert_eq!(ip, Some("203.0.113.5".parse().unwrap()));

    let mut tracker = Scripted::always("127.0.0.1", Say::ok(peers(&[swarm.seeder_addr()]))).await;
    let torrent = session.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
    assert_eq!(parameter(&tracker.request().await, "port"), Some(OUTER_PORT.to_string()));
    torrent.completed().await.unwrap();
    session.stop().await;

    let mut asked = Vec::new();
    while let Ok(request) = gateway.asked.try_recv() {
        asked.push(lifetime_and_port(&request));
    }
    assert_eq!(asked, [(3_600, ours), (0, ours)], "our port only, once, and away at the end");
}

#[tokio::test]
async fn without_tcp_only_udp_is_mapped_and_its_port_is_told() {
    let swarm = Swarm::new("127.0.0.1").await;
    let mut gateway = Gateway::granting().await;
    let session = behind(&gateway, |options| options.tcp(false));
    let mapped = mapping(&mut session.events()).await;
    assert!(
        matches!(mapped, Event::PortMapped { transport: Transport::Udp, external_port: OUTER_PORT, .. }),
        "{mapped:?}"
    );
    let mut tracker = Scripted::always("127.0.0.1", Say::ok(peers(&[swarm.seeder_addr()]))).await;
    let _torrent = session.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
    assert_eq!(parameter(&tracker.request().await, "port"), Some(OUTER_PORT.to_string()));
    session.stop().await;
    let udp = 17;
    while let Ok(request) = gateway.asked.try_recv() {
        assert_eq!(request[36], udp, "the protocol");
    }
}

#[tokio::test]
async fn a_torrent_that_was_there_before_announces_again_when_the_port_is_another() {
    let swarm = Swarm::new("127.0.0.1").await;
    let (open, opened) = tokio::sync::watch::channel(false);
    // It says nothing until it may.
    let gateway = Gateway::start(move |request| granted(request).filter(|_| *opened.borrow())).await;
    let session = behind(&gateway, |options| options);
    let ours = session.listen_addrs()[0].port();
    let mut tracker = Scripted::always("127.0.0.1", Say::ok(peers(&[swarm.seeder_addr()]))).await;
    let _torrent = session.add(swarm.download(&[tracker.url("/announce")])).await.unwrap();
    assert_eq!(parameter(&tracker.request().await, "port"), Some(ours.to_string()));
    open.send_replace(true);
    loop {
        let port = parameter(&tracker.request().await, "port").unwrap();
        if port == OUTER_PORT.to_string() {
            break;
        }
        assert_eq!(port, ours.to_string());
    }
    session.stop().await;
}

#[tokio::test]
async fn udp_is_mapped_where_the_dht_or_utp_listens_on_the_same_port() {
    for has_dht in [true, false] {
        let gateway = Gateway::granting().await;
        let session = behind(&gateway, |options| match has_dht {
            true => options.utp(false).dht(DhtOptions::bootstrap(Vec::<String>::new())),
            false => options.utp(true),
        });
        let mut events = session.events();
        let mut transports = Vec::new();
        for _ in 0..2 {
            let mapped = mapping(&mut events).await;
            let Event::PortMapped { transport, port, .. } = mapped else { panic!("{mapped:?}") };
            assert_eq!(port, session.listen_addrs()[0].port());
            transports.push(transport);
        }
        transports.sort();
        assert_eq!(transports, [Transport::Tcp, Transport::Udp]);
        session.stop().await;
    }
}

#[tokio::test]
async fn a_gateway_that_refuses_is_named_and_the_transfer_goes_on() {
    let swarm = Swarm::new("127.0.0.1").await;
    let gateway = Gateway::start(|request| {
        let mut answer = request.to_vec();
        (answer[1], answer[3]) = (answer[1] | 0x80, 2);
        if request[0] == 0 {
            Some(vec![0, request[1] | 0x80, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
        } else {
            Some(answer)
        }
    })
    .await;
    let session = behind(&gateway, |options| options);
    let mut events = session.events();
    let failed = mapping(&mut events).await;
    let Event::PortNotMapped { reason, .. } = failed else { panic!("{failed:?}") };
    assert!(reason.starts_with("PCP: refused (not authorized); NAT-PMP: "), "{reason}");
    let torrent = session.add(swarm.download(&[]).peers([swarm.seeder_addr()])).await.unwrap();
    torrent.completed().await.unwrap();
    session.stop().await;
}

#[tokio::test]
async fn who_wants_no_mapping_asks_nobody() {
    let mut gateway = Gateway::granting().await;
    let session = behind(&gateway, |options| options.port_mapping(false));
    session.stop().await;
    assert!(gateway.asked.try_recv().is_err());
}
