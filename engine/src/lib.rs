//! (being built)

pub mod buffer;
pub mod hash;
pub mod storage;
