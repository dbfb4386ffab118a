//! What became of a swarm: for the screen, for scripts, and for a publisher's CI.

use super::fault::Fault;
use super::material::Material;
use super::peer::{Peer, Role};
use super::plan::{Outcome, Plan};
use crate::events::seconds;
use crate::selection::listed;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// The whole run. Sizes are in bytes.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub name: String,
    pub bytes_total: u64,
    pub files: usize,
    /// From the first start to the last completion.
    pub seconds: f64,
    /// Whether every copy is complete and identical.
    pub identical: bool,
    /// Whether the source was a web server.
    pub web_seed: bool,
    /// What the source sent.
    pub bytes_from_source: u64,
    /// How many copies that would be.
    pub copies_from_source: f64,
    /// What part that is of all that downloaders received, from 0 to 1.
    pub share_from_source: f64,
    pub peers: Vec<PeerReport>,
    pub banned: Vec<BanReport>,
    pub faults: Vec<FaultReport>,
}

/// One downloader and its copy.
#[derive(Debug, Serialize)]
pub struct PeerReport {
    pub peer: String,
    pub address: SocketAddr,
    pub complete: bool,
    pub identical: bool,
    /// What is wrong with it; null if nothing is.
    pub failure: Option<String>,
    /// From the first start to completion; null if that never came.
    pub seconds: Option<f64>,
    pub bytes_from_source: u64,
    pub bytes_from_peers: u64,
    /// Received and dropped: twice asked for, or no longer wanted.
    pub bytes_wasted: u64,
    /// Received in pieces that did not verify; in version 2 in blocks, where the bad ones could be told apart.
    pub bytes_corrupt: u64,
    /// Pieces that did not verify.
    pub pieces_failed: u64,
    pub faults: Vec<Fault>,
}

/// An address that was banned.
#[derive(Debug, Serialize)]
pub struct BanReport {
    pub address: SocketAddr,
    /// The peer's name, if it is one of the lab's.
    pub peer: Option<String>,
    pub reason: String,
    /// Who banned it.
    pub by: Vec<String>,
}

/// A fault that was asked for.
#[derive(Debug, Serialize)]
pub struct FaultReport {
    pub fault: Fault,
    /// Whether it has happened. In a swarm that is done quickly it may come too late.
    pub took_place: bool,
    /// Its victim, or the peer that was it.
    pub peer: Option<String>,
    /// Whether its victims have complete and identical copies.
    pub survived: bool,
    /// From when it happened until they were complete; null if it did not happen.
    pub seconds: Option<f64>,
}

impl Report {
    /// The report on a swarm that has run, given what is wrong with each copy, if anything.
    pub fn new(
        plan: &Plan,
        material: &Material,
        outcome: &Outcome,
        wrong: &BTreeMap<String, String>,
    ) -> Report {
        let source = outcome.peers.iter().find(|peer| peer.role == Role::Source);
        let counted = || outcome.peers.iter().filter(|peer| peer.is_counted());
        let peers: Vec<PeerReport> =
            counted().map(|peer| PeerReport::new(peer, source, wrong.get(&peer.name))).collect();
        let received: u64 = counted().map(|peer| peer.traffic.bytes_down).sum();
        let of_source = || source.map_or(0, |source| source.traffic.bytes_up);
        let sent = outcome.origin_sent.unwrap_or_else(of_source);
        let bytes_total = material.len();
        let info = &material.metainfo.info;
        Report {
            name: info.name.clone(),
            bytes_total,
            files: listed(&info.files).count(),
            seconds: seconds(outcome.elapsed),
            identical: peers.iter().all(|peer| peer.identical),
            web_seed: outcome.origin_sent.is_some(),
            bytes_from_source: sent,
            copies_from_source: sent as f64 / bytes_total.max(1) as f64,
            share_from_source: sent as f64 / received.max(sent).max(1) as f64,
            faults: plan.faults.iter().map(|&fault| FaultReport::new(fault, outcome, &peers)).collect(),
            banned: bans(&outcome.peers),
            peers,
        }
    }

    /// What is wrong, in one line; `None` if nothing is.
    pub fn failure(&self) -> Option<String> {
        let bad: Vec<&PeerReport> = self.peers.iter().filter(|peer| !peer.identical).collect();
        let first = bad.first()?;
        let why = first.failure.as_deref().unwrap_or("is not complete");
        Some(format!("lab: {} of {} copies failed; {}: {why}", bad.len(), self.peers.len(), first.peer))
    }

    /// As JUnit XML, which CI systems show: a test case for each downloader and each fault.
    pub fn to_junit(&self) -> String {
        let failures = self.peers.iter().filter(|peer| !peer.identical).count()
            + self.faults.iter().filter(|fault| !fault.survived).count();
        let skipped = self.faults.iter().filter(|fault| fault.survived && !fault.took_place).count();
        let tests = self.peers.len() + self.faults.len();
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            xml,
            "<testsuite name=\"swarm lab: {}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" \
             skipped=\"{skipped}\" time=\"{:.3}\">",
            escape(&self.name),
            self.seconds
        );
        for peer in &self.peers {
            let verdict = (!peer.identical).then(|| {
                let why = peer.failure.as_deref().unwrap_or("is not complete");
                format!("<failure message=\"{}\"/>", escape(why))
            });
            case(&mut xml, "copies", &peer.peer, peer.seconds.unwrap_or(self.seconds), verdict);
        }
        for fault in &self.faults {
            let verdict = match (fault.survived, fault.took_place) {
                (false, _) => Some("<failure message=\"a copy is incomplete or differs\"/>".to_owned()),
                (true, false) => Some("<skipped message=\"the swarm was done before it\"/>".to_owned()),
                (true, true) => None,
            };
            case(&mut xml, "faults", &fault.fault.name(), fault.seconds.unwrap_or(0.0), verdict);
        }
        xml + "</testsuite>\n"
    }
}

