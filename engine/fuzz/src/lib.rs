//! What strangers' bytes come to: for each parser and state machine that takes them, a function that panics if something is wrong.
//!
//! [`TARGETS`] is the list. `cargo test -p swarmbt-fuzz` gives each a fixed number of inputs, always the same ones: its seeds, what was once
//! found (`testdata/fuzz`), and mutations of these. `just fuzz NAME` searches on from there, guided by coverage.
//!
//! A target checks what must hold of any input, not that one is refused: nothing panics, what is written is read back as it was, what is
//! kept is in proportion to the input or has a bound, and nobody is blamed for what another did.

mod input;
pub mod memory;
mod mutate;
mod targets;

pub use mutate::check;
pub use targets::TARGETS;

/// Something that takes the bytes of strangers.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    /// Panics if something is wrong. It is given the same input twice with the same outcome.
    pub run: fn(&[u8]),
    /// Inputs that lead far in.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many inputs a test gives it: a few seconds' worth.
    pub runs: u32,
}

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
