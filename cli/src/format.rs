//! Which versions of BitTorrent a new torrent is for.

use clap::ValueEnum;
use swarm_core::metainfo::Format;

/// Versions of BitTorrent.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// Version 1
    V1,
    /// Version 2 (BEP 52)
    V2,
    /// Both
    Hybrid,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Format {
        match format {
            FormatArg::V1 => Format::V1,
            FormatArg::V2 => Format::V2,
            FormatArg::Hybrid => Format::Hybrid,
        }
    }
}
