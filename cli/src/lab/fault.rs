//! What can go wrong on purpose.

use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// One more peer claims to be a seed and sends corrupt blocks
    CorruptPeer,
    /// A downloader is killed after a third of the data and restarted
    KillPeer,
    /// A downloader is slow, both ways
    SlowPeer,
    /// The tracker ends after the first announces
    TrackerDown,
    /// The source starts some seconds after the downloaders
    LateSeed,
    /// A downloader's disk is full for three seconds after a third of the data
    DiskFull,
}

impl Fault {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether one of the downloaders has it.
    pub fn has_victim(self) -> bool {
        matches!(self, Fault::KillPeer | Fault::SlowPeer | Fault::DiskFull)
    }
}

/// The faults of each of `peers` downloaders. They go to different ones as long as there are enough.
pub fn assign(faults: &[Fault], peers: usize) -> Vec<Vec<Fault>> {
    let mut assigned = vec![Vec::new(); peers];
    for (nth, &fault) in faults.iter().filter(|fault| fault.has_victim()).enumerate() {
        assigned[nth % peers].push(fault);
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for &fault in Fault::value_variants() {
            assert_eq!(Fault::from_str(&fault.name(), false), Ok(fault));
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.name());
        }
    }

    #[test]
    fn faults_meet_different_downloaders_while_there_are_enough() {
        let faults = [Fault::KillPeer, Fault::TrackerDown, Fault::SlowPeer, Fault::DiskFull];
        assert_eq!(assign(&faults, 3), [[Fault::KillPeer], [Fault::SlowPeer], [Fault::DiskFull]]);
        assert_eq!(assign(&faults, 2), [vec![Fault::KillPeer, Fault::DiskFull], vec![Fault::SlowPeer]]);
    }
}
