//! A host that answers every question about a key with its accomplices, and keeps nothing.

use std::net::SocketAddr;
use std::rc::Rc;
use swarm_core::dht::{Body, Message, NodeId, NodeInfo, Query, Question, Response};

/// One of many ids around a key.
pub(super) struct Sybil {
    id: NodeId,
    /// Whom it names: the nearest to the key of each address.
    accomplices: Rc<[NodeInfo]>,
}

impl Sybil {
    pub(super) fn new(id: NodeId, accomplices: Rc<[NodeInfo]>) -> Sybil {
        Sybil { id, accomplices }
    }

    /// What it answers: its accomplices, and a token, so that announcements come to nothing here.
    pub(super) fn answer(&self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let Message { transaction, body: Body::Query(_), .. } = Message::parse(datagram).ok()? else {
            return None;
        };
        let response = Response {
            id: Some(self.id),
            nodes: Some(self.accomplices.to_vec()),
            token: Some(b"sybil".to_vec()),
            ..Response::default()
        };
        let body = Body::Response(response);
        Some(Message { transaction, external_addr: Some(from), read_only: false, body }.encode())
    }

    /// A question with which it makes itself known.
    pub(super) fn greet(&self, key: NodeId) -> Vec<u8> {
        let query = Query { id: self.id, want: Vec::new(), question: Question::FindNode { target: key } };
        let body = Body::Query(query);
        Message { transaction: b"sy".to_vec(), external_addr: None, read_only: false, body }.encode()
    }
}
