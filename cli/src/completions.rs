//! `swarm completions`: scripts that complete the command in a shell.

use crate::context::Context;
use crate::exit::Exit;
use anyhow::Result;
use clap::{Arg, Args, Command, ValueHint};
use clap_complete::Shell;

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell to complete in
    shell: Shell,
}

pub fn run(args: &CompletionsArgs, cli: &Command, cx: &mut Context) -> Result<Exit> {
    let mut command = visible(cli);
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "swarm", &mut script);
    match (args.shell, String::from_utf8(script)) {
        (Shell::Bash, Ok(script)) => cx.console.raw(paths_first(&script, &command).as_bytes()),
        (_, Ok(script)) => cx.console.raw(script.as_bytes()),
        (_, Err(error)) => cx.console.raw(error.as_bytes()),
    }
    Ok(Exit::Done)
}

/// The command without what is hidden, and with a hint for each value: what is no path is nothing that can be
/// completed.
fn visible(command: &Command) -> Command {
    let args =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).map(|arg| match arg.get_value_hint() {
            ValueHint::Unknown if takes_value(arg) => arg.clone().value_hint(ValueHint::Other),
            _ => arg.clone(),
        });
    let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set()).map(visible);
    let mut copy = Command::new(command.get_name().to_owned()).args(args).subcommands(subcommands);
    copy = copy.about(command.get_about().cloned().unwrap_or_default());
    match command.get_version() {
        Some(version) => copy.version(version.to_owned()),
        None => copy,
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.is_positional() || arg.get_action().takes_values()
}

/// Bash's script offers options where an argument could stand as well. Where that is a path, paths it should
/// be: the shell completes them by itself if the script has no answer.
fn paths_first(script: &str, command: &Command) -> String {
    let is_path = |arg: &Arg| {
        matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath)
    };
    let takes_path = |command: &&Command| command.get_positionals().any(is_path);
    let sections: Vec<String> = command
        .get_subcommands()
        .filter(takes_path)
        .map(|command| format!("        swarm__subcmd__{})", command.get_name()))
        .collect();
    let mut is_inside = false;
    let mut out = String::with_capacity(script.len());
    for line in script.lines() {
        match line {
            "            ;;" => is_inside = false,
            _ if sections.iter().any(|section| section == line) => is_inside = true,
            _ => {}
        }
        match line.split_once(" || ${COMP_CWORD} -eq ") {
            Some((condition, _)) if is_inside => out += &format!("{condition} ]] ; then"),
            None if is_inside && line.starts_with("            COMPREPLY=(") => continue,
            _ => out += line,
        }
        out.push('\n');
    }
    out
}
