//! `pointsman plugin new`: a folder with a plugin that works.

use std::path::Path;

use serde::Serialize;

use crate::cli::{Exit, complain_of, json, say};
use crate::plugin_build::Language;
use crate::plugin_new::{self, NewError};

/// Make a folder with a plugin that works, its tests, and a copy of the SDK.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The plugin's language.
    #[arg(long, value_enum)]
    lang: Chosen,
    /// Its name, and that of its folder, which is made in the current one.
    name: String,
    /// Print what was made as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was made.
#[derive(Serialize)]
struct Answer {
    /// The folder of the plugin.
    folder: String,
    /// As --lang has it.
    language: &'static str,
}

/// A language that there is an SDK for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Chosen {
    Rust,
    Go,
    Python,
    Js,
    Ts,
    C,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let language = match arguments.lang {
        Chosen::Rust => Language::Rust,
        Chosen::Go => Language::Go,
        Chosen::Python => Language::Python,
        Chosen::Js => Language::JavaScript,
        Chosen::Ts => Language::TypeScript,
        Chosen::C => Language::C,
    };
    match plugin_new::create(Path::new(""), &arguments.name, language) {
        Ok(folder) if arguments.json => {
            json::answer(&Answer { folder: folder.display().to_string(), language: language.name() }, Exit::Fine)
        }
        Ok(folder) => {
            let folder = folder.display();
            say(&format!("{folder} is made; `pointsman plugin test {folder}` builds and tests it"));
            Exit::Fine
        }
        Err(error) => {
            complain_of(&error);
            if matches!(error, NewError::Unwritable { .. }) { Exit::NotStarted } else { Exit::Configuration }
        }
    }
}
