//! The fields of a request: from its query, and from its form, which may have files.

use super::Fault;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use swarm_engine::METAINFO_LEN_MAX;

/// How long the form of somebody may be who is not in yet, in bytes.
pub const LOGIN_LEN_MAX: usize = 8 * 1024;
/// How long a form with files may be: the longest metainfo file, and something around it.
pub const BODY_LEN_MAX: usize = METAINFO_LEN_MAX + 64 * 1024;
/// How long a form without files may be.
const PLAIN_LEN_MAX: usize = 4 * 1024 * 1024;
/// How many fields a form may have.
const FIELDS_MAX: usize = 256;
/// How many files.
const FILES_MAX: usize = 256;
/// How long a form may take to come.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The fields of a request.
#[derive(Debug, Default)]
pub struct Form {
    fields: BTreeMap<String, String>,
    /// What was uploaded, whatever the names of the fields.
    pub files: Vec<Bytes>,
}

impl Form {
    /// Reads them; what a form says comes before what the query says.
    pub async fn read(
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<Form, Fault> {
        let mut form = Form::default();
        form.add_pairs(query.unwrap_or_default().as_bytes())?;
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let read = async {
            match kind.as_str() {
                "multipart/form-data" => form.add_parts(content_type, body, limit).await,
                "application/x-www-form-urlencoded" => {
                    let bytes = whole(body, limit.min(PLAIN_LEN_MAX)).await?;
                    form.add_pairs(&bytes)
                }
                // Whatever else is sent has no fields. It is read so that the connection can go on.
                _ => whole(body, limit.min(PLAIN_LEN_MAX)).await.map(drop),
            }
        };
        match tokio::time::timeout(TIMEOUT, read).await {
            Ok(read) => read.map(|()| form),
            Err(_) => Err(Fault(StatusCode::REQUEST_TIMEOUT, "the form does not come in time".to_owned())),
        }
    }

    fn add_pairs(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for (name, value) in url::form_urlencoded::parse(bytes) {
            self.put(name.into_owned(), value.into_owned())?;
        }
        Ok(())
    }

    async fn add_parts(&mut self, content_type: &str, body: Body, limit: usize) -> Result<(), Fault> {
        let boundary = multer::parse_boundary(content_type).map_err(wrong)?;
        let limits = multer::SizeLimit::new().whole_stream(limit as u64).per_field(limit as u64);
        let constraints = multer::Constraints::new().size_limit(limits);
        let stream = body.into_data_stream();
        let mut parts = multer::Multipart::with_constraints(stream, boundary, constraints);
        while let Some(part) = parts.next_field().await.map_err(wrong)? {
            let name = part.name().unwrap_or_default().to_owned();
            // Clients send metainfo under many names, and not always with the name of a file.
            if part.file_name().is_some() || name == "torrents" {
                if self.files.len() == FILES_MAX {
                    return Err(Fault::invalid(format!("at most {FILES_MAX} files at once")));
                }
                self.files.push(part.bytes().await.map_err(wrong)?);
            } else {
                let bytes = part.bytes().await.map_err(wrong)?;
                let value =
                    String::from_utf8(bytes.into()).map_err(|_| Fault::invalid("a field is no text"))?;
                self.put(name, value)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, name: String, value: String) -> Result<(), Fault> {
        self.fields.insert(name, value);
        match self.fields.len() > FIELDS_MAX {
            true => Err(Fault::invalid(format!("at most {FIELDS_MAX} fields"))),
            false => Ok(()),
        }
    }

    /// A field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A field that is there and not empty.
    pub fn some(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A field that must be there, and not empty.
    pub fn need(&self, name: &str) -> Result<&str, Fault> {
        self.some(name).ok_or_else(|| Fault::missing(name))
    }

    /// A switch; `None` if it is not there or neither on nor off.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)?.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// A number; `None` if it is not there or empty.
    pub fn number(&self, name: &str) -> Result<Option<f64>, Fault> {
        let Some(text) = self.some(name) else { return Ok(None) };
        match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(Fault::invalid(format!("{name}: is no number"))),
        }
    }

    /// A whole number.
    pub fn whole(&self, name: &str) -> Result<Option<i64>, Fault> {
        Ok(self.number(name)?.map(|number| number as i64))
    }

    /// The parts of a field.
    pub fn list(&self, name: &str, between: char) -> impl Iterator<Item = &str> {
        let text = self.get(name).unwrap_or_default();
        text.split(between).map(str::trim).filter(|part| !part.is_empty())
    }

    #[cfg(test)]
    pub fn of(query: &str) -> Form {
        let mut form = Form::default();
        form.add_pairs(query.as_bytes()).unwrap();
        form
    }
}

fn wrong(error: multer::Error) -> Fault {
    use multer::Error::{FieldSizeExceeded, StreamSizeExceeded};
    match error {
        FieldSizeExceeded { .. } | StreamSizeExceeded { .. } => {
            Fault(StatusCode::PAYLOAD_TOO_LARGE, "the form is too long".to_owned())
        }
        error => Fault::invalid(format!("the form cannot be read: {error}")),
    }
}

async fn whole(body: Body, limit: usize) -> Result<Bytes, Fault> {
    let too_long = || Fault(StatusCode::PAYLOAD_TOO_LARGE, "the form is too long".to_owned());
    if axum::body::HttpBody::size_hint(&body).lower() > limit as u64 {
        return Err(too_long());
    }
    axum::body::to_bytes(body, limit).await.map_err(|_| too_long())
}
