use super::*;
use proptest::prelude::*;

const ALL: [PathRules; 3] = [PathRules::UNIX, PathRules::MACOS, PathRules::WINDOWS];

fn path(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

/// The places of files that come in this order.
fn places(rules: PathRules, files: &[&str]) -> Vec<String> {
    let paths: Vec<_> = files.iter().map(|file| path(file)).collect();
    let mut table = PathTable::new(rules, 0);
    paths.iter().map(|path| table.place(path).unwrap_or_else(|| path.clone()).join("/")).collect()
}

#[test]
fn ordinary_names_stay_as_they_are() {
    for rules in ALL {
        for name in ["it's", "naïve ☕ .txt", ".hidden", "-rf", "a b", "x (2)", "~", "$HOME", "a;b&c"] {
            assert_eq!(rules.sanitise(name.as_bytes()), name);
        }
    }
    // What Windows could not hold is ordinary elsewhere.
    for name in
        ["con", "aux.c", "foo:bar", "x\\y", "Icon\r", "dot.", "...", "space ", "a\"b", "what?", "\u{1b}[1m"]
    {
        for rules in [PathRules::UNIX, PathRules::MACOS] {
            assert_eq!(rules.sanitise(name.as_bytes()), name);
        }
        assert!(!PathRules::WINDOWS.is_safe(name), "{name:?}");
    }
}

#[test]
fn names_with_a_meaning_lose_it_everywhere() {
    for rules in ALL {
        for (raw, safe) in [
            (&b""[..], "_"),
            (b".", "_"),
            (b"..", "__"),
            (b"/", "_"),
            (b"/etc", "_etc"),
            (b"../x", ".._x"),
            (b"a\0b", "a_b"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(rules.sanitise(raw), safe, "{rules:?}");
        }
    }
}

#[test]
fn windows_names() {
    for (raw, safe) in [
        ("CON", "_CON"),
        ("nul.tar.gz", "_nul.tar.gz"),
        ("aux .txt", "_aux .txt"),
        ("com1", "_com1"),
        ("LPT³.x", "_LPT³.x"),
        ("com10", "com10"),
        ("com", "com"),
        ("console", "console"),
        ("a.", "a_"),
        ("a. .", "a___"),
        ("con.", "con_"),
        ("c:\\x", "c__x"),
        ("a\tb\u{7f}", "a_b_"),
        ("what?*<>|\"", "what______"),
    ] {
        assert_eq!(PathRules::WINDOWS.sanitise(raw.as_bytes()), safe);
    }
}

#[test]
fn long_names_are_cut_before_the_extension() {
    let long = format!("{}.tar", "x".repeat(300));
    let cut = PathRules::UNIX.sanitise(long.as_bytes());
    assert_eq!((cut.len(), &cut[250..]), (255, "x.tar"));
    // Never inside a character, and a long extension is none.
    let cut = PathRules::UNIX.sanitise("é".repeat(200).as_bytes());
    assert_eq!(cut, "é".repeat(127));
    let cut = PathRules::UNIX.sanitise(format!("a.{}", "é".repeat(200)).as_bytes());
    assert_eq!(cut.len(), 254);
    // The cut uncovers a trailing dot.
    let dots = format!("{}{}", "x".repeat(254), ".".repeat(3) + "y".repeat(20).as_str());
    assert_eq!(PathRules::WINDOWS.sanitise(dots.as_bytes()), "x".repeat(254) + "_");
}

#[test]
fn equal_paths_are_numbered_in_order() {
    assert_eq!(
        places(PathRules::UNIX, &["a.txt", "a.txt", "d/a", "a.txt", "d/a", ".x", ".x"]),
        ["a.txt", "a (2).txt", "d/a", "a (3).txt", "d/a (2)", ".x", ".x (2)"]
    );
    assert_eq!(places(PathRules::UNIX, &["a (2)", "a", "a"]), ["a (2)", "a", "a (3)"]);
}

#[test]
fn a_file_is_no_folder() {
    assert_eq!(
        places(PathRules::UNIX, &["a", "a/x", "a/y/z", "a", "b/c", "b"]),
        ["a", "a (2)/x", "a (2)/y/z", "a (3)", "b/c", "b (2)"]
    );
}

#[test]
fn case_and_normalisation_matter_where_the_system_says_so() {
    let files = ["Readme", "README", "\u{e9}", "e\u{301}", "D/x", "d/y", "d/X", "σ", "ς"];
    assert_eq!(places(PathRules::UNIX, &files), files);
    for rules in [PathRules::MACOS, PathRules::WINDOWS] {
        assert_eq!(
            places(rules, &files),
            ["Readme", "README (2)", "\u{e9}", "e\u{301} (2)", "D/x", "D/y", "D/X (2)", "σ", "ς (2)"]
        );
    }
}

#[test]
fn links_follow_folders_that_were_renamed() {
    let paths = [path("a"), path("a/x"), path("b/c/d")];
    let mut table = PathTable::new(PathRules::UNIX, 0);
    paths.iter().for_each(|path| {
        table.place(path);
    });
    assert_eq!(table.locate(&path("a/x")), path("a (2)/x"));
    assert_eq!(table.locate(&path("b/c")), path("b/c"));
    assert_eq!(table.locate(&path("b/none/c")), path("b/none/c"));
}

#[test]
fn a_hundred_thousand_equal_names_take_no_time() {
    // Each pair shares all of its candidates with every other pair.
    let names: Vec<_> = (0..50_000).map(|n| vec![format!("{}{n:08}", "x".repeat(247))]).collect();
    let paths: Vec<_> = names.iter().chain(&names).chain(std::iter::repeat_n(&names[0], 50_000)).collect();
    let mut table = PathTable::new(PathRules::UNIX, 0);
    let renamed = paths.iter().filter(|path| table.place(path).is_some()).count();
    assert_eq!(renamed, 100_000);
}

/// Names that are likely to collide, to be reserved, or to be cut.
fn raw_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(&["a", "A", "b", "a (2)", "a.b", "con", "..", ".", "", "é", "e\u{301}", "x/y"][..])
            .prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => (250usize..260).prop_map(|len| vec![b'a'; len]),
    ]
}

