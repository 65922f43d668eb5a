//! The token that commands show at the admin door.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use pointsman_config::plan::{AdminPlan, Role, Secret, TokenSecret};
use thiserror::Error;

/// There is no token to be shown.
#[derive(Debug, Error)]
pub(crate) enum TokenError {
    #[error("can't read the token from {file}: {error}")]
    File { file: String, error: std::io::Error },
    #[error("{whence} holds no token: it takes one line of letters, digits and signs without blanks")]
    NoToken { whence: String },
    #[error(
        "{file} has only digests of its tokens, so none can be shown from there: give one with --token-file FILE, or in the variable \
         POINTSMAN_TOKEN"
    )]
    OnlyDigests { file: String },
}

/// The token that the user names: in a file, or in the variable POINTSMAN_TOKEN.
pub(crate) fn given(file: Option<&Path>, variable: Option<OsString>) -> Result<Option<Secret>, TokenError> {
    let (whence, text) = match (file, variable) {
        (Some(path), _) => {
            let file = path.display().to_string();
            match std::fs::read_to_string(path) {
                Ok(text) => (file, text),
                Err(error) => return Err(TokenError::File { file, error }),
            }
        }
        (None, Some(text)) if !text.is_empty() => ("POINTSMAN_TOKEN".to_owned(), text.to_string_lossy().into_owned()),
        (None, _) => return Ok(None),
    };
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::NoToken { whence });
    }
    Ok(Some(Secret::new(token.to_owned())))
}

/// A token of the configuration file, an operator's first; `None` where its door asks for none.
pub(crate) fn of_file(admin: &AdminPlan, file: &str) -> Result<Option<Secret>, TokenError> {
    let plain = |role: Role| {
        admin.tokens.iter().filter(move |token| token.role == role).find_map(|token| match &token.secret {
            TokenSecret::Token(secret) => Some(secret.clone()),
            TokenSecret::Sha256(_) => None,
        })
    };
    let token = plain(Role::Operator).or_else(|| plain(Role::Reader));
    if token.is_none() && !admin.tokens.is_empty() {
        return Err(TokenError::OnlyDigests { file: file.to_owned() });
    }
    Ok(token)
}

/// Where a door that listens at all addresses is reached from this machine.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn admin(tokens: &str) -> AdminPlan {
        let text = format!(
            "version = 1\n[router]\nname = \"r\"\n[broker]\nembedded = \".\"\n[[routes]]\nname = \"r\"\nfrom = [\"s\"]\n\
             [[routes.outputs]]\ntopic = \"o\"\n[admin]\nlisten = \"127.0.0.1:7090\"\ntokens = [{tokens}]\n"
        );
        pointsman_config::compile(&text, "r.toml", &|_: &str| None).unwrap().0.admin.unwrap()
    }

    #[test]
    fn what_the_user_names_comes_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from-the-file\n").unwrap();
        let given = |file: Option<&Path>, variable: Option<&str>| {
            given(file, variable.map(Into::into)).map(|token| token.map(|token| token.reveal().to_owned()))
        };
        assert_eq!(given(Some(&file), Some("variable")).unwrap().as_deref(), Some("from-the-file"));
        assert_eq!(given(None, Some("variable")).unwrap().as_deref(), Some("variable"));
        assert_eq!(given(None, Some("")).unwrap(), None);
        std::fs::write(&file, "two\ntokens").unwrap();
        assert!(given(Some(&file), None).unwrap_err().to_string().contains("holds no token"));
        assert!(given(Some(&folder.path().join("none")), None).unwrap_err().to_string().starts_with("can't read"));
    }

    #[test]
    fn the_file_gives_an_operators_token_before_a_readers_and_no_digest() {
        let reader = "{ name = \"a\", role = \"reader\", token = \"reader-reader-reader\" }";
        let operator = "{ name = \"b\", role = \"operator\", token = \"operator-operator\" }";
        let digest = format!("{{ name = \"c\", role = \"operator\", token_sha256 = \"{}\" }}", "0".repeat(64));
        let of =
            |tokens: &str| of_file(&admin(tokens), "r.toml").map(|token| token.map(|token| token.reveal().to_owned()));
        assert_eq!(of(&format!("{reader}, {operator}")).unwrap().as_deref(), Some("operator-operator"));
        assert_eq!(of(&format!("{digest}, {reader}")).unwrap().as_deref(), Some("reader-reader-reader"));
        assert_eq!(of("").unwrap(), None);
        let error = of(&digest).unwrap_err().to_string();
        assert!(error.contains("--token-file FILE") && error.contains("POINTSMAN_TOKEN"), "{error}");
    }

    #[test]
    fn a_door_at_all_addresses_is_reached_at_this_machines_own() {
        for (listen, at) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.7:1", "192.0.2.7:1")] {
            assert_eq!(reachable(listen.parse().unwrap()), at.parse().unwrap());
        }
    }
}
