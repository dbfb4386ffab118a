//! Who has a turn.

use super::record::{Id, Record};
use std::collections::BTreeSet;

/// How many torrents may run at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Of those that are not complete; `None`: all.
    pub downloads: Option<usize>,
    /// Of those that are.
    pub seeds: Option<usize>,
}

/// Whether it is neither paused nor being removed.
pub fn is_willing(record: &Record) -> bool {
    !record.options.paused && record.removing.is_none()
}

/// The torrents that run: those that need no turn, and the first of the others by their positions. Those that are paused, that are
/// being removed, or that `cannot` run take no turn.
pub fn running<'a>(
    records: impl Iterator<Item = &'a Record>,
    turns: Turns,
    cannot: impl Fn(Id) -> bool,
) -> BTreeSet<Id> {
    let willing = |record: &&Record| is_willing(record) && !cannot(record.id);
    let (forced, mut others): (Vec<_>, Vec<_>) = records.filter(willing).partition(|r| r.options.forced);
    if turns != Turns::default() {
        others.sort_unstable_by_key(|record| (record.options.position, record.id));
        let (mut downloads, mut seeds) =
            (turns.downloads.unwrap_or(usize::MAX), turns.seeds.unwrap_or(usize::MAX));
        others.retain(|record| {
            let left = if record.is_complete() { &mut seeds } else { &mut downloads };
            let has_turn = *left > 0;
            *left -= usize::from(has_turn);
            has_turn
        });
    }
    forced.into_iter().chain(others).map(|record| record.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: i64, position: i64, complete: bool) -> Record {
        let mut record = Record { id: Id(id), completed_at: complete.then_some(1), ..Record::default() };
        record.options.position = position;
        record
    }

    fn run(records: &[Record], downloads: usize, seeds: usize) -> Vec<i64> {
        let turns = Turns { downloads: Some(downloads), seeds: Some(seeds) };
        running(records.iter(), turns, |_| false).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn the_first_in_the_queue_have_a_turn_downloads_and_seeds_apart() {
        let records = [
            record(1, 30, false),
            record(2, 10, false),
            record(3, 20, true),
            record(4, 5, true),
            record(5, 7, false),
        ];
        assert_eq!(run(&records, 2, 1), [2, 4, 5]);
        assert!(run(&records, 0, 0).is_empty());
        assert_eq!(running(records.iter(), Turns::default(), |_| false).len(), 5);
    }

    #[test]
    fn who_is_forced_takes_nobodys_turn_and_who_is_paused_takes_none() {
        let mut records =
            [record(1, 1, false), record(2, 2, false), record(3, 3, false), record(4, 4, false)];
        records[0].options.forced = true;
        records[1].options.paused = true;
        assert_eq!(run(&records, 1, 0), [1, 3]);
        records[0].options.paused = true;
        assert_eq!(run(&records, 1, 0), [3]);
        records[2].removing = Some(swarm_engine::Data::Keep);
        assert_eq!(run(&records, 1, 0), [4]);
        let cannot = running(records.iter(), Turns { downloads: Some(1), seeds: None }, |id| id == Id(4));
        assert!(cannot.is_empty());
    }
}
