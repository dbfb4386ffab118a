//! Answering others.

use super::{EXPIRE_INTERVAL, Node};
use crate::dht::compact::NodeInfo;
use crate::dht::id::NodeId;
use crate::dht::items::{Item, ItemRefusal, Owner};
use crate::dht::message::{Body, ErrorCode, KrpcError, Message, Query, Question, Response, Samples};
use crate::dht::peers::ANSWER_PEERS_MAX;
use crate::dht::table::BUCKET_LEN_MAX;
use crate::net::Family;
use crate::time::Time;
use std::net::SocketAddr;

/// Swarms in an answer to `sample_infohashes`.
const SAMPLES: usize = 20;
/// How long a crawler may leave us alone between two samples, in seconds.
const SAMPLE_INTERVAL_S: u32 = 300;

impl Node {
    pub(super) fn on_query(
        &mut self,
        now: Time,
        from: SocketAddr,
        transaction: Vec<u8>,
        query: Query,
        read_only: bool,
    ) {
        let family = Family::of(from);
        let own = self.id(family);
        if self.config.read_only || own == Some(query.id) || !self.allowance.is_left(now, from) {
            return;
        }
        let info = NodeInfo { id: query.id, addr: from };
        if !read_only
            && self.config.accepts(info)
            && let Some(network) = self.network_mut(family)
        {
            network.table.queried(now, info);
        }
        match self.answer(now, from, &query) {
            Ok(response) => {
                self.reply(now, from, transaction, Body::Response(Response { id: own, ..response }));
            }
            Err((code, text)) => self.refuse(now, from, transaction, code, text),
        }
    }

    fn answer(
        &mut self,
        now: Time,
        from: SocketAddr,
        query: &Query,
    ) -> Result<Response, (ErrorCode, &'static str)> {
        let family = Family::of(from);
        match &query.question {
            Question::Ping => Ok(Response::default()),
            Question::FindNode { target } | Question::UnknownAbout { target } => {
                Ok(self.nodes_near(*target, family, &query.want))
            }
            Question::GetPeers { info_hash, no_seeds, scrape } => {
                let scrape = scrape.then(|| self.peers.scrape(now, *info_hash)).flatten();
                // The filters take the room of half the peers, and of the nodes of the other family.
                let (want, most) = match scrape {
                    None => (&query.want[..], ANSWER_PEERS_MAX[family as usize]),
                    Some(_) => (&[][..], ANSWER_PEERS_MAX[family as usize] / 2),
                };
                let peers = self.peers.sample(now, *info_hash, family, *no_seeds, most, &mut self.rng);
                let token = Some(self.tokens.issue(now, from));
                Ok(Response { token, peers, scrape, ..self.nodes_near((*info_hash).into(), family, want) })
            }
            Question::AnnouncePeer { info_hash, port, implied_port, is_seed, token } => {
                if !self.tokens.check(now, from, token) {
                    return Err((ErrorCode::Protocol, "invalid token"));
                }
                let port = if *implied_port { from.port() } else { *port };
                let addr = SocketAddr::new(from.ip(), port);
                self.peers.announce(now, *info_hash, addr, *is_seed);
                Ok(Response::default())
            }
            Question::Get { target, seq } => {
                let token = Some(self.tokens.issue(now, from));
                let nodes = self.nodes_near(*target, family, &query.want);
                Ok(Response { token, ..self.kept(now, *target, *seq, nodes) })
            }
            Question::Put { item, cas, token } => self.keep(now, from, item, *cas, token),
            Question::SampleInfohashes { target } => {
                let (hashes, count) = self.peers.sample_swarms(SAMPLES, &mut self.rng);
                let samples = Samples { interval_s: SAMPLE_INTERVAL_S, count: count as u32, hashes };
                Ok(Response { samples: Some(samples), ..self.nodes_near(*target, family, &query.want) })
            }
        }
    }

    /// Adds what is kept at a place; of a value that is no newer than `seq` only the version.
    fn kept(&self, now: Time, target: NodeId, seq: Option<i64>, response: Response) -> Response {
        let Some(item) = self.items.get(now, target) else { return response };
        let is_known = item.owner.as_ref().zip(seq).is_some_and(|(owner, seq)| owner.seq <= seq);
        // Who asks knows the salt.
        let owner = item.owner.clone().map(|owner| Owner { salt: Vec::new(), ..owner });
        Response {
            seq: owner.as_ref().map(|owner| owner.seq),
            item: (!is_known).then(|| Item { value: item.value.clone(), owner }),
            ..response
        }
    }

    fn keep(
        &mut self,
        now: Time,
        from: SocketAddr,
        item: &Item,
        cas: Option<i64>,
        token: &[u8],
    ) -> Result<Response, (ErrorCode, &'static str)> {
        if !self.tokens.check(now, from, token) {
            return Err((ErrorCode::Protocol, "invalid token"));
        }
        self.items.put(now, item.clone(), cas).map_err(|refusal| match refusal {
            ItemRefusal::Forged => (ErrorCode::BadSignature, "invalid signature"),
            ItemRefusal::CasMismatch => (ErrorCode::CasMismatch, "another version is here"),
            ItemRefusal::Outdated => (ErrorCode::Outdated, "a later version is here"),
        })?;
        Ok(Response::default())
    }

    /// The nodes that we know nearest to a place, of the families that are wanted.
    fn nodes_near(&self, target: NodeId, family: Family, want: &[Family]) -> Response {
        let nodes = |of: Family| {
            let is_wanted = if want.is_empty() { of == family } else { want.contains(&of) };
            let network = self.network(of).filter(|_| is_wanted)?;
            Some(network.table.closest(target, BUCKET_LEN_MAX))
        };
        Response { nodes: nodes(Family::V4), nodes6: nodes(Family::V6), ..Response::default() }
    }

    pub(super) fn refuse(
        &mut self,
        now: Time,
        to: SocketAddr,
        transaction: Vec<u8>,
        code: ErrorCode,
        text: &'static str,
    ) {
        if !self.config.read_only && self.allowance.is_left(now, to) {
            let error = KrpcError { code: code as i64, text: text.to_owned() };
            self.reply(now, to, transaction, Body::Error(error));
        }
    }

    fn reply(&mut self, now: Time, to: SocketAddr, transaction: Vec<u8>, body: Body) {
        let message = Message { transaction, external_addr: Some(to), read_only: false, body };
        let datagram = message.encode();
        self.allowance.spend(now, to, datagram.len());
        self.expire_at.get_or_insert(now + EXPIRE_INTERVAL);
        self.datagrams.push_back((to, datagram));
    }
}
