//! What the operator configured.

/// A plugin's configuration: the `config` of the router's file, as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config(String);

impl Config {
    /// The JSON text; `{}` where the operator gave none.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Config {
    fn from(json: String) -> Self {
        Self(json)
    }
}

impl From<&str> for Config {
    fn from(json: &str) -> Self {
        Self(json.into())
    }
}
