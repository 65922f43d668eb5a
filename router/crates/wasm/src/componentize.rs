//! From a core module, as compilers of C, Go and their like make it, to a component that fits the contract.
//!
//! What the module imports of preview 1 of WASI is answered inside the component, by [`PREVIEW_1`]: it then imports
//! nothing but the contract, and nothing can be granted to it.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract.
const WIT: &str = include_str!("../../../../wit/pointsman.wit");

/// Name of the module that compilers import preview 1 of WASI from.
const PREVIEW_1_NAME: &str = "wasi_snapshot_preview1";

/// What answers preview 1 of WASI.
const PREVIEW_1: &str = include_str!("preview_1.wat");

/// What sections with the type of the component are called in a core module; generators add more to it.
const TYPE_SECTION: &str = "component-type";

/// A file can't be made a component.
#[derive(Debug, Error)]
pub enum ComponentizeError {
    /// It is no core module.
    #[error(
        "it is not a core WebAssembly module: {0}; build it for wasm32-wasip1, or hand over the component as it is"
    )]
    NotAModule(String),
    /// Nothing says what it is to be.
    #[error(
        "it exports neither pointsman:plugin/processor@0.1.0#process nor pointsman:plugin/columns@0.1.0#process; export the \
         functions of one of them, as the bindings of the SDK do"
    )]
    NoDoor,
    /// What it imports or exports does not fit.
    #[error("it does not fit the contract pointsman:plugin@0.1.0: {0}; build it with this router's SDK")]
    Misfit(String),
}

/// Makes a component of a core module.
///
/// A module without a section that says so is taken to be of the world `plugin` or `columnar-plugin`, by what it exports.
///
/// # Errors
/// [`ComponentizeError`].
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    let typed = match Shape::of(module)? {
        Shape { has_type: true, .. } => Cow::Borrowed(module),
        Shape { world: None, .. } => return Err(ComponentizeError::NoDoor),
        Shape { world: Some(world), .. } => {
            let mut resolve = Resolve::default();
            let package = resolve.push_str("pointsman.wit", WIT).map_err(misfit)?;
            let world = resolve.select_world(&[package], Some(world)).map_err(misfit)?;
            let mut typed = module.to_vec();
            embed_component_metadata(&mut typed, &resolve, world, StringEncoding::UTF8, false).map_err(misfit)?;
            Cow::Owned(typed)
        }
    };
    let preview_1 = wat::parse_str(PREVIEW_1).map_err(misfit)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&typed)
        .and_then(|encoder| encoder.adapter(PREVIEW_1_NAME, &preview_1))
        .and_then(|encoder| encoder.encode())
        .map_err(misfit)
}

fn misfit(error: impl fmt::Display) -> ComponentizeError {
    ComponentizeError::Misfit(format!("{error:#}"))
}

/// What a core module says of itself.
#[derive(Default)]
struct Shape {
    /// It has a section with the type of the component that it is to be.
    has_type: bool,
    /// The world whose door it exports.
    world: Option<&'static str>,
}

impl Shape {
    fn of(module: &[u8]) -> Result<Self, ComponentizeError> {
        if !Parser::is_core_wasm(module) {
            let cause =
                if Parser::is_component(module) { "it is a component already" } else { "it is not WebAssembly" };
            return Err(ComponentizeError::NotAModule(cause.into()));
        }
        let malformed = |error: wasmparser::BinaryReaderError| ComponentizeError::NotAModule(error.to_string());
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.map_err(malformed)? {
                Payload::CustomSection(section) => shape.has_type |= section.name().starts_with(TYPE_SECTION),
                Payload::ExportSection(exports) => {
                    for export in exports {
                        match export.map_err(malformed)?.name {
                            "pointsman:plugin/processor@0.1.0#process" => shape.world = Some("plugin"),
                            "pointsman:plugin/columns@0.1.0#process" => shape.world = Some("columnar-plugin"),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(shape)
    }
}
