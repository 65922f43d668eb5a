//! What a component file is, for a person to look at.

use std::path::Path;

use wasmparser::{Parser, Payload};
use wasmtime::component::Component;

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
    /// Linear memory of one instance from the start, the memories of all its modules together, in bytes.
    pub memory_bytes: u64,
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
        self.describe(&bytes, digest, &component)
    }

    pub(crate) fn describe(
        &self,
        bytes: &[u8],
        digest: Digest,
        component: &Component,
    ) -> Result<Inspection, LoadErrorReason> {
        let exports = door::exported(&self.engine, component);
        let ty = component.component_type();
        let imports = ty.imports(&self.engine).map(|(name, _)| (name.to_owned(), stand_in::provision(name))).collect();
        let callable = exports.as_deref().is_some_and(door::is_callable);
        Ok(Inspection { digest, bytes: bytes.len(), exports, callable, imports, memory_bytes: memory(bytes)? })
    }
}

/// What the modules of a component have of linear memory from the start. A module is taken to be instantiated once, as
/// toolchains do it.
fn memory(bytes: &[u8]) -> Result<u64, LoadErrorReason> {
    const PAGE_BYTES: u64 = 1 << 16;
    let mut pages = 0_u64;
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::MemorySection(memories) = payload? {
            for memory in memories {
                pages = pages.saturating_add(memory?.initial);
            }
        }
    }
    Ok(pages.saturating_mul(PAGE_BYTES))
}
