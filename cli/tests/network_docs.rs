//! `docs/network.md` has an example of each network option, and the command takes each example.

mod common;

use common::{bytes, run, run_ok, write};
use std::fs;
use std::path::Path;

/// The commands of the page's examples, without comments.
fn examples(page: &str) -> Vec<&str> {
    let lines = page.lines().map(|line| line.split(" #").next().unwrap().trim());
    lines.filter(|line| line.starts_with("swarm ")).collect()
}

/// The options under "Network options" in a command's help, and `--web-seed`.
fn options(help: &str) -> Vec<String> {
    let network = help.split("Network options:").nth(1).expect("there are some");
    let network = network.split("\nCommon options:").next().unwrap();
    let flags = network.lines().filter_map(|line| line.trim().strip_prefix("--"));
    let name = |flag: &str| format!("--{}", flag.split([' ', '<', '[']).next().unwrap());
    let is_flag = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
    let proper = flags.filter(is_flag).filter(|flag| !flag.contains(',')).map(name);
    proper.chain(["--web-seed".to_owned()]).collect()
}

#[test]
fn each_network_option_has_an_example_that_is_taken() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/network.md");
    let page = fs::read_to_string(page).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let help = run_ok(dir.path(), ["get", "--help"]).stdout;
    let (options, examples) = (options(&help), examples(&page));
    assert!(options.len() > 15, "{options:?}");
    for option in &options {
        let has_it = |example: &&str| example.split(' ').any(|word| word == option);
        assert!(examples.iter().any(has_it), "docs/network.md has no example of {option}");
    }
    // No torrent is there, so that nothing is sent: what is wrong with the options is said before.
    write(dir.path().join("release/file"), bytes(1, 10));
    write(dir.path().join("proxy.txt"), b"socks5://user:password@192.0.2.1:1080");
    for example in examples.into_iter().filter(|example| !example.contains('~')) {
        let words = example.split(' ').filter(|word| !word.is_empty()).skip(1);
        let finished = run(dir.path(), words.clone());
        let is_lab = words.clone().next() == Some("lab");
        assert!(is_lab || matches!(finished.code, Some(1 | 3)), "{example}: {finished:?}");
        assert!(is_lab || finished.stderr.contains("release.meta"), "{example}: {finished:?}");
    }
}
