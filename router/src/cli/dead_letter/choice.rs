//! Which letters a command is about.

use std::path::{Path, PathBuf};

use super::{Desk, Failed, safe};
use crate::dead_letter::{Choice, Selection, Topic};

/// The letters that are meant, of this configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Chosen {
    /// The configuration file.
    file: PathBuf,
    #[command(flatten)]
    pub(super) letters: Choice,
}

impl Chosen {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The topics to read, and what to pick of them.
    pub(super) fn find(&self, desk: &Desk<'_>, note: &mut dyn FnMut(&str)) -> Result<(Vec<Topic>, Selection), Failed> {
        Ok(self.letters.find(&desk.site(), &mut safe(note))?)
    }
}
