//! How much a component becomes once its nested components are instantiated.
//!
//! Each instance of a nested component has a copy of all that it defines, its own nested instances included. A file of a
//! kilobyte, in which each level instantiates the one below twice, becomes more than any machine holds; and wasmtime
//! writes all of it out while it compiles, before any limit of ours. So it is counted first, in one pass over the file.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Encoding, Instance, Parser, Payload,
};

use crate::load::LoadErrorReason;

/// Most definitions (types, imports, exports, functions, instances and their arguments) of a component, counted again for
/// each instance. A plugin in Rust comes to 140, one in JavaScript to 400, one in Python to 3,300.
pub(crate) const DEFINITIONS_MAX: u64 = 100_000;

/// Most levels of components and modules in each other. Toolchains need two or three, and each composition one more.
pub(crate) const LEVELS_MAX: usize = 10;

/// Refuses a component that would become too much.
///
/// Components that come from elsewhere, as imports or out of instances, are refused too: what they become is not to be
/// seen in one pass, and no toolchain for plugins makes them.
pub(crate) fn check(bytes: &[u8]) -> Result<(), LoadErrorReason> {
    let mut levels = Levels(Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        levels.visit(payload?)?;
    }
    Ok(())
}

impl From<BinaryReaderError> for LoadErrorReason {
    fn from(error: BinaryReaderError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A component, as far as it was read; or a module, of which nothing is counted.
struct Level {
    encoding: Encoding,
    definitions: u64,
    /// What each component that can be instantiated here has of definitions, in the order of their indices.
    components: Vec<u64>,
}

/// The component or module that is being read comes last, those that it is nested in before it.
struct Levels(Vec<Level>);

impl Levels {
    fn visit(&mut self, payload: Payload<'_>) -> Result<(), LoadErrorReason> {
        match payload {
            Payload::Version { encoding, .. } => self.open(encoding),
            Payload::ModuleSection { .. } => self.define(1),
            Payload::ComponentInstanceSection(section) => {
                section.into_iter().try_for_each(|instance| match instance? {
                    ComponentInstance::Instantiate { component_index, args } => {
                        let copied = self.component(0, component_index)?;
                        self.define(copied.saturating_add(args.len() as u64 + 1))
                    }
                    ComponentInstance::FromExports(exports) => self.define(exports.len() as u64 + 1),
                })
            }
            Payload::InstanceSection(section) => section.into_iter().try_for_each(|instance| match instance? {
                Instance::Instantiate { args, .. } => self.define(args.len() as u64 + 1),
                Instance::FromExports(exports) => self.define(exports.len() as u64 + 1),
            }),
            Payload::ComponentAliasSection(section) => section.into_iter().try_for_each(|alias| self.alias(&alias?)),
            Payload::ComponentImportSection(section) => section.into_iter().try_for_each(|import| match import?.ty {
                ComponentTypeRef::Component(_) => Err(from_elsewhere()),
                _ => self.define(1),
            }),
            Payload::ComponentExportSection(section) => section.into_iter().try_for_each(|export| {
                let export = export?;
                match export.kind {
                    // An export has an index of its own.
                    ComponentExternalKind::Component => self.name_component(0, export.index),
                    _ => self.define(1),
                }
            }),
            Payload::CoreTypeSection(section) => self.define(section.count().into()),
            Payload::ComponentTypeSection(section) => self.define(section.count().into()),
            Payload::ComponentCanonicalSection(section) => self.define(section.count().into()),
            Payload::End(_) => self.close(),
            // The inside of modules, custom sections, and what announces the payloads above.
            _ => Ok(()),
        }
    }

    fn open(&mut self, encoding: Encoding) -> Result<(), LoadErrorReason> {
        if self.0.len() == LEVELS_MAX {
            return Err(LoadErrorReason::Nesting(format!("they are in each other, more than {LEVELS_MAX} deep")));
        }
        self.0.push(Level { encoding, definitions: 0, components: Vec::new() });
        Ok(())
    }

    /// At the end of a level. What a component defines counts for the one around it even if it is never instantiated, since
    /// it has to be held.
    fn close(&mut self) -> Result<(), LoadErrorReason> {
        match self.0.pop() {
            Some(Level { encoding: Encoding::Component, definitions, .. }) if !self.0.is_empty() => {
                self.add_component(definitions)
            }
            _ => Ok(()),
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), LoadErrorReason> {
        match *alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => Err(from_elsewhere()),
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                self.name_component(count, index)
            }
            _ => self.define(1),
        }
    }

    /// Gives a component another index here. It counts as if it was defined again, which costs little to allow for.
    fn name_component(&mut self, outwards: u32, index: u32) -> Result<(), LoadErrorReason> {
        let definitions = self.component(outwards, index)?;
        self.add_component(definitions)
    }

    fn add_component(&mut self, definitions: u64) -> Result<(), LoadErrorReason> {
        if let Some(level) = self.0.last_mut() {
            level.components.push(definitions);
        }
        self.define(definitions.saturating_add(1))
    }

    /// What a component comes to that is known, so many levels outwards, by this index.
    fn component(&self, outwards: u32, index: u32) -> Result<u64, LoadErrorReason> {
        let level = self.0.iter().rev().nth(outwards as usize);
        let known = level.and_then(|level| level.components.get(index as usize));
        known.copied().ok_or_else(from_elsewhere)
    }

    fn define(&mut self, definitions: u64) -> Result<(), LoadErrorReason> {
        let Some(level) = self.0.last_mut() else { return Ok(()) };
        level.definitions = level.definitions.saturating_add(definitions);
        if level.definitions > DEFINITIONS_MAX {
            let message = format!("instantiated, they come to more than {DEFINITIONS_MAX} definitions");
            return Err(LoadErrorReason::Nesting(message));
        }
        Ok(())
    }
}

fn from_elsewhere() -> LoadErrorReason {
    LoadErrorReason::Nesting("one of them is not in the file, but imported, or taken out of an instance".into())
}
