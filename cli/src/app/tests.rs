use super::*;
use crate::console::tests::Shared;

/// Runs a command line in process: its status, stdout and stderr.
fn swarm(args: &[&str]) -> (Exit, String, String) {
    let (out, err) = (Shared::default(), Shared::default());
    let console = Console::new(Box::new(out.clone()), Box::new(err.clone()));
    let args = std::iter::once("swarm").chain(args.iter().copied()).map(OsString::from);
    let exit = run(args, console);
    (exit, out.text(), err.text())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_usage_error_is_one_line_and_status_2() {
    for (args, line) in [
        (&["frobnicate"][..], "swarm: unrecognized subcommand 'frobnicate'\n"),
        (&["show"], "swarm: the following required arguments were not provided: <SOURCE>\n"),
        (
            &["show", "x", "--jsn"],
            "swarm: unexpected argument '--jsn' found; a similar argument exists: '--json'\n",
        ),
        (
            &["show", "x", "--color", "mauve"],
            "swarm: invalid value 'mauve' for '--color <WHEN>' [possible values: auto, always, never]\n",
        ),
    ] {
        assert_eq!(swarm(args), (Exit::Usage, String::new(), line.to_owned()), "{args:?}");
    }
}

#[test]
fn no_command_is_usage_and_shows_the_commands() {
    let (exit, out, err) = swarm(&[]);
    assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
    assert!(err.contains("Usage: swarm") && err.contains("show"), "{err}");
}

#[test]
fn a_link_does_not_say_what_is_in_it() {
    let hash = "631a31dd0a46257d5078c0dee4e66e26f73e42ac";
    let link = format!("magnet:?xt=urn:btih:{hash}");
    for source in [hash, &link, "MMNDDXIKIYSX2UDYYDPOJZTOE33T4QVM"] {
        assert_eq!(swarm(&["magnet", source]), (Exit::Done, format!("{link}\n"), String::new()));
        let (exit, out, err) = swarm(&["show", source]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("`swarm show --fetch`"), "{err}");
    }
}

#[test]
fn what_is_no_source_is_status_3() {
    for (source, wrong) in [
        ("magnet:?dn=x", "no `xt=urn:btih:` names a torrent"),
        (
            "magnet:?xt=urn:btih:631a31dd",
            "`631a31dd` is not an info-hash: that is 40 hexadecimal or 32 base32 digits",
        ),
        (
            "magnet:?xt=urn:btmh:1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e",
            "BitTorrent v2 is not supported yet",
        ),
        ("http://[", "is not a valid URL: invalid IPv6 address"),
    ] {
        assert_eq!(
            swarm(&["show", source]),
            (Exit::Metainfo, String::new(), format!("swarm: {source}: {wrong}\n"))
        );
    }
}

#[test]
fn completions_name_the_options() {
    let (exit, out, err) = swarm(&["completions", "bash"]);
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));
    assert!(out.contains("--json") && out.contains("completions"));
}

#[test]
fn manual_pages_cover_each_subcommand() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("man/man1");
    let (exit, ..) = swarm(&["man", target.to_str().unwrap()]);
    assert_eq!(exit, Exit::Done);
    let show = std::fs::read_to_string(target.join("swarm-show.1")).unwrap();
    assert!(show.contains("SOURCE"));
    assert!(target.join("swarm.1").exists());
}

#[test]
fn colour_is_known_before_help_is_shown() {
    let choice = |args: &[&str]| color_choice(&args.iter().map(OsString::from).collect::<Vec<_>>());
    assert_eq!(choice(&["swarm", "--color", "never", "--help"]), ColorChoice::Never);
    assert_eq!(choice(&["swarm", "get", "--color=always", "-h"]), ColorChoice::Always);
    assert_eq!(choice(&["swarm", "--color"]), ColorChoice::Auto);
}
