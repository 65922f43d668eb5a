//! `[admin]`.

use std::net::SocketAddr;

use pointsman_core::condition::FieldPath;

use super::plugins::sha256;
use super::{Field, Table};
use crate::names::name_fault;
use crate::plan::{AdminPlan, Open, Role, SamplesPlan, Secret, TokenPlan, TokenSecret};

/// Shortest token, in bytes: what is shorter can be guessed.
const TOKEN_MIN: usize = 16;
/// Longest token, in bytes.
const TOKEN_MAX: usize = 512;
/// Most tokens: each is compared with what every request shows.
const TOKENS_MAX: usize = 100;
/// Most paths that are redacted: each is looked for in every sample.
const REDACT_MAX: usize = 100;

const MAKE_ONE: &str = "make one with `openssl rand -hex 32`";

pub(super) fn read(top: &Table<'_>) -> Option<AdminPlan> {
    let table = top.get("admin")?.table()?;
    let listen = table
        .required("listen", "add `listen = \"127.0.0.1:7090\"`, or remove [admin]: without it there is no door")
        .and_then(|field| Some((address(&field)?, field)));
    let tokens = table.get("tokens").map_or_else(|| Some(Vec::new()), |field| tokens(&field));
    let open = table.get("open").map(|field| open(&field, tokens.as_ref().is_some_and(Vec::is_empty)));
    let samples = table.get("samples").map(|field| samples(&field));
    table.finish();
    let ((listen, written), field) = listen?;
    let tokens = tokens?;
    if tokens.is_empty() && !listen.ip().is_loopback() {
        field.wrong(
            &format!("can't be {written:?} without tokens: other machines could reach the door there, and nobody would be asked who they are"),
            "add [[admin.tokens]], or listen at a loopback address, \"127.0.0.1:7090\", and get to it by `ssh -L`, `kubectl port-forward` or `kubectl exec`",
        );
        return None;
    }
    Some(AdminPlan { listen, tokens, open: open.unwrap_or_default(), samples: samples.flatten() })
}

/// None where something is wrong with it: less must not be redacted than was to be.
fn samples(field: &Field<'_>) -> Option<SamplesPlan> {
    let table = field.table()?;
    let values = table.get("values").map_or(Some(false), |field| field.boolean());
    let redact = table.get("redact").map_or_else(|| Some(Vec::new()), |field| redact(&field));
    table.finish();
    Some(SamplesPlan { values: values?, redact: redact? })
}

fn redact(field: &Field<'_>) -> Option<Vec<FieldPath>> {
    let elements = field.array("write `redact = [\"value.card.number\", \"headers.authorization\"]`")?;
    if elements.len() > REDACT_MAX {
        field.wrong(&format!("has {} paths, and {REDACT_MAX} are allowed", elements.len()), "name what they are in");
        return None;
    }
    let paths: Vec<Option<FieldPath>> = elements.iter().map(path).collect();
    paths.into_iter().collect()
}

fn path(element: &Field<'_>) -> Option<FieldPath> {
    let text = element.text("\"value.card.number\"")?;
    let path = FieldPath::parse(&text.value);
    if let Err(error) = &path {
        element.wrong(&format!("is no path: {}", error.message), error.help.clone().unwrap_or_default());
    }
    path.ok()
}

/// The address, and how it is written.
fn address(field: &Field<'_>) -> Option<(SocketAddr, String)> {
    let text = field.text("\"127.0.0.1:7090\"")?;
    let address = text.value.parse::<SocketAddr>();
    if address.is_err() {
        field.wrong(
            &format!("is not an address: {:?}", text.shown),
            "write the number of an address and a port, \"127.0.0.1:7090\" or \"[::1]:7090\"",
        );
    }
    Some((address.ok()?, text.shown))
}

/// All of them, or none where one is wrong: a door must not open to fewer than it was to.
fn tokens(field: &Field<'_>) -> Option<Vec<TokenPlan>> {
    let elements = field.array("write each token as [[admin.tokens]]")?;
    if elements.len() > TOKENS_MAX {
        field.wrong(&format!("has {} tokens, and {TOKENS_MAX} are allowed", elements.len()), "remove some");
        return None;
    }
    let mut tokens: Vec<TokenPlan> = Vec::new();
    let mut sound = true;
    for (index, element) in elements.into_iter().enumerate() {
        let element = element.called(format!("admin.tokens[{}]", index + 1));
        match element.table().and_then(token) {
            Some(token) if tokens.iter().any(|other| other.name == token.name) => {
                element.wrong("has the name of another token", "choose another: the log tells them apart by it");
                sound = false;
            }
            Some(token) if tokens.iter().any(|other| other.secret == token.secret) => {
                element.wrong("is the same token as another", format!("{MAKE_ONE} for each name"));
                sound = false;
            }
            Some(token) => tokens.push(token),
            None => sound = false,
        }
    }
    sound.then_some(tokens)
}

fn token(table: Table<'_>) -> Option<TokenPlan> {
    let name = table.required("name", "add `name = \"…\"`, by which the log tells who it was").and_then(|field| {
        let text = field.text("\"oncall\"")?;
        if let Some(fault) = name_fault(&text.value) {
            field.wrong(&format!("can't be {:?}: {fault}", text.shown), "use letters, digits, `.`, `_` and `-`");
            return None;
        }
        Some(text.value)
    });
    let role = table
        .required("role", "add `role = \"reader\"`, who may look, or `role = \"operator\"`, who may do everything")
        .and_then(|field| field.choice(&[("reader", Role::Reader), ("operator", Role::Operator)]));
    let secret = match (table.get("token"), table.get("token_sha256")) {
        (Some(_), Some(digest)) => {
            digest.wrong(
                "stands beside `token`",
                "remove one of them: `token` has what is shown, `token_sha256` only its SHA-256",
            );
            None
        }
        (Some(field), None) => plain(&field),
        (None, Some(field)) => sha256(&field).map(TokenSecret::Sha256),
        (None, None) => {
            table.findings().mistake(
                &table.span,
                format!("{} lacks `token` or `token_sha256`", table.title()),
                "add `token = \"${ONCALL_TOKEN}\"`, from the environment, or its digest, as `printf %s TOKEN | sha256sum` prints it",
            );
            None
        }
    };
    table.finish();
    Some(TokenPlan { name: name?.into(), role: role?, secret: secret? })
}

/// Nothing of the value is told.
fn plain(field: &Field<'_>) -> Option<TokenSecret> {
    let token = field.text("\"${ONCALL_TOKEN}\"")?.value;
    if token.len() < TOKEN_MIN {
        let bytes = token.len();
        field.wrong(&format!("has {bytes} bytes, and could be guessed: it takes {TOKEN_MIN} at least"), MAKE_ONE);
        return None;
    }
    if token.len() > TOKEN_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let cause = format!(
            "can't stand in a header: it takes up to {TOKEN_MAX} letters, digits and signs of ASCII, and no blanks"
        );
        field.wrong(&cause, format!("{MAKE_ONE}; a file that it comes from may end with a line break"));
        return None;
    }
    Some(TokenSecret::Token(Secret::new(token)))
}

fn open(field: &Field<'_>, no_tokens: bool) -> Vec<Open> {
    if no_tokens {
        field.wrong("has no effect without [[admin.tokens]]: all is open then", "remove it, or add tokens");
    }
    let elements = field.array("write `open = [\"metrics\", \"health\"]`").unwrap_or_default();
    let choices = [("metrics", Open::Metrics), ("health", Open::Health)];
    elements.into_iter().filter_map(|element| element.choice(&choices)).collect()
}
