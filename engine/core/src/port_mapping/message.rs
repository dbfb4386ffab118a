//! The datagrams of PCP (RFC 6887) and of its predecessor NAT-PMP (RFC 6886), as far as mapping one port needs them.

use crate::fields::Fields;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The port that gateways listen on.
pub const GATEWAY_PORT: u16 = 5351;
/// Longest datagram of PCP.
pub const DATAGRAM_LEN_MAX: usize = 1_100;

const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
const RESPONSE: u8 = 0x80;
const OP_ANNOUNCE: u8 = 0;
const OP_MAP: u8 = 1;
const PCP_HEADER_LEN: usize = 24;
const PCP_MAP_LEN: usize = 60;

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The number that IP has for it.
    pub(super) fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        })
    }
}

/// What is asked for. A lifetime of 0 takes the mapping away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapRequest {
    pub transport: Transport,
    pub internal_port: u16,
    /// The external port to have, if possible.
    pub external_port: u16,
    pub lifetime_s: u32,
}

/// What a gateway has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// PCP: a mapping, or why there is none.
    Pcp { result: u8, epoch_s: u32, lifetime_s: u32, map: Option<PcpMap> },
    /// NAT-PMP: a mapping, or why there is none.
    NatPmp { result: u16, epoch_s: u32, transport: Transport, map: Option<NatPmpMap> },
    /// NAT-PMP: the gateway's outer address, or why it has none.
    NatPmpAddress { result: u16, epoch_s: u32, ip: Option<Ipv4Addr> },
    /// It does not speak the version that it was asked in.
    OtherVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PcpMap {
    pub nonce: [u8; 12],
    /// The number of the transport protocol.
    pub protocol: u8,
    pub internal_port: u16,
    pub external_port: u16,
    pub external_ip: Ipv6Addr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NatPmpMap {
    pub internal_port: u16,
    pub external_port: u16,
    pub lifetime_s: u32,
}

fn pcp_header(opcode: u8, lifetime_s: u32, client: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![PCP, opcode, 0, 0];
    bytes.extend(lifetime_s.to_be_bytes());
    bytes.extend(client.to_ipv6_mapped().octets());
    bytes
}

/// PCP: maps a port.
pub(super) fn pcp_map(request: MapRequest, client: Ipv4Addr, nonce: [u8; 12]) -> Vec<u8> {
    let mut bytes = pcp_header(OP_MAP, request.lifetime_s, client);
    bytes.extend(nonce);
    bytes.extend([request.transport.number(), 0, 0, 0]);
    bytes.extend(request.internal_port.to_be_bytes());
    bytes.extend(request.external_port.to_be_bytes());
    bytes.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    bytes
}

/// PCP: asks for nothing but a sign of life.
pub(super) fn pcp_announce(client: Ipv4Addr) -> Vec<u8> {
    pcp_header(OP_ANNOUNCE, 0, client)
}

/// NAT-PMP: maps a port.
pub(super) fn nat_pmp_map(request: MapRequest) -> Vec<u8> {
    let opcode = match request.transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
    };
    let mut bytes = vec![NAT_PMP, opcode, 0, 0];
    bytes.extend(request.internal_port.to_be_bytes());
    bytes.extend(request.external_port.to_be_bytes());
    bytes.extend(request.lifetime_s.to_be_bytes());
    bytes
}

/// NAT-PMP: asks for the outer address.
pub(super) fn nat_pmp_address() -> Vec<u8> {
    vec![NAT_PMP, 0]
}

/// Reads an answer; `None` if it is none.
pub(super) fn parse(bytes: &[u8]) -> Option<Answer> {
    let [version, opcode] = *bytes.first_chunk::<2>()?;
    if bytes.len() > DATAGRAM_LEN_MAX || opcode & RESPONSE == 0 {
        return None;
    }
    match version {
        PCP => parse_pcp(opcode & !RESPONSE, bytes),
        NAT_PMP => parse_nat_pmp(opcode & !RESPONSE, bytes),
        _ => Some(Answer::OtherVersion),
    }
}

fn parse_pcp(opcode: u8, bytes: &[u8]) -> Option<Answer> {
    const UNSUPPORTED_VERSION: u8 = 1;
    if bytes.len() < PCP_HEADER_LEN {
        return None;
    }
    let mut fields = Fields(&bytes[3..]);
    let [result] = fields.take()?;
    if result == UNSUPPORTED_VERSION {
        return Some(Answer::OtherVersion);
    }
    let (lifetime_s, epoch_s) = (fields.u32()?, fields.u32()?);
    let map = match opcode {
        OP_MAP if bytes.len() >= PCP_MAP_LEN => {
            let mut fields = Fields(&bytes[PCP_HEADER_LEN..]);
            let nonce = fields.take()?;
            let [protocol, ..] = fields.take::<4>()?;
            let (internal_port, external_port) = (fields.u16()?, fields.u16()?);
            let external_ip = Ipv6Addr::from(fields.take::<16>()?);
            Some(PcpMap { nonce, protocol, internal_port, external_port, external_ip })
        }
        OP_ANNOUNCE => None,
        _ => return None,
    };
    Some(Answer::Pcp { result, epoch_s, lifetime_s, map })
}

fn parse_nat_pmp(opcode: u8, bytes: &[u8]) -> Option<Answer> {
    const UNSUPPORTED_VERSION: u16 = 1;
    let mut fields = Fields(bytes.get(2..)?);
    let result = fields.u16()?;
    if result == UNSUPPORTED_VERSION {
        return Some(Answer::OtherVersion);
    }
    let epoch_s = fields.u32()?;
    let transport = match opcode {
        0 => {
            let ip = fields.take::<4>().map(Ipv4Addr::from);
            return Some(Answer::NatPmpAddress { result, epoch_s, ip });
        }
        1 => Transport::Udp,
        2 => Transport::Tcp,
        _ => return None,
    };
    let map = (fields.0.len() >= 8).then_some(()).and_then(|()| {
        let (internal_port, external_port) = (fields.u16()?, fields.u16()?);
        Some(NatPmpMap { internal_port, external_port, lifetime_s: fields.u32()? })
    });
    Some(Answer::NatPmp { result, epoch_s, transport, map })
}
