//! Port mapping: having the gateway of a home network pass on what comes for one of our ports.
//!
//! A [`PortMapper`] does so for one port and transport, and for nothing else: by PCP, else by NAT-PMP, else by UPnP. The first two are
//! spoken here. For UPnP, whose search and SOAP are a library's, it says what to ask for ([`Action::Upnp`]) and is told what came of it.
//!
//! What a gateway says is believed this far:
//!
//! | it says | that means |
//! |---|---|
//! | a port, a lifetime | that port; for at least [`LIFETIME_MIN`], at most [`LIFETIME_MAX`], whatever it says |
//! | port 0, an outer address of 0.0.0.0 | nonsense, and it has none: the next way is tried |
//! | an answer to nothing that was asked, of another port or nonce | nothing |
//! | a clock that went back or jumped (the *epoch*) | it has started again and forgotten: the port is mapped anew, every [`RESTART_INTERVAL`] at most |
//! | no, or nothing at all | the next way; when there is none, all of them again after a while, which doubles |

mod action;
mod message;

pub use action::{Action, Event, Mapping, Method, Route, Trouble, Upnp, UpnpError};
pub use message::{DATAGRAM_LEN_MAX, GATEWAY_PORT, Transport};

use crate::rng::Rng;
use crate::time::{Duration, Time};
use action::refusal;
use message::{Answer, MapRequest};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

/// How long a mapping is asked for. That of who dies without a word lasts so long.
pub const LIFETIME: Duration = Duration::from_secs(3_600);
/// The shortest lifetime that is believed.
pub const LIFETIME_MIN: Duration = Duration::from_secs(60);
/// The longest one.
pub const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
/// How long the first datagram is waited for; twice as long for each further one.
pub const PATIENCE_FIRST: Duration = Duration::from_millis(250);
/// How many datagrams go out before a way is given up.
pub const TRIES: u32 = 4;
/// How long the library may take for all of UPnP.
pub const UPNP_PATIENCE: Duration = Duration::from_secs(30);
/// How often a gateway is asked for a sign of life, to see whether it has started again.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// How often a mapping by UPnP is made again, since UPnP gives no sign of a new start.
pub const UPNP_RENEW_INTERVAL: Duration = Duration::from_secs(600);
/// How often a gateway may claim to have started again.
pub const RESTART_INTERVAL: Duration = Duration::from_secs(10);
/// The first rest after all ways have failed; doubled each time.
pub const RETRY_FIRST: Duration = Duration::from_secs(60);
/// The longest rest.
pub const RETRY_MAX: Duration = Duration::from_secs(3_600);
/// How many other external ports are tried by UPnP if somebody else has ours.
pub const PORTS_TRIED: u32 = 4;
/// How long the end waits for a gateway that has answered before.
pub const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A request that is on its way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    method: Method,
    tries: u32,
    again_at: Time,
}

#[derive(Clone, Copy, Debug)]
struct Mapped {
    mapping: Mapping,
    expires_at: Option<Time>,
    renew_at: Time,
    probe_at: Time,
}

/// The gateway's clock, and ours, when it was last told.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    gateway_s: u32,
    at: Time,
}

