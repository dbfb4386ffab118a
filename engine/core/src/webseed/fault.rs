//! What can be wrong with a web seed, and what that costs it.

use crate::time::Duration;

/// Why a request to a web seed came to nothing, or to too little.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The server is not reached, or the connection broke.
    #[error("{0}")]
    Network(String),
    /// No answer came, or nothing more of one.
    #[error("nothing came for {seconds} s")]
    Silent {
        /// For how long.
        seconds: u64,
    },
    /// What came would have taken too long, and there are other sources.
    #[error("it is too slow")]
    TooSlow,
    /// The server asks for patience: 408, 425, 429 and 5xx.
    #[error("the server answered {status}")]
    Busy {
        /// The status.
        status: u16,
        /// How long to wait, by the server's word.
        retry_after: Option<Duration>,
    },
    /// Any other status but 200 and 206.
    #[error("the server answered {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The whole file came instead of a part that begins later.
    #[error("it sends the whole file instead of a part")]
    NoRanges,
    /// Another part came than the one asked for.
    #[error("it sends another part than the one asked for")]
    WrongRange,
    /// The file there has another length: it is another file, a login page, or a folder's index.
    #[error("the file there has {found} bytes instead of {expected}")]
    WrongLength {
        /// Bytes of the file there.
        found: u64,
        /// Bytes of the torrent's file.
        expected: u64,
    },
    /// The body ended early.
    #[error("the answer ended early")]
    TooLittle,
    /// The body is compressed, though only a plain one was asked for.
    #[error("it sends a body encoded as {0}, which was not asked for")]
    Encoded(String),
    /// It redirects to nowhere, too often, or to where it may not.
    #[error("{0}")]
    Redirect(String),
    /// The address must not be connected to.
    #[error("{0}")]
    Forbidden(String),
    /// What it sent is not what the torrent holds.
    #[error("it sent data that is not the torrent's")]
    Corrupt,
    /// It is passed over: no URL, or not one of the web's.
    #[error("{0}")]
    Unsupported(String),
}

/// What a [`Fault`] costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Penalty {
    /// From now on it is asked for one thing at a time, in order: it sends files from their starts only.
    InOrder,
    /// The file is not asked for there for so long.
    FilePaused(Duration),
    /// The file is not asked for there any more.
    FileDropped,
    /// Nothing is asked of the URL for so long.
    Paused(Duration),
    /// Nothing is asked of the URL any more.
    Dropped,
}

/// What a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blamed {
    /// The file, for a while.
    File,
    /// The file, for good.
    FileForGood,
    /// The URL, for a while, or for as long as the server says.
    Url(Option<Duration>),
    /// The URL, for good.
    UrlForGood,
}

impl Fault {
    pub(super) fn blamed(&self) -> Blamed {
        match self {
            Fault::Network(_) | Fault::Silent { .. } | Fault::TooSlow | Fault::TooLittle => Blamed::Url(None),
            Fault::Busy { retry_after, .. } => Blamed::Url(*retry_after),
            Fault::Status { .. } | Fault::Redirect(_) => Blamed::File,
            Fault::NoRanges | Fault::WrongRange | Fault::WrongLength { .. } | Fault::Encoded(_) => {
                Blamed::FileForGood
            }
            Fault::Forbidden(_) | Fault::Corrupt | Fault::Unsupported(_) => Blamed::UrlForGood,
        }
    }
}