fn case(xml: &mut String, class: &str, name: &str, seconds: f64, verdict: Option<String>) {
    let name = escape(name);
    let _ = write!(xml, "  <testcase classname=\"swarm.lab.{class}\" name=\"{name}\" time=\"{seconds:.3}\"");
    let _ = match verdict {
        Some(verdict) => writeln!(xml, ">{verdict}</testcase>"),
        None => writeln!(xml, "/>"),
    };
}

/// The text as it may stand in an XML attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no way to write these.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl PeerReport {
    fn new(peer: &Peer, source: Option<&Peer>, wrong: Option<&String>) -> PeerReport {
        let complete = peer.completed_in.is_some() && peer.failure.is_none();
        let from_source =
            source.map_or_else(|| peer.bytes_of_web_seeds(), |source| source.sent_to(peer.addr));
        PeerReport {
            peer: peer.name.clone(),
            address: peer.addr,
            complete,
            identical: complete && wrong.is_none(),
            failure: peer.failure.clone().or_else(|| wrong.cloned()),
            seconds: peer.completed_in.map(seconds),
            bytes_from_source: from_source,
            bytes_from_peers: peer.traffic.bytes_down.saturating_sub(from_source),
            bytes_wasted: peer.traffic.bytes_wasted,
            bytes_corrupt: peer.traffic.bytes_corrupt,
            pieces_failed: peer.pieces_failed,
            faults: peer.faults.clone(),
        }
    }
}

impl FaultReport {
    fn new(fault: Fault, outcome: &Outcome, copies: &[PeerReport]) -> FaultReport {
        let victim = outcome.peers.iter().find(|peer| peer.faults.contains(&fault));
        let copy = |peer: &Peer| copies.iter().find(|copy| copy.peer == peer.name);
        let poisoner = outcome.peers.iter().find(|peer| peer.role == Role::Poisoner);
        let (began, peer) = match fault {
            Fault::CorruptPeer => {
                (poisoner.filter(|peer| peer.traffic.bytes_up > 0).map(|_| Duration::ZERO), poisoner)
            }
            Fault::TrackerDown => (outcome.tracker_down, None),
            Fault::LateSeed => {
                (Some(Duration::ZERO), outcome.peers.iter().find(|peer| peer.role == Role::Source))
            }
            Fault::KillPeer | Fault::SlowPeer | Fault::DiskFull => {
                (victim.and_then(|peer| peer.began.get(&fault).copied()), victim)
            }
        };
        let survived = match victim.and_then(copy) {
            Some(copy) => copy.identical,
            None => copies.iter().all(|copy| copy.identical),
        };
        let ended = victim.and_then(|peer| peer.completed_in).unwrap_or(outcome.elapsed);
        FaultReport {
            fault,
            took_place: began.is_some(),
            peer: peer.map(|peer| peer.name.clone()),
            survived,
            seconds: began.map(|began| seconds(ended.saturating_sub(began))),
        }
    }
}

/// Who was banned, each address once.
fn bans(peers: &[Peer]) -> Vec<BanReport> {
    let mut bans: BTreeMap<SocketAddr, BanReport> = BTreeMap::new();
    for by in peers {
        for (&banned, reason) in &by.banned {
            // Seen from whom it dialled, a peer has another port.
            let peer = peers.iter().find(|peer| peer.addr == banned).or_else(|| {
                let mut same_ip = peers.iter().filter(|peer| peer.addr.ip() == banned.ip());
                same_ip.next().filter(|_| same_ip.next().is_none())
            });
            let address = peer.map_or(banned, |peer| peer.addr);
            let ban = bans.entry(address).or_insert_with(|| BanReport {
                address,
                peer: peer.map(|peer| peer.name.clone()),
                reason: reason.clone(),
                by: Vec::new(),
            });
            if !ban.by.contains(&by.name) {
                ban.by.push(by.name.clone());
            }
        }
    }
    bans.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_times_of_faults_are_their_own() {
        let fault = |fault, seconds: Option<f64>| FaultReport {
            fault,
            took_place: seconds.is_some(),
            peer: None,
            survived: true,
            seconds,
        };
        let faults = vec![fault(Fault::KillPeer, Some(1.25)), fault(Fault::DiskFull, None)];
        let xml = Report { seconds: 9.0, faults, ..Report::default() }.to_junit();
        assert!(xml.contains("name=\"kill-peer\" time=\"1.250\"/>"), "{xml}");
        assert!(xml.contains("name=\"disk-full\" time=\"0.000\"><skipped"), "{xml}");
        assert!(xml.contains("skipped=\"1\" time=\"9.000\">"), "{xml}");
    }

    #[test]
    fn names_cannot_break_the_xml() {
        assert_eq!(escape("a<b> & \"c\"\u{1b}"), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}");
    }
}
