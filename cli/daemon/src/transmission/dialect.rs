//! Messages: the older dialect (`method`, `arguments`, `tag`; up to 4.0) and JSON-RPC 2.0 (4.1), to calls and from answers. No I/O here.

use super::names;
use super::outline::Outline;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value, json};

/// How many calls a batch may have.
const BATCH_MAX: usize = 100;

/// Keys, always in snake case, and values.
pub type Params = Map<String, Value>;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// That of Transmission up to 4.0.
    Older,
    /// JSON-RPC 2.0.
    JsonRpc,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub dialect: Dialect,
    /// What the answer is known by: `tag` of the older dialect, `id` of the other, without which nobody wants an answer.
    pub id: Option<Value>,
    pub method: String,
    pub params: Params,
}

/// What goes wrong, by its number in JSON-RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Parse = -32700,
    Request = -32600,
    Method = -32601,
    Params = -32602,
    Internal = -32603,
    AnnounceList = 1,
    TrackerList = 2,
    NotAbsolute = 3,
    Unrecognized = 4,
    System = 5,
    FileIndex = 6,
    Http = 8,
    Blocklist = 10,
}

impl Code {
    /// The protocol's words for it.
    fn message(self) -> &'static str {
        match self {
            Code::Parse => "Parse error",
            Code::Request => "Invalid Request",
            Code::Method => "Method not found",
            Code::Params => "Invalid params",
            Code::Internal => "Internal error",
            Code::AnnounceList => "error setting announce list",
            Code::TrackerList => "Invalid tracker list",
            Code::NotAbsolute => "path is not absolute",
            Code::Unrecognized => "unrecognized info",
            Code::System => "system error",
            Code::FileIndex => "file index out of range",
            Code::Http => "HTTP error from backend service",
            Code::Blocklist => "couldn't parse any valid blocklist rules",
        }
    }
}

/// Why a call is not carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub code: Code,
    /// More about it.
    pub text: Option<String>,
    /// What is told all the same.
    pub result: Params,
}

impl Fault {
    pub fn new(code: Code, text: impl Into<String>) -> Fault {
        Fault { code, text: Some(text.into()), result: Params::new() }
    }

    pub fn of(code: Code) -> Fault {
        Fault { code, text: None, result: Params::new() }
    }

    pub fn params(text: impl Into<String>) -> Fault {
        Fault::new(Code::Params, text)
    }
}

/// What a body holds: one call or several, some of them no calls at all.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    One(Result<Call, Value>),
    Batch(Vec<Result<Call, Value>>),
}

/// Reads a body. What is no call at all is there as its answer.
pub fn read(outline: &Outline<'_>) -> Request {
    let value = match serde_json::from_slice(&outline.json) {
        Ok(value) => value,
        Err(error) => return Request::One(Err(refused(Code::Parse, &error.to_string()))),
    };
    let mut request = match value {
        Value::Array(calls) if calls.len() > BATCH_MAX => {
            let text = format!("a batch has at most {BATCH_MAX} requests");
            Request::One(Err(refused(Code::Request, &text)))
        }
        Value::Array(calls) => Request::Batch(calls.into_iter().map(|value| read_one(value, true)).collect()),
        value => Request::One(read_one(value, false)),
    };
    if let (Some(long), Request::One(Ok(call))) = (outline.long, &mut request)
        && let Some(Value::String(text)) = call.params.get_mut("metainfo").filter(|value| *value == "")
    {
        // Some escape even its slashes.
        *text = serde_json::from_str(&format!("\"{long}\"")).unwrap_or_default();
    }
    request
}

fn refused(code: Code, text: &str) -> Value {
    json!({"jsonrpc": "2.0", "error": {"code": code as i64, "message": code.message(), "data": {"error_string": text}}, "id": null})
}

fn read_one(value: Value, is_batch: bool) -> Result<Call, Value> {
    let Value::Object(mut request) = value else {
        let wanted =
            if is_batch { "request must be an Object" } else { "request must be an Array or Object" };
        return Err(refused(Code::Request, wanted));
    };
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    match request.get("jsonrpc") {
        Some(version) if version == "2.0" => {
            let id = request.remove("id");
            if id.as_ref().is_some_and(|id| !(id.is_string() || id.is_number() || id.is_null())) {
                return Err(refused(Code::Request, "id type must be String, Number, or Null"));
            }
            let params = object(request.remove("params"));
            Ok(Call { dialect: Dialect::JsonRpc, id, method, params })
        }
        None if !is_batch => {
            let params = object(request.remove("arguments"));
            let params = params.into_iter().map(|(key, value)| {
                let key = names::newer(&key);
                let value = match &*key {
                    "fields" => each_word(value, names::newer),
                    // The others are hashes, which clients write in large letters too.
                    "ids" => each_word(value, |word| match word {
                        "recently-active" | "recentlyActive" => "recently_active".to_owned(),
                        hash => hash.to_owned(),
                    }),
                    "encryption" if value == "tolerated" => "allowed".into(),
                    _ => value,
                };
                (key, value)
            });
            let id = request.remove("tag").filter(|tag| tag.is_i64() || tag.is_u64());
            let method = names::newer(&method);
            Ok(Call { dialect: Dialect::Older, id, method, params: params.collect() })
        }
        _ => Err(refused(Code::Request, "JSON-RPC version is not 2.0")),
    }
}

