//! When connections are encrypted, and how.

/// When connections are encrypted. Peers may know better what passes their networks: in all but the first and the last both kinds
/// are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "there is no fifth")]
pub enum Encryption {
    /// Never.
    Off,
    /// Peers are dialled without, and with it where that fails or the peer is known to want it.
    #[default]
    Allow,
    /// Peers are dialled with encryption, and without where that fails.
    Prefer,
    /// Always, and all of the stream.
    Require,
}

impl Encryption {
    /// Whether a connection without an encrypted handshake may be.
    pub fn takes_plain(self) -> bool {
        self != Encryption::Require
    }

    /// Whether a connection with an encrypted handshake may be.
    pub fn takes_encrypted(self) -> bool {
        self != Encryption::Off
    }

    /// How to dial, in this order: whether each attempt is encrypted. `is_wanted`: the peer is known to want it.
    pub fn attempts(self, is_wanted: bool) -> &'static [bool] {
        match self {
            Encryption::Off => &[false],
            Encryption::Allow if !is_wanted => &[false, true],
            Encryption::Allow | Encryption::Prefer => &[true, false],
            Encryption::Require => &[true],
        }
    }

    /// What we offer when we dial.
    pub fn offered(self) -> Methods {
        match self {
            Encryption::Require => Methods(Method::Rc4 as u32),
            _ => Methods(Method::Plaintext as u32 | Method::Rc4 as u32),
        }
    }

    /// What we choose of what a peer offers.
    pub fn choose(self, offered: Methods) -> Option<Method> {
        let order: &[Method] = match self {
            Encryption::Off => &[],
            Encryption::Allow => &[Method::Plaintext, Method::Rc4],
            Encryption::Prefer => &[Method::Rc4, Method::Plaintext],
            Encryption::Require => &[Method::Rc4],
        };
        order.iter().copied().find(|&method| offered.has(method))
    }
}

/// What a stream is after an encrypted handshake, as its bit in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "clients know no third")]
#[repr(u32)]
pub enum Method {
    /// Not enciphered any more.
    Plaintext = 1,
    /// Enciphered with RC4.
    Rc4 = 2,
}

/// A set of methods, as it goes over the wire. Bits that nobody has given a meaning to are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(pub u32);

impl Methods {
    /// Whether this one is among them.
    pub fn has(self, method: Method) -> bool {
        self.0 & method as u32 != 0
    }

    /// The method, if it is exactly one.
    pub fn only(self) -> Option<Method> {
        [Method::Plaintext, Method::Rc4].into_iter().find(|&method| self.0 == method as u32)
    }
}
