//! The plugin that does nothing, by either door: what others are compared with.

use crate::componentize::{ComponentizeError, componentize};
use crate::door::{COLUMNS, DoorPre, PROCESSOR};
use crate::load::LoadedPlugin;

/// The core module, but for its door.
const MODULE: &str = include_str!("empty.wat");

/// `process` of `processor`: a list of events in, a verdict of 32 bytes for each out.
const PROCESS_RECORDS: &str = r#"(func (export "{door}#process") (param i32) (param $count i32) (result i32)
    (call $pass (local.get $count) (i32.const 32)))"#;

/// `process` of `columns`: the address of a batch in, whose fifth word is the number of its offsets; a byte for each out.
const PROCESS_COLUMNS: &str = r#"(func (export "{door}#process") (param $batch i32) (result i32)
    (call $pass (i32.load offset=16 (local.get $batch)) (i32.const 1)))"#;

impl LoadedPlugin {
    /// A component with the door of this one that passes every event and looks at none: what it costs, every plugin of that
    /// door costs.
    ///
    /// # Errors
    /// None: it fits the contract that it is built with.
    pub fn empty_of_its_door(&self) -> Result<Vec<u8>, ComponentizeError> {
        let (door, process) = match self.door() {
            DoorPre::Records(_) => (PROCESSOR, PROCESS_RECORDS),
            DoorPre::Columns(_) => (COLUMNS, PROCESS_COLUMNS),
        };
        let text = MODULE.replace("{process}", process).replace("{door}", door);
        let module = wat::parse_str(text).map_err(|error| ComponentizeError::NotAModule(error.to_string()))?;
        componentize(&module)
    }
}