fn object(value: Option<Value>) -> Params {
    match value {
        Some(Value::Object(map)) => map,
        _ => Params::new(),
    }
}

fn each_word(value: Value, change: fn(&str) -> String) -> Value {
    match value {
        Value::String(word) => Value::String(change(&word)),
        Value::Array(words) => Value::Array(words.into_iter().map(|word| each_word(word, change)).collect()),
        other => other,
    }
}

/// What a call leads to: keys and values, or what writes itself in the client's dialect.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    Values(Params),
    List(T),
}

/// An answer, ready to be written.
#[derive(Debug)]
pub struct Answer<T> {
    pub dialect: Dialect,
    pub id: Option<Value>,
    pub result: Result<Outcome<T>, Fault>,
}

impl<T: Serialize> Serialize for Answer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.dialect {
            Dialect::Older => {
                match &self.result {
                    Ok(Outcome::Values(values)) => map.serialize_entry("arguments", &older(values))?,
                    Ok(Outcome::List(list)) => map.serialize_entry("arguments", list)?,
                    Err(fault) => map.serialize_entry("arguments", &older(&fault.result))?,
                }
                map.serialize_entry("result", self.words())?;
                if let Some(tag) = &self.id {
                    map.serialize_entry("tag", tag)?;
                }
            }
            Dialect::JsonRpc => {
                map.serialize_entry("jsonrpc", "2.0")?;
                match &self.result {
                    Ok(Outcome::Values(values)) => map.serialize_entry("result", values)?,
                    Ok(Outcome::List(list)) => map.serialize_entry("result", list)?,
                    Err(fault) => map.serialize_entry("error", &error(fault))?,
                }
                map.serialize_entry("id", &self.id)?;
            }
        }
        map.end()
    }
}

impl<T> Answer<T> {
    /// What the older dialect has instead of a code.
    fn words(&self) -> &str {
        match &self.result {
            Ok(_) => "success",
            Err(Fault { code: Code::Method, .. }) => "no method name",
            Err(fault) => fault.text.as_deref().unwrap_or_else(|| fault.code.message()),
        }
    }
}

fn error(fault: &Fault) -> Value {
    let mut data = Params::new();
    if let Some(text) = &fault.text {
        data.insert("error_string".to_owned(), text.as_str().into());
    }
    if !fault.result.is_empty() {
        data.insert("result".to_owned(), fault.result.clone().into());
    }
    let mut error = json!({"code": fault.code as i64, "message": fault.code.message()});
    if !data.is_empty() {
        error["data"] = data.into();
    }
    error
}

/// Keys and values as the older dialect writes them.
pub fn older(values: &Params) -> Params {
    let is_space = values.contains_key("size_bytes") && values.contains_key("path");
    let entry = |(key, value): (&String, &Value)| {
        let name = if is_space && key == "total_size" { key } else { names::older(key, false) };
        let value = match value {
            Value::String(text) if key == "encryption" && text == "allowed" => "tolerated".into(),
            value => older_value(value),
        };
        (name.to_owned(), value)
    };
    values.iter().map(entry).collect()
}

/// The same for whatever has keys within.
pub fn older_value(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(older(map)),
        Value::Array(list) => Value::Array(list.iter().map(older_value).collect()),
        other => other.clone(),
    }
}

/// What is asked for, as leniently as clients are used to: a value of another type counts as left out.
pub trait Asked {
    fn whole(&self, key: &str) -> Option<i64>;
    fn number(&self, key: &str) -> Option<f64>;
    fn flag(&self, key: &str) -> Option<bool>;
    fn text(&self, key: &str) -> Option<&str>;
    fn list(&self, key: &str) -> Option<&Vec<Value>>;
}

/// A whole number; of one with a fraction, what is before it.
pub fn whole(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().filter(|number| number.abs() < 9.0e15).map(|number| number as i64))
}

impl Asked for Params {
    fn whole(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(whole)
    }

    fn number(&self, key: &str) -> Option<f64> {
        let value = self.get(key)?;
        value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|number: &f64| number.is_finite())
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(word) if word == "true" => Some(true),
            Value::String(word) if word == "false" => Some(false),
            value => match value.as_i64()? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    fn list(&self, key: &str) -> Option<&Vec<Value>> {
        self.get(key).and_then(Value::as_array)
    }
}
