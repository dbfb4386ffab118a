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
        ("frobnicate", "frobnicate: no such command"),
        ("sed", "sed: no such command; did you mean seed?"),
        ("dht pust", "pust: no such command; did you mean put?"),
        ("show", "SOURCE is missing"),
        ("verify", "SOURCE and DIR are missing"),
        ("show x y", "y: one argument too many"),
        ("show x --jsn", "--jsn: no such option; did you mean --json?"),
        ("show x -x", "-x: no such option"),
        ("get ", "SOURCE: needs a value"),
        ("lab ", "PATH|SOURCE: needs a value"),
        ("show x --color", "--color: needs a value: auto, always or never"),
        ("show x --color=nevr", "--color: nevr is not auto, always or never; did you mean never?"),
        ("show x --json=1", "--json: takes no value such as 1"),
        ("show x --json --json", "--json: is given twice"),
        ("get x --max-up", "--max-up: needs a value"),
        ("get x --no-dht --dht-bootstrap a:1", "--no-dht: does not go together with --dht-bootstrap"),
        ("completions tcsh", "SHELL: tcsh is not bash, elvish, fish, powershell or zsh; did you mean zsh?"),
        ("dht put --salt x y", "--key is missing"),
    ] {
        let got = swarm(&args.split(' ').collect::<Vec<_>>());
        assert_eq!(got, (Exit::Usage, String::new(), format!("swarm: {line}\n")), "{args}");
    }
}

#[test]
fn a_bad_value_is_told_with_its_option_and_the_mend() {
    const ADDRESS: &str = "is not ADDR:PORT; write it as in 192.0.2.7:6881 or [2001:db8::7]:6881";
    const NODE: &str = "is not HOST:PORT; write it as in dht.example:6881 or [2001:db8::7]:6881";
    const NUMBER: &str = "does not start with a number; write it as in 500ms, 30s, 10m or 1h30m";
    const RATES: &str = "500k, 10MB/s or 80Mbit/s";
    for (args, value, wrong) in [
        ("get x --listen", "localhost:1", ADDRESS),
        ("get x --listen", "127.0.0.1", ADDRESS),
        ("get x --peer", "127.0.0.1:0", "has port 0, where no peer can listen"),
        ("get x --tracker", "tracker", "is not a URL: relative URL without a base"),
        ("get x --tracker", "ftp://a/", "starts with ftp:, not http:, https:, udp:"),
        ("get x --tracker", "udp://a", "names no port, and udp: has none of its own"),
        ("get x --dht-bootstrap", "dht.example", NODE),
        ("get x --max-up", "10Mb", "has the ambiguous unit \"Mb\"; write 10MB/s (bytes) or 10Mbit/s (bits)"),
        ("get x --max-up", "0", "is zero; for no limit, leave the option out"),
        ("get x --max-down", "10X", &format!("has the unknown unit \"X\"; write it as in {RATES}")),
        ("get x --max-down", "fast", &format!("does not start with a number; write it as in {RATES}")),
        ("get x --max-down", "9999999999T", "is out of range"),
        ("get x --max-peers", "0", "is not a whole number from 1 to 4294967295"),
        ("get x --max-peers", "many", "is not a whole number from 1 to 4294967295"),
        ("get x --space-wait", "soon", NUMBER),
        ("get x --space-wait", "30", "has no unit; write it as in 500ms, 30s, 10m or 1h30m"),
        ("get x --seed", "soon", "is not never, forever, a ratio such as 2.0, or a duration such as 30m"),
        ("get x --seed", "-1", "is not a ratio from 0 up"),
        ("get x --files", "[", "is not a pattern: unclosed character class; missing ']'"),
        ("seed x . --super-seed", "maybe", "is not auto, on or off"),
        ("show x --fetch --timeout", "x", NUMBER),
        ("create x --piece-length", "12345", "is not a power of two; the next one below is 8 KiB"),
        ("create x --piece-length", "8KiB", "is out of range: a piece has from 16 KiB to 256 MiB"),
        (
            "create x --piece-length",
            "1mb",
            "has the ambiguous unit \"mb\"; write 1MB (1,000s) or 1M (1,024s)",
        ),
        ("create x --announce", "a", "is not a URL: relative URL without a base"),
        ("create x --tier", "http://a/,b", "has b, which is not a URL: relative URL without a base"),
        ("create x --web-seed", "udp://a:1", "starts with udp:, not http:, https:"),
        ("create x --name", "a/b", "is a path, not a name"),
        ("create x --name", "..", "is not a name"),
        ("create x --node", "dht.example", NODE),
        ("create x --exclude", "[", "is not a pattern: unclosed character class; missing ']'"),
        (
            "create x --include",
            "{a",
            "is not a pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        ),
        ("lab --peers", "121", "is not a whole number from 1 to 120"),
        ("lab --seeds", "-1", "is not a whole number from 0 to 120"),
        ("lab --size", "0", "is zero; there is nothing to distribute"),
        (
            "lab --fault",
            "fire",
            "is not corrupt-peer, kill-peer, slow-peer, tracker-down, late-seed or disk-full",
        ),
        (
            "lab --timeout",
            "1 fortnight",
            "has the unknown unit \"fortnight\"; write it as in 500ms, 30s, 10m or 1h30m",
        ),
        ("dht --listen", "x", ADDRESS),
        ("dht --bootstrap", "x", NODE),
        ("dht put --key k --seq", "x", "is not a whole number"),
        ("dht put --key k --torrent", "beef", "is not an info-hash of 40 hexadecimal digits"),
        (
            "dht announce 631a31dd0a46257d5078c0dee4e66e26f73e42ac --port",
            "0",
            "is not a whole number from 1 to 65535",
        ),
        ("show x --log", "xml", "is not text, json or journald"),
    ] {
        let (command, option) = args.rsplit_once(' ').unwrap();
        let value_of = format!("{option}={value}");
        let args: Vec<&str> = command.split(' ').chain([&*value_of]).collect();
        let line = format!("swarm: {option}: {value} {wrong}\n");
        assert_eq!(swarm(&args), (Exit::Usage, String::new(), line));
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
        ("magnet:?dn=x", "no `xt=urn:btih:` or `xt=urn:btmh:` names a torrent"),
        (
            "magnet:?xt=urn:btih:631a31dd",
            "`631a31dd` is not an info-hash: that is 40 hexadecimal or 32 base32 digits",
        ),
        (
            "magnet:?xt=urn:btmh:1220caf1e1",
            "`1220caf1e1` is not a v2 info-hash: that is `1220` and 64 hexadecimal digits",
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
fn completions_hide_what_is_hidden() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (exit, out, err) = swarm(&["completions", shell]);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""));
        for known in ["json", "completions", "max-up", "get-peers"] {
            assert!(out.contains(known), "{shell}: {known}");
        }
        for hidden in hidden(&Cli::command()) {
            let options = ["--", "-l ", "l "].map(|dashes| format!("{dashes}{hidden}"));
            assert!(!options.iter().any(|option| out.contains(option)), "{shell}: {hidden}");
        }
    }
}

