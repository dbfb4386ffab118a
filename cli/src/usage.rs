//! What is wrong with a command line, in one line: the option, its value, what is wrong with it, and the
//! mend.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error as _;

/// The parser's error in our words.
pub fn line(error: &clap::Error) -> String {
    in_our_words(error).unwrap_or_else(|| rendered(&error.render().to_string()))
}

fn in_our_words(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let texts = |kind| match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(ContextValue::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    };
    let arg = || text(ContextKind::InvalidArg).map(|arg| name(&arg));
    let did_you_mean = |kind| match &texts(kind)[..] {
        [] => String::new(),
        known => format!("; did you mean {}?", listed(known, "or")),
    };
    Some(match error.kind() {
        ErrorKind::ValueValidation => {
            let why = error.source()?.to_string();
            format!("{}: {}", arg()?, with_value(&text(ContextKind::InvalidValue)?, &why))
        }
        ErrorKind::InvalidValue => {
            let known = listed(&texts(ContextKind::ValidValue), "or");
            match text(ContextKind::InvalidValue)?.as_str() {
                "" if known.is_empty() => format!("{}: needs a value", arg()?),
                "" => format!("{}: needs a value: {known}", arg()?),
                value => {
                    let tip = did_you_mean(ContextKind::SuggestedValue);
                    format!("{}: {}{tip}", arg()?, with_value(value, &format!("is not {known}")))
                }
            }
        }
        ErrorKind::UnknownArgument => {
            let arg = text(ContextKind::InvalidArg)?;
            match arg.starts_with('-') {
                true => format!("{arg}: no such option{}", did_you_mean(ContextKind::SuggestedArg)),
                false => format!("{arg}: one argument too many"),
            }
        }
        ErrorKind::InvalidSubcommand => {
            let command = text(ContextKind::InvalidSubcommand)?;
            format!("{command}: no such command{}", did_you_mean(ContextKind::SuggestedSubcommand))
        }
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<String> = texts(ContextKind::InvalidArg).iter().map(|arg| name(arg)).collect();
            let verb = if missing.len() == 1 { "is" } else { "are" };
            format!("{} {verb} missing", listed(&missing, "and"))
        }
        ErrorKind::ArgumentConflict => {
            let others: Vec<String> = texts(ContextKind::PriorArg).iter().map(|arg| name(arg)).collect();
            match others.iter().all(|other| *other == arg().unwrap_or_default()) {
                true => format!("{}: is given twice", arg()?),
                false => format!("{}: does not go together with {}", arg()?, listed(&others, "and")),
            }
        }
        ErrorKind::NoEquals => format!("{}: its value goes after a `=`", arg()?),
        ErrorKind::TooManyValues => {
            format!("{}: takes no value such as {}", arg()?, text(ContextKind::InvalidValue)?)
        }
        _ => return None,
    })
}

/// The value and why it is wrong; no value is named as such.
fn with_value(value: &str, why: &str) -> String {
    if value.is_empty() { format!("an empty value {why}") } else { format!("{value} {why}") }
}

/// An option or argument by its name alone: `--max-up` of `--max-up <RATE>`, `SOURCE` of `<SOURCE>`.
fn name(arg: &str) -> String {
    if arg.starts_with('-') {
        let end = arg.find([' ', '=', '[']).unwrap_or(arg.len());
        return arg[..end].to_owned();
    }
    arg.trim_end_matches("...").trim_matches(['<', '>', '[', ']']).to_owned()
}

/// `a`, `a or b`, `a, b or c`.
fn listed(items: &[String], last: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

/// The parser's own message of several lines as one: what is wrong, then its tips.
fn rendered(message: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for paragraph in message.split("\n\n") {
        let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(wrong) = text.strip_prefix("error: ") {
            parts.push(wrong.to_owned());
        } else if text.starts_with("tip: ") {
            parts.extend(text.split("tip: ").map(|tip| tip.trim().to_owned()).filter(|tip| !tip.is_empty()));
        }
    }
    parts.join("; ")
}
