//! Values that options of `swarm ctl` have, as the API takes them.

use crate::units;
use serde_json::Value;
use std::time::Duration;

/// A rate, or none.
#[derive(Clone, Copy, Debug)]
pub struct Limit(pub Option<u64>);

pub fn parse_limit(text: &str) -> Result<Limit, String> {
    if text == "none" { Ok(Limit(None)) } else { units::parse_rate(text).map(|rate| Limit(Some(rate))) }
}

pub fn parse_ratio(text: &str) -> Result<Value, &'static str> {
    match text.parse::<f64>() {
        _ if matches!(text, "none" | "default") => Ok(text.into()),
        Ok(ratio) if ratio.is_finite() && ratio >= 0.0 => Ok(ratio.into()),
        _ => Err("is not a number from 0 up, none or default"),
    }
}

pub fn parse_seed_time(text: &str) -> Result<Value, String> {
    match text {
        "none" | "default" => Ok(text.into()),
        _ => units::parse_duration(text).map(|time: Duration| time.as_secs().into()),
    }
}