/// The long names of all hidden options.
fn hidden(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter(|arg| arg.is_hide_set());
    let own = own.filter_map(|arg| arg.get_long()).map(str::to_owned);
    let all: Vec<String> = own.chain(command.get_subcommands().flat_map(hidden)).collect();
    assert!(command.get_name() != "swarm" || all.contains(&"inject-poison".to_owned()));
    all
}

#[test]
fn completions_complete_paths_where_paths_are_taken() {
    let zsh = swarm(&["completions", "zsh"]).1;
    for (option, action) in [
        ("--output=", "_files -/"),
        ("--state-dir=", "_files -/"),
        ("--report=", "_files"),
        ("--save=", "_files"),
        ("--max-up=", ""),
        ("--comment=", ""),
        (":source --", "_files"),
        (":dir --", "_files -/"),
        (":path --", "_files"),
    ] {
        let lines = zsh.lines().filter(|line| line.contains(option));
        let ends = lines.filter(|line| line.ends_with(&format!(":{action}' \\")));
        assert!(ends.count() > 0, "{option} {action}");
    }
}

#[test]
fn help_lists_the_forms_of_a_source() {
    for (command, forms) in [
        ("show", &["x.meta", "https://", "with --fetch:", "magnet:?xt", "urn:btpk", "info-hash"][..]),
        ("get", &["x.meta", "https://", "magnet:?xt", "urn:btpk", "info-hash"]),
        ("seed", &["x.meta", "https://", "magnet:?xt", "urn:btpk", "info-hash"]),
        ("magnet", &["x.meta", "https://", "magnet:?xt", "urn:btpk", "info-hash"]),
        ("verify", &["x.meta", "https://", "`swarm show --fetch`"]),
    ] {
        let mut cli = Cli::command();
        let help = cli.find_subcommand_mut(command).unwrap().render_long_help().to_string();
        let source = help.split("Options:").next().unwrap();
        assert!(forms.iter().all(|form| source.contains(form)), "{command}: {source}");
    }
}

#[test]
fn help_fits_80_columns() {
    fn check(command: &mut clap::Command) {
        for help in [command.render_long_help(), command.render_help()].map(|help| help.to_string()) {
            let lines = help.lines().filter(|line| !line.starts_with("Usage:"));
            for line in lines {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
        command.get_subcommands_mut().for_each(check);
    }
    let mut command = Cli::command().term_width(80);
    command.build();
    check(&mut command);
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