/// Keeps one port mapped: `handle_*`, then drain [`poll_action`](Self::poll_action) and [`poll_event`](Self::poll_event), and come
/// back at [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct PortMapper {
    transport: Transport,
    port: u16,
    route: Route,
    nonce: [u8; 12],
    rng: Rng,
    asked: Option<Asked>,
    mapped: Option<Mapped>,
    /// Of NAT-PMP, which tells it by itself.
    outer_ip: Option<Ipv4Addr>,
    epoch: Option<Epoch>,
    restarted_at: Option<Time>,
    /// Of this round.
    troubles: Vec<(Method, Trouble)>,
    told: Vec<(Method, Trouble)>,
    rounds_failed: u32,
    retry_at: Option<Time>,
    upnp_lifetime_s: u32,
    conflicts: u32,
    /// The gateway has answered a datagram.
    heard: bool,
    /// The library is busy; what it says to a question that is not waited for any more counts for nothing.
    upnp_stale: u32,
    stop_at: Option<Time>,
    stopping: bool,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl PortMapper {
    /// Begins to map this port.
    pub fn new(now: Time, transport: Transport, port: u16, route: Route, mut rng: Rng) -> PortMapper {
        let mut nonce = [0; 12];
        rng.fill(&mut nonce);
        let mut mapper = PortMapper {
            transport,
            port,
            route,
            nonce,
            rng,
            asked: None,
            mapped: None,
            outer_ip: None,
            epoch: None,
            restarted_at: None,
            troubles: Vec::new(),
            told: Vec::new(),
            rounds_failed: 0,
            retry_at: None,
            upnp_lifetime_s: LIFETIME.as_secs() as u32,
            conflicts: 0,
            heard: false,
            upnp_stale: 0,
            stop_at: None,
            stopping: false,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        };
        mapper.begin_round(now);
        mapper
    }

    /// How it is mapped now.
    pub fn mapping(&self) -> Option<Mapping> {
        self.mapped.map(|mapped| mapped.mapping)
    }

    /// We are on another network now, or in another place of it.
    pub fn handle_route(&mut self, now: Time, route: Route) {
        if self.stopping || route == self.route {
            return;
        }
        self.route = route;
        self.lose(Trouble::Expired);
        self.forget_question();
        self.rounds_failed = 0;
        (self.epoch, self.outer_ip, self.heard) = (None, None, false);
        self.begin_round(now);
    }

    /// A datagram has come from the gateway.
    pub fn handle_datagram(&mut self, now: Time, datagram: &[u8]) {
        let Some(answer) = message::parse(datagram) else { return };
        self.heard = true;
        match answer {
            Answer::OtherVersion => self.on_other_version(now),
            Answer::Pcp { result, epoch_s, lifetime_s, map } => {
                if self.method() != Some(Method::Pcp) {
                    return;
                }
                let is_ours = map.is_none_or(|map| {
                    map.nonce == self.nonce
                        && map.protocol == self.transport.number()
                        && map.internal_port == self.port
                });
                if !is_ours {
                    return;
                }
                self.on_epoch(now, epoch_s);
                if let Some(map) = map {
                    let ip = map.external_ip.to_ipv4_mapped();
                    self.on_answer(now, Method::Pcp, result.into(), map.external_port, lifetime_s, ip);
                }
            }
            Answer::NatPmp { result, epoch_s, transport, map } => {
                let is_ours = map.is_none_or(|map| map.internal_port == self.port);
                if self.method() != Some(Method::NatPmp) || transport != self.transport || !is_ours {
                    return;
                }
                let (port, lifetime_s) = map.map_or((0, 0), |map| (map.external_port, map.lifetime_s));
                self.on_epoch(now, epoch_s);
                self.on_answer(now, Method::NatPmp, result, port, lifetime_s, self.outer_ip);
            }
            Answer::NatPmpAddress { result, epoch_s, ip } => {
                if self.method() == Some(Method::NatPmp) {
                    self.on_epoch(now, epoch_s);
                    self.on_outer_ip(now, ip.filter(|ip| result == 0 && !ip.is_unspecified()));
                }
            }
        }
    }

    /// The system says that nothing listens at the gateway's port.
    pub fn handle_unreachable(&mut self, now: Time) {
        if self.asked.is_some_and(|asked| asked.method != Method::Upnp) {
            self.on_failure(now, Trouble::Unreachable);
        }
    }

    /// The library has mapped a port, or could not.
    pub fn handle_upnp(&mut self, now: Time, outcome: Result<(u16, Option<IpAddr>), UpnpError>) {
        if self.upnp_stale > 0 {
            self.upnp_stale -= 1;
            return;
        }
        if self.asked.is_none_or(|asked| asked.method != Method::Upnp) {
            return;
        }
        match outcome {
            Ok((port, ip)) => {
                let ip = ip.and_then(|ip| match ip {
                    IpAddr::V4(ip) => Some(ip),
                    IpAddr::V6(_) => None,
                });
                if ip.is_some_and(|ip| ip.is_unspecified()) {
                    return self.on_failure(now, Trouble::NoAddress);
                }
                let lifetime_s = self.upnp_lifetime_s;
                self.on_answer(now, Method::Upnp, 0, port, lifetime_s, ip);
            }
            Err(UpnpError::PermanentOnly) if self.upnp_lifetime_s > 0 => {
                self.upnp_lifetime_s = 0;
                self.ask(now, Method::Upnp);
            }
            Err(UpnpError::Conflict) if self.conflicts < PORTS_TRIED => {
                self.conflicts += 1;
                self.ask(now, Method::Upnp);
            }
            Err(UpnpError::Conflict) => {
                self.on_failure(now, Trouble::Refused("its ports are taken".to_owned()))
            }
            Err(UpnpError::PermanentOnly) => self.on_failure(now, Trouble::Nonsense),
            Err(UpnpError::Other(trouble)) => self.on_failure(now, trouble),
        }
    }

    /// The library has taken a mapping away, or could not.
    pub fn handle_upnp_removed(&mut self) {
        if self.stopping {
            self.stop_at = None;
            self.asked = None;
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.stop_at.is_some_and(|at| at <= now) {
            (self.stop_at, self.asked) = (None, None);
        }
        if self.asked.is_some_and(|asked| asked.again_at <= now) {
            self.on_silence(now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.begin_round(now);
        }
        let Some(mapped) = self.mapped.filter(|_| !self.stopping) else { return };
        if mapped.expires_at.is_some_and(|at| at <= now) {
            self.lose(Trouble::Expired);
            self.forget_question();
            self.begin_round(now);
        } else if mapped.renew_at <= now && self.asked.is_none() {
            self.ask(now, mapped.mapping.method);
        } else if mapped.probe_at <= now {
            self.probe(now, mapped.mapping.method);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let asked = self.asked.map(|asked| asked.again_at);
        let mapped = self.mapped.filter(|_| !self.stopping);
        let renew = mapped.filter(|_| self.asked.is_none()).map(|mapped| mapped.renew_at);
        let of_mapping =
            mapped.and_then(|mapped| [mapped.expires_at, Some(mapped.probe_at)].into_iter().flatten().min());
        [asked, renew, of_mapping, self.retry_at, self.stop_at].into_iter().flatten().min()
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// It is over: what is mapped is taken away.
    pub fn handle_stop(&mut self, now: Time) {
        if self.stopping {
            return;
        }
        let was_asked = self.asked.take().map(|asked| asked.method);
        (self.stopping, self.retry_at) = (true, None);
        self.actions.clear();
        // What was asked for just now may be granted.
        let Some(method) = self.mapping().map(|mapping| mapping.method).or(was_asked) else { return };
        if method == Method::Upnp {
            let external_port = self.mapping().map_or(self.port, |mapping| mapping.port);
            self.actions.push_back(Action::Upnp(Upnp::Remove { external_port }));
        } else {
            self.ask(now, method);
        }
        // Most networks have no gateway that answers: nobody waits for one to say good-bye.
        match method == Method::Upnp || self.heard {
            true => self.stop_at = Some(now + STOP_PATIENCE),
            false => self.asked = None,
        }
    }

    /// Whether nothing is waited for after [`handle_stop`](Self::handle_stop).
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.stop_at.is_none() && self.actions.is_empty()
    }

    fn method(&self) -> Option<Method> {
        self.asked.map(|asked| asked.method).or(self.mapping().map(|mapping| mapping.method))
    }

    fn begin_round(&mut self, now: Time) {
        self.retry_at = None;
        self.troubles.clear();
        (self.upnp_lifetime_s, self.conflicts) = (LIFETIME.as_secs() as u32, 0);
        if self.route.has_gateway {
            self.ask(now, Method::Pcp);
        } else {
            self.troubles.extend([Method::Pcp, Method::NatPmp].map(|method| (method, Trouble::NoGateway)));
            self.try_upnp(now);
        }
    }

    fn try_upnp(&mut self, now: Time) {
        match self.route.upnp {
            true => self.ask(now, Method::Upnp),
            false => self.give_up(now),
        }
    }

    /// Sends a request, the first one of this method or the same again.
    fn ask(&mut self, now: Time, method: Method) {
        let tries = self.asked.filter(|asked| asked.method == method).map_or(0, |asked| asked.tries) + 1;
        let lifetime_s = if self.stopping { 0 } else { LIFETIME.as_secs() as u32 };
        let had = self.mapping().map(|mapping| mapping.port);
        let external_port = had.unwrap_or(self.port);
        let request =
            MapRequest { transport: self.transport, internal_port: self.port, external_port, lifetime_s };
        let mut patience = PATIENCE_FIRST * 2u32.pow(tries - 1);
        match method {
            Method::Pcp => {
                self.actions.push_back(Action::Send(message::pcp_map(
                    request,
                    self.route.client,
                    self.nonce,
                )));
            }
            Method::NatPmp => {
                if !self.stopping {
                    self.actions.push_back(Action::Send(message::nat_pmp_address()));
                }
                // To take away is to ask for port 0.
                let external_port = if self.stopping { 0 } else { external_port };
                let request = MapRequest { external_port, ..request };
                self.actions.push_back(Action::Send(message::nat_pmp_map(request)));
            }
            Method::Upnp => {
                let other = 1_024 + self.rng.below(64_512) as u16;
                let external_port = if self.conflicts == 0 { external_port } else { had.unwrap_or(other) };
                let lifetime_s = self.upnp_lifetime_s;
                self.actions.push_back(Action::Upnp(Upnp::Map { external_port, lifetime_s }));
                patience = UPNP_PATIENCE;
            }
        }
        self.asked = Some(Asked { method, tries, again_at: now + patience });
        // Whatever comes of it is a sign of life.
        self.mapped.iter_mut().for_each(|mapped| mapped.probe_at = now + PROBE_INTERVAL);
    }

    fn probe(&mut self, now: Time, method: Method) {
        match method {
            Method::Pcp => self.actions.push_back(Action::Send(message::pcp_announce(self.route.client))),
            Method::NatPmp => self.actions.push_back(Action::Send(message::nat_pmp_address())),
            Method::Upnp => {}
        }
        if let Some(mapped) = &mut self.mapped {
            mapped.probe_at = now + PROBE_INTERVAL;
        }
    }

    fn on_silence(&mut self, now: Time) {
        let Some(Asked { method, tries, .. }) = self.asked else { return };
        if method == Method::Upnp {
            self.upnp_stale += 1;
        }
        if method != Method::Upnp && tries < TRIES {
            self.ask(now, method);
        } else {
            self.on_failure(now, Trouble::Silent);
        }
    }

    fn on_other_version(&mut self, now: Time) {
        if self.asked.is_some_and(|asked| asked.method != Method::Upnp) {
            self.on_failure(now, Trouble::OtherVersion);
        }
    }

    /// The gateway has said yes or no to what was asked.
    fn on_answer(
        &mut self,
        now: Time,
        method: Method,
        result: u16,
        port: u16,
        lifetime_s: u32,
        ip: Option<Ipv4Addr>,
    ) {
        if self.asked.is_none() {
            return;
        }
        if self.stopping {
            (self.stop_at, self.asked) = (None, None);
            return;
        }
        let for_good = method == Method::Upnp && lifetime_s == 0;
        let trouble = match result {
            0 if port == 0 || lifetime_s == 0 && !for_good => Some(Trouble::Nonsense),
            0 if ip.is_some_and(|ip| ip.is_unspecified()) => Some(Trouble::NoAddress),
            0 => None,
            code => Some(refusal(method, code)),
        };
        if let Some(trouble) = trouble {
            return self.on_failure(now, trouble);
        }
        let lifetime = Duration::from_secs(lifetime_s.into()).clamp(LIFETIME_MIN, LIFETIME_MAX);
        let mapping = Mapping { method, ip: ip.or(self.known_ip(method)), port };
        let renew_in = match method {
            Method::Upnp if for_good => UPNP_RENEW_INTERVAL,
            Method::Upnp => UPNP_RENEW_INTERVAL.min(lifetime / 2),
            _ => lifetime / 2,
        };
        let before = self.mapping();
        self.mapped = Some(Mapped {
            mapping,
            expires_at: (!for_good).then_some(now + lifetime),
            renew_at: now + renew_in,
            probe_at: now + PROBE_INTERVAL,
        });
        (self.asked, self.rounds_failed) = (None, 0);
        self.told.clear();
        if before != Some(mapping) {
            self.events.push_back(Event::Mapped(mapping));
        }
    }

    /// The outer address that was known before, of the same way.
    fn known_ip(&self, method: Method) -> Option<Ipv4Addr> {
        self.mapping().filter(|mapping| mapping.method == method).and_then(|mapping| mapping.ip)
    }

    fn on_outer_ip(&mut self, now: Time, ip: Option<Ipv4Addr>) {
        self.outer_ip = ip;
        if ip.is_none() && self.mapped.is_none() && !self.stopping {
            return self.on_failure(now, Trouble::NoAddress);
        }
        if let Some(mapped) = self.mapped.as_mut().filter(|mapped| ip.is_some() && mapped.mapping.ip != ip)
            && !self.stopping
        {
            mapped.mapping.ip = ip;
            self.events.push_back(Event::Mapped(mapped.mapping));
        }
    }

    /// Nothing has come of what was asked.
    fn on_failure(&mut self, now: Time, trouble: Trouble) {
        let Some(Asked { method, .. }) = self.asked.take() else { return };
        if self.stopping {
            self.stop_at = None;
            return;
        }
        if let Some(mapped) = &mut self.mapped {
            // Whoever does not answer may do so later, and the mapping lasts as long as it was granted for.
            let is_no = !matches!(trouble, Trouble::Silent | Trouble::Unreachable);
            let left = mapped.expires_at.map_or(LIFETIME_MIN, |at| at.since(now));
            mapped.renew_at = now + (left / 2).max(LIFETIME_MIN / 2);
            if is_no {
                self.lose(trouble);
                self.retry_at = Some(now + RESTART_INTERVAL);
            }
            return;
        }
        self.troubles.push((method, trouble));
        match method {
            Method::Pcp => self.ask(now, Method::NatPmp),
            Method::NatPmp => self.try_upnp(now),
            Method::Upnp => self.give_up(now),
        }
    }

    fn give_up(&mut self, now: Time) {
        let rest = RETRY_FIRST * 2u32.pow(self.rounds_failed.min(10));
        self.rounds_failed = self.rounds_failed.saturating_add(1);
        self.retry_at = Some(now + rest.min(RETRY_MAX));
        if self.told != self.troubles {
            self.told.clone_from(&self.troubles);
            self.events.push_back(Event::Failed(self.troubles.clone()));
        }
    }

    fn lose(&mut self, trouble: Trouble) {
        if self.mapped.take().is_some() {
            self.events.push_back(Event::Lost(trouble));
        }
    }

    fn forget_question(&mut self) {
        if self.asked.take().is_some_and(|asked| asked.method == Method::Upnp) {
            self.upnp_stale += 1;
        }
    }

    /// The gateway tells its clock. If that does not go on as ours does, it has started again and knows nothing any more
    /// (RFC 6887, 8.5).
    fn on_epoch(&mut self, now: Time, gateway_s: u32) {
        let before = self.epoch.replace(Epoch { gateway_s, at: now });
        let Some(before) = before.filter(|_| !self.stopping) else { return };
        let ours = now.since(before.at).as_secs();
        let theirs = u64::from(gateway_s.saturating_sub(before.gateway_s));
        let went_back = u64::from(gateway_s) + 1 < u64::from(before.gateway_s);
        let jumped = ours + 2 < theirs - theirs / 16 || theirs + 2 < ours - ours / 16;
        let may_claim = self.restarted_at.is_none_or(|at| now.since(at) >= RESTART_INTERVAL);
        if let Some(mapped) =
            self.mapped.filter(|_| (went_back || jumped) && may_claim && self.asked.is_none())
        {
            self.restarted_at = Some(now);
            self.ask(now, mapped.mapping.method);
        }
    }
}

#[cfg(test)]
mod tests;
