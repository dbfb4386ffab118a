//! A disk that is full, or fails, on demand.

use std::collections::BTreeSet;
use std::sync::Mutex;
use swarm_core::id::PieceIndex;

/// Takes a number of bytes, then makes the disk look full until it is [lifted](Self::lift). For tests and
/// `swarm lab --fault disk-full`.
#[derive(Debug)]
pub struct SpaceBudget(Mutex<State>);

#[derive(Debug)]
struct State {
    left: u64,
    full: bool,
    lifted: bool,
    /// What writes fail with, if not for lack of space.
    error: Option<i32>,
    /// Pieces that cannot be read.
    unreadable: BTreeSet<PieceIndex>,
}

#[cfg_attr(not(feature = "__hooks"), allow(dead_code, reason = "only tests and the lab have one"))]
impl SpaceBudget {
    /// A disk that is full once `bytes` have been written.
    pub fn new(bytes: u64) -> SpaceBudget {
        SpaceBudget(Mutex::new(State {
            left: bytes,
            full: false,
            lifted: false,
            error: None,
            unreadable: BTreeSet::new(),
        }))
    }

    /// A disk whose writes fail with this error of the system once `bytes` have been written.
    pub fn failing(bytes: u64, raw_os_error: i32) -> SpaceBudget {
        let budget = SpaceBudget::new(bytes);
        budget.state().error = Some(raw_os_error);
        budget
    }

    /// From now on the disk does not give what it holds of these pieces.
    pub fn set_unreadable(&self, pieces: impl IntoIterator<Item = PieceIndex>) {
        self.state().unreadable = pieces.into_iter().collect();
    }

    pub(super) fn is_readable(&self, piece: PieceIndex) -> bool {
        !self.state().unreadable.contains(&piece)
    }

    /// Space is back, for good.
    pub fn lift(&self) {
        self.state().lifted = true;
    }

    /// Whether something has failed for lack of space and the budget is not lifted.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.full && !state.lifted && state.error.is_none()
    }

    /// Charges a write.
    pub(super) fn charge(&self, bytes: u64) -> std::io::Result<()> {
        let mut state = self.state();
        if state.lifted {
            return Ok(());
        }
        match state.left.checked_sub(bytes) {
            Some(left) if !state.full => {
                state.left = left;
                Ok(())
            }
            _ => {
                state.full = true;
                Err(match state.error {
                    Some(error) => std::io::Error::from_raw_os_error(error),
                    None => std::io::ErrorKind::StorageFull.into(),
                })
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        super::lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_full_until_lifted() {
        let budget = SpaceBudget::new(10);
        assert!(budget.charge(6).is_ok() && !budget.is_full());
        assert!(budget.charge(6).is_err() && budget.is_full());
        assert!(budget.charge(1).is_err(), "a full disk stays full");
        budget.lift();
        assert!(budget.charge(100).is_ok() && !budget.is_full());
    }
}
