//! A tracker and a file over HTTPS, trusted by whoever trusts its authority and by nobody else.

mod common;

use common::{Running, bytes, run_ok, swarm, write};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use swarm_tracker::{Config, Server, Tls};

fn a_server_over_https_is_used_if_its_certificate_is_trusted(ip: IpAddr) {
    let here = SocketAddr::new(ip, 0);
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed([ip.to_string()]).unwrap();
    write(dir.path().join("authority.pem"), made.cert.pem());
    let tls = Tls::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _within = runtime.enter();
    let server = Server::bind(Config::default(), &[]).unwrap();
    let server = server.bind_tls(&[here], tls).unwrap().spawn();
    let tracker = format!("https://{}/announce", server.local_tls_addrs()[0]);
    write(dir.path().join("data/file"), bytes(1, 200_000));
    run_ok(dir.path(), ["create", "data/file", "-a", &tracker]);

    let start = |args: &[&str], authority: Option<&str>| {
        let mut command = swarm(dir.path());
        command.args(args).args(["--listen", &here.to_string()]);
        command.envs(authority.map(|path| ("SSL_CERT_FILE", path)));
        Running::spawn(command)
    };
    let mut seed = start(&["seed", "file.meta", "data"], Some("authority.pem"));
    seed.wait_for("checked");
    let mut wary = start(&["get", "file.meta", "-o", "no"], None);
    let said = wary.wait_for("warning")["message"].as_str().unwrap().to_owned();
    assert!(said.starts_with(&tracker) && said.to_lowercase().contains("certificate"), "{said}");
    start(&["get", "file.meta", "-o", "out"], Some("authority.pem")).complete();
    assert!(fs::read(dir.path().join("out/file")).unwrap() == bytes(1, 200_000));

    // What is fetched as a file is no metainfo, which only whoever trusts the server gets to know.
    let fetch = |authority: Option<&str>| {
        let mut command = swarm(dir.path());
        command.args(["show", &tracker.replace("/announce", "/health")]);
        command.envs(authority.map(|path| ("SSL_CERT_FILE", path)));
        String::from_utf8(command.output().unwrap().stderr).unwrap().to_lowercase()
    };
    assert!(fetch(None).contains("certificate"), "{}", fetch(None));
    let trusted = fetch(Some("authority.pem"));
    assert!(trusted.contains("metainfo") && !trusted.contains("certificate"), "{trusted}");
}

#[test]
fn over_ipv4() {
    a_server_over_https_is_used_if_its_certificate_is_trusted(Ipv4Addr::LOCALHOST.into());
}

#[test]
fn over_ipv6() {
    if TcpListener::bind("[::1]:0").is_ok() {
        a_server_over_https_is_used_if_its_certificate_is_trusted(Ipv6Addr::LOCALHOST.into());
    } else {
        eprintln!("skipped: this machine has no IPv6 loopback");
    }
}
