//! What a component file is, for a person to look at.

use std::path::Path;

use crate::digest::Digest;
use crate::door;
use crate::engine::Sandbox;
use crate::load::{LoadErrorReason, read};
use crate::stand_in::{self, Provision};

/// What is known of a component without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Size of the file.
    pub bytes: usize,
    /// The door and version of the contract that it exports, such as `pointsman:plugin/processor@0.1.0`; `None` where it
    /// is no plugin.
    pub exports: Option<String>,
    /// Whether this router can call it: it exports this router's version of the contract.
    pub callable: bool,
    /// What it imports, in its own order; and how that is provided, `None` where it isn't and the plugin can't be loaded.
    pub imports: Vec<(String, Option<Provision>)>,
}

impl Sandbox {
    /// Looks at a component file. It is compiled, and so kept in the cache, but not run. Compiling costs what it does in
    /// [`load`](Self::load).
    ///
    /// # Errors
    /// The file can't be read, is too large, or is no component.
    pub fn inspect(&self, path: &Path) -> Result<Inspection, LoadErrorReason> {
        let bytes = read(path)?;
        let digest = Digest::of(&bytes);
        let component = self.compile(&bytes, digest)?;
        let exports = door::exported(&self.engine, &component);
        let ty = component.component_type();
        let imports = ty.imports(&self.engine).map(|(name, _)| (name.to_owned(), stand_in::provision(name))).collect();
        let callable = exports.as_deref().is_some_and(door::is_callable);
        Ok(Inspection { digest, bytes: bytes.len(), exports, callable, imports })
    }
}
