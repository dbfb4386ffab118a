//! The proxy that the user wants, whose password is never shown in a message or a log.

use crate::exit::{Exit, Failure};
use anyhow::{Context as _, Result};
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use swarm_engine::Proxy;
use swarm_tracker::process::Secret;

/// Where a proxy is looked for if no option names one, the first that is set and not empty.
const VARIABLES: [&str; 2] = ["all_proxy", "ALL_PROXY"];

/// Which proxy to use.
#[derive(Args, Clone, Debug, Default)]
pub struct ProxyArgs {
    /// Send everything through this proxy, and nothing another way: socks5://USER:PASSWORD@HOST:PORT or http://…
    ///
    /// Names are looked up by the proxy. SOCKS5 carries UDP too (uTP, DHT, UDP trackers) if the proxy does. `none`: no proxy, whatever
    /// the environment says. Without this option and --proxy-file, the variables all_proxy and ALL_PROXY are used.
    #[arg(long, global = true, value_name = "URL")]
    proxy: Option<Secret>,

    /// Read the proxy's URL from this file, where its password is not seen
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "proxy")]
    proxy_file: Option<PathBuf>,
}

impl ProxyArgs {
    /// The proxy, if there is to be one.
    ///
    /// # Errors
    /// If what names it makes no sense: nothing goes another way then either.
    pub fn proxy(&self) -> Result<Option<Proxy>> {
        self.find(|name| std::env::var_os(name))
    }

    fn find(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Proxy>> {
        if let Some(Secret(url)) = &self.proxy {
            return parse("--proxy", url);
        }
        if let Some(file) = &self.proxy_file {
            let what = format!("--proxy-file: {}", file.display());
            let read = std::fs::read_to_string(file);
            let text = read.with_context(|| Failure::new(Exit::Usage, format!("{what}: cannot read")))?;
            return parse(&what, text.trim());
        }
        let set = VARIABLES.into_iter().filter_map(|name| Some((name, variable(name)?)));
        match set.into_iter().find(|(_, value)| !value.is_empty()) {
            Some((name, value)) => parse(name, &value.to_string_lossy()),
            None => Ok(None),
        }
    }
}

fn parse(what: &str, text: &str) -> Result<Option<Proxy>> {
    if text == "none" {
        return Ok(None);
    }
    let parsed = text.parse::<Proxy>();
    parsed.map(Some).map_err(|error| Failure::new(Exit::Usage, format!("{what}: {error}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(proxy: Option<&str>, file: Option<PathBuf>) -> ProxyArgs {
        ProxyArgs { proxy: proxy.map(|url| Secret(url.to_owned())), proxy_file: file }
    }

    fn found(args: &ProxyArgs, set: &[(&str, &str)]) -> Result<Option<String>> {
        let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Ok(args.find(variable)?.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn options_go_before_the_environment_and_lower_case_before_upper() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("proxy");
        std::fs::write(&file, "socks5://u:p@file:1\n").unwrap();
        let set = [("all_proxy", "socks5://lower:1"), ("ALL_PROXY", "http://upper:1")];
        let none = args(None, None);
        for (args, set, expected) in [
            (&args(Some("http://option:1"), None), &set[..], Some("http://option:1")),
            (&args(Some("none"), None), &set, None),
            (&args(None, Some(file)), &set, Some("socks5://file:1")),
            (&none, &set, Some("socks5://lower:1")),
            (&none, &set[1..], Some("http://upper:1")),
            (&none, &[("all_proxy", ""), ("ALL_PROXY", "http://upper:1")], Some("http://upper:1")),
            (&none, &[], None),
        ] {
            assert_eq!(found(args, set).unwrap().as_deref(), expected);
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error_without_the_password() {
        let bad = "socks9://user:s3cret@host:1";
        let missing = args(None, Some("no/such/file".into()));
        for error in [
            found(&args(Some(bad), None), &[]).unwrap_err(),
            found(&args(None, None), &[("ALL_PROXY", bad)]).unwrap_err(),
            found(&missing, &[("ALL_PROXY", "http://h:1")]).unwrap_err(),
        ] {
            assert_eq!(Exit::of(&error), Exit::Usage);
            assert!(!format!("{error:?}").contains("s3cret"));
        }
        assert!(!format!("{:?}", args(Some(bad), None)).contains("s3cret"));
    }
}
