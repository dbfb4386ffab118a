//! Which versions of BitTorrent a new torrent is for.

use clap::ValueEnum;
use std::fmt;
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

impl From<Format> for FormatArg {
    fn from(format: Format) -> FormatArg {
        match format {
            Format::V1 => FormatArg::V1,
            Format::V2 => FormatArg::V2,
            Format::Hybrid => FormatArg::Hybrid,
        }
    }
}

impl fmt::Display for FormatArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FormatArg::V1 => "v1",
            FormatArg::V2 => "v2",
            FormatArg::Hybrid => "hybrid",
        })
    }
}
