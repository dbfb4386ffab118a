//! Which torrents a call is about.

use super::dialect::{Params, whole};
use crate::table::{Query, Row, Table};
use crate::torrents::Id;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How long something counts as recent, in seconds.
pub const RECENT: i64 = 60;
const RECENTLY_ACTIVE: &str = "recently_active";

/// The torrents of a call.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    pub rows: Vec<Row>,
    /// Those that were removed lately, if that was asked for.
    pub removed: Option<Vec<Id>>,
}

impl Chosen {
    /// Their numbers.
    pub fn ids(&self) -> Vec<Id> {
        self.rows.iter().map(|row| row.summary.id).collect()
    }
}

/// What `ids` means: a number, a hash, "recently_active" or a list of these; left out, all of them. Nobody is who is not there.
pub fn choose(params: &Params, table: &Table, now: i64) -> Chosen {
    let given = match params.get("ids") {
        None => return Chosen { rows: table.iter().cloned().collect(), removed: None },
        Some(Value::Array(list)) => &list[..],
        Some(one) => std::slice::from_ref(one),
    };
    let mut ids = Vec::new();
    let mut hashes = None;
    let mut removed = None;
    for one in given {
        match one {
            Value::String(word) if word == RECENTLY_ACTIVE => {
                let (active, gone) = recent(table, now);
                ids.extend(active);
                removed = Some(gone);
            }
            Value::String(hash) => {
                let known = hashes.get_or_insert_with(|| by_hash(table));
                ids.extend(known.get(&*hash.to_ascii_lowercase()).copied());
            }
            number => ids.extend(whole(number).map(Id)),
        }
    }
    let mut seen = BTreeSet::new();
    let rows = ids.into_iter().filter(|id| seen.insert(*id)).filter_map(|id| table.get(id).cloned());
    Chosen { rows: rows.collect(), removed }
}

fn by_hash(table: &Table) -> BTreeMap<&str, Id> {
    let of = |row: &'_ Row| row.summary.id;
    let mut known = BTreeMap::new();
    for row in table.iter() {
        let summary = &row.summary;
        for hash in [&summary.info_hash, &summary.info_hash_v1, &summary.info_hash_v2].into_iter().flatten() {
            known.insert(hash.as_str(), of(row));
            // Of version 2 clients know the first 40 digits.
            known.insert(hash.get(..40).unwrap_or(hash), of(row));
        }
    }
    known
}

/// Those of whom lists have shown something new in the last minute, and those that went in it: a few more than that, rather than fewer.
fn recent(table: &Table, now: i64) -> (Vec<Id>, Vec<Id>) {
    let since = table.revision_at(now - RECENT);
    let page = table.page(&Query { since: Some(since), after: None, limit: usize::MAX }, |_| true);
    (page.torrents.iter().map(|summary| summary.id).collect(), page.removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Summary;
    use serde_json::json;
    use std::sync::Arc;

    fn row(id: i64, name: &str, hash: &str) -> Row {
        let info_hash = Some(hash.to_owned());
        let summary = Summary { id: Id(id), name: name.to_owned(), info_hash, ..Summary::default() };
        Row { summary: Arc::new(summary), ..Row::default() }
    }

    fn table() -> Table {
        let mut table = Table::new(1);
        for (id, digit) in [(1, "a"), (2, "b"), (3, "c")] {
            table.put(row(id, "x", &digit.repeat(40)));
        }
        table
    }

    fn ids(table: &Table, ids: Value) -> Vec<i64> {
        let params = json!({"ids": ids}).as_object().unwrap().clone();
        choose(&params, table, 1_000).ids().into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn torrents_are_named_by_number_hash_or_list() {
        let table = table();
        assert_eq!(ids(&table, json!(2)), [2]);
        assert_eq!(ids(&table, json!("B".repeat(40))), [2]);
        assert_eq!(ids(&table, json!([3, "a".repeat(40), 3, 99, "zz", null, {}])), [3, 1]);
        assert!(ids(&table, json!([])).is_empty());
        assert!(ids(&table, json!(null)).is_empty());
        assert_eq!(choose(&Params::new(), &table, 0).rows.len(), 3);
    }

    #[test]
    fn recent_is_what_has_changed_in_the_last_minute() {
        let mut table = table();
        table.mark(1_000);
        assert_eq!(ids(&table, json!("recently_active")), [1, 2, 3]);
        table.mark(1_010);
        table.put(row(2, "y", "b"));
        table.remove(Id(1));
        let params = json!({"ids": "recently_active"}).as_object().unwrap().clone();
        let at = |now: i64| choose(&params, &table, now);
        assert_eq!((at(1_059).ids().len(), at(1_059).removed), (2, Some(vec![Id(1)])));
        assert_eq!((at(1_060).ids(), at(1_060).removed), (vec![Id(2)], Some(vec![Id(1)])));
        table.mark(1_080);
        let later = choose(&params, &table, 1_140);
        assert!(later.rows.is_empty() && later.removed == Some(Vec::new()));
    }
}