fn raw_paths() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    prop::collection::vec(prop::collection::vec(raw_name(), 1..4), 0..24)
}

fn settle(rules: PathRules, raw: &[Vec<Vec<u8>>]) -> Vec<Vec<String>> {
    let paths: Vec<Vec<String>> =
        raw.iter().map(|path| path.iter().map(|name| rules.sanitise(name)).collect()).collect();
    let mut table = PathTable::new(rules, 0);
    paths.iter().map(|path| table.place(path).unwrap_or_else(|| path.clone())).collect()
}

fn folded(rules: PathRules, path: &[String]) -> Vec<String> {
    path.iter().map(|name| rules.fold(name).into_owned()).collect()
}

proptest! {
    #[test]
    fn every_path_is_safe_unique_and_no_folder_of_another(
        raw in raw_paths(),
        rules in prop::sample::select(&ALL[..]),
    ) {
        let paths = settle(rules, &raw);
        for (path, raw) in paths.iter().zip(&raw) {
            prop_assert_eq!(path.len(), raw.len());
            for name in path {
                prop_assert!(rules.is_safe(name), "{:?}", name);
                prop_assert!((1..=COMPONENT_LEN_MAX).contains(&name.len()));
                prop_assert!(name != "." && name != ".." && !name.contains(['/', '\0']));
                prop_assert!(rules != PathRules::WINDOWS || !name.contains(['\\', ':']));
            }
        }
        let folded: Vec<_> = paths.iter().map(|path| folded(rules, path)).collect();
        for (i, one) in folded.iter().enumerate() {
            for other in &folded[i + 1..] {
                prop_assert!(!one.starts_with(other) && !other.starts_with(one), "{:?} {:?}", one, other);
            }
        }
        prop_assert_eq!(&settle(rules, &raw), &paths);
    }

    #[test]
    fn what_is_safe_and_unique_already_stays(raw in raw_paths(), rules in prop::sample::select(&ALL[..])) {
        let paths = settle(rules, &raw);
        let again: Vec<Vec<Vec<u8>>> =
            paths.iter().map(|path| path.iter().map(|name| name.clone().into_bytes()).collect()).collect();
        prop_assert_eq!(settle(rules, &again), paths);
    }
}
