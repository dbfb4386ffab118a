//! Cases collected from other projects, which are not part of this one: the folder that `SWARM_CORPORA` names. Without
//! it these tests have nothing to do, and say so.

#[path = "corpora/table.rs"]
mod table;

use swarm_core::bencode::{Limits, parse};
use table::{base64, rows, text};

#[test]
fn bencoded_data_is_taken_or_refused_as_others_do() {
    let wrong: Vec<String> = rows("bencode.json")
        .iter()
        .filter_map(|row| {
            let input = base64(text(row, "b64"));
            let found = parse(&input, &Limits::default()).map(|document| document.root().raw() == input);
            let is_right = match text(row, "expect") {
                "ok" => found == Ok(true),
                "error" => found.is_err(),
                "either" => found != Ok(false),
                other => panic!("{other} in {row}"),
            };
            (!is_right).then(|| format!("{row}: {found:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}
