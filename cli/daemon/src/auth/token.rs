//! The token, a secret that the first start makes.

use std::io::{Read as _, Write as _};
use std::path::Path;
use subtle::ConstantTimeEq as _;

/// How many random bytes a token has.
const TOKEN_BYTES: usize = 32;

/// A token that is not shown.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in this file, and whether it was made now, because there was none; only its owner may read it.
    ///
    /// # Errors
    /// If the file cannot be read or made, holds no token, or others may read it.
    pub fn load_or_make(path: &Path) -> std::io::Result<(Token, bool)> {
        match std::fs::File::open(path) {
            Ok(file) => Ok((Token::read(file)?, false)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((Token::make(path)?, true)),
            Err(error) => Err(error),
        }
    }

    /// For a link that lets its reader in.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Token {
        Token(text.to_owned())
    }

    fn read(file: std::fs::File) -> std::io::Result<Token> {
        let wrong = |what: &str| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::mode(&file.metadata()?) & 0o077 != 0 {
            return wrong("others may read it: remove it, and a new one is made");
        }
        let mut text = String::new();
        file.take(1_024).read_to_string(&mut text)?;
        let text = text.trim();
        match text.len() >= TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Token(text.to_owned())),
            false => wrong("holds no token: remove it, and a new one is made"),
        }
    }

    fn make(path: &Path) -> std::io::Result<Token> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        Ok(Token(text))
    }

    /// Whether it is this one.
    pub fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let (token, is_new) = Token::load_or_make(&path).unwrap();
        assert!(is_new);
        assert_eq!(token.0.len(), 2 * TOKEN_BYTES);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (again, is_new) = Token::load_or_make(&path).unwrap();
        assert!(again.0 == token.0 && !is_new);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::load_or_make(&path).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short\n").unwrap();
        assert!(Token::load_or_make(&path).is_err());
    }
}
