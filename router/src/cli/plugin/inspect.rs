//! `pointsman plugin inspect`: what a component is, and what it would be given.

use std::path::{Path, PathBuf};

use pointsman_wasm::{Inspection, LoadErrorReason, Provision};
use serde::Serialize;

use crate::cli::printable;
use crate::cli::table::{table, width};
use crate::cli::{Exit, complain, complain_of, json, say};
use crate::topology;

/// Show what a component is: the door it exports, its size and digest, and for each import what a plugin finds there.
///
/// The component is compiled, but not run. The answer is no (exit code 1) where this router could not load it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The component.
    file: PathBuf,
    /// Print the answer as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let sandbox = match topology::sandbox_to_look() {
        Ok(sandbox) => sandbox,
        Err(error) => {
            complain_of(&error);
            return Exit::NotStarted;
        }
    };
    let answer = match sandbox.inspect(&arguments.file) {
        Ok(inspection) => Answer::of(&arguments.file, &inspection),
        Err(reason) => {
            complain(&format!("error: {}: {reason}", arguments.file.display()));
            return if matches!(reason, LoadErrorReason::Read(_)) { Exit::Configuration } else { Exit::No };
        }
    };
    let exit = if answer.loadable { Exit::Fine } else { Exit::No };
    if arguments.json {
        return json::answer(&answer, exit);
    }
    say(&answer.text(width()));
    exit
}

/// What is told of a component.
#[derive(Debug, Serialize)]
struct Answer {
    /// The component, as it was named.
    file: String,
    /// Digest of the file, as a configuration's `sha256` has it.
    sha256: String,
    /// Size of the file.
    bytes: usize,
    /// World of the contract that it is built for; null where it is no plugin of this router's contract.
    world: Option<&'static str>,
    /// The interface of the contract that it exports, with its version; null where there is none.
    exports: Option<String>,
    /// Linear memory of an instance from the start.
    memory_bytes: u64,
    /// In the order of the file.
    imports: Vec<Import>,
    /// Whether this router can load it, as far as can be told without running it.
    loadable: bool,
}

#[derive(Debug, Serialize)]
struct Import {
    /// The interface, with its version.
    name: String,
    /// `contract`, `stand-in`, `denied` or `missing`.
    provided: &'static str,
    /// What a plugin finds there if nothing is granted.
    is: &'static str,
    /// The grant that puts the real thing in place of a stand-in.
    grant: Option<&'static str>,
}

impl Answer {
    fn of(file: &Path, inspection: &Inspection) -> Self {
        let imports: Vec<Import> = inspection.imports.iter().map(|(name, is)| Import::of(name, *is)).collect();
        let world = inspection
            .exports
            .as_deref()
            .filter(|_| inspection.callable)
            .map(|door| if door.contains("/columns@") { "columnar-plugin" } else { "plugin" });
        Self {
            file: file.display().to_string(),
            sha256: inspection.digest.to_string(),
            bytes: inspection.bytes,
            world,
            exports: inspection.exports.clone(),
            memory_bytes: inspection.memory_bytes,
            loadable: inspection.callable && imports.iter().all(|import| import.provided != "missing"),
            imports,
        }
    }

    fn text(&self, width: Option<u16>) -> String {
        let exports = match (&self.exports, self.world) {
            (Some(door), Some(world)) => format!("{door}, of the world {world}"),
            (Some(door), None) => format!("{door}, which is not this router's version"),
            (None, _) => "nothing of the contract pointsman:plugin@0.1.0".into(),
        };
        let kib = |bytes: u64| format!("{} KiB", bytes.div_ceil(1024));
        let mut lines = vec![
            format!("file     {}", self.file),
            format!("sha256   {}", self.sha256),
            format!("size     {}", kib(self.bytes as u64)),
            format!("exports  {}", printable::line(&exports)),
            format!("memory   {} from the start", kib(self.memory_bytes)),
        ];
        if self.imports.is_empty() {
            lines.push("imports  nothing".into());
        } else {
            let mut rows = table(["imports", "grant", "without it"], &[1], width);
            for Import { name, is, grant, .. } in &self.imports {
                rows.add_row([&*printable::line(name), grant.unwrap_or("-"), is]);
            }
            lines.push(String::new());
            lines.extend(rows.lines().map(|line| line.trim_end().to_owned()));
        }
        if !self.loadable {
            lines.push(String::new());
            lines.push("This router can't load it.".into());
        }
        lines.join("\n")
    }
}

impl Import {
    fn of(name: &str, provision: Option<Provision>) -> Self {
        let (provided, is, grant) = match provision {
            Some(Provision::Host) => ("contract", "the router, always", None),
            Some(Provision::StandIn { grant, is }) => ("stand-in", is, grant),
            Some(Provision::Denied) => ("denied", "functions that trap", None),
            None => ("missing", "nothing: it can't be loaded", None),
        };
        Self { name: name.to_owned(), provided, is, grant }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use pointsman_wasm::Digest;

    use super::*;

    fn answer(exports: Option<&str>, callable: bool, imports: &[(&str, Option<Provision>)]) -> Answer {
        let inspection = Inspection {
            digest: Digest([0xab; 32]),
            bytes: 64_001,
            exports: exports.map(Into::into),
            callable,
            imports: imports.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect(),
            memory_bytes: 17 << 16,
        };
        Answer::of(Path::new("enrich.wasm"), &inspection)
    }

    const CLOCK: Option<Provision> =
        Some(Provision::StandIn { grant: Some("clock"), is: "a clock that stands at the time of the batch" });

    #[test]
    fn each_import_is_shown_with_its_grant_and_its_stand_in() {
        let imports = [
            ("pointsman:plugin/host@0.1.0", Some(Provision::Host)),
            ("wasi:clocks/wall-clock@0.2.6", CLOCK),
            ("wasi:sockets/tcp@0.2.6", Some(Provision::Denied)),
        ];
        let answer = answer(Some("pointsman:plugin/columns@0.1.0"), true, &imports);
        assert!(answer.loadable);
        insta::assert_snapshot!(answer.text(None), @r"
        file     enrich.wasm
        sha256   abababababababababababababababababababababababababababababababab
        size     63 KiB
        exports  pointsman:plugin/columns@0.1.0, of the world columnar-plugin
        memory   1088 KiB from the start

        imports                       grant  without it
        pointsman:plugin/host@0.1.0   -      the router, always
        wasi:clocks/wall-clock@0.2.6  clock  a clock that stands at the time of the batch
        wasi:sockets/tcp@0.2.6        -      functions that trap
        ");
    }

    #[test]
    fn what_cannot_be_loaded_is_said() {
        let missing = answer(Some("pointsman:plugin/processor@0.1.0"), true, &[("wasi:nn/graph@0.2.0", None)]);
        assert!(!missing.loadable);
        assert!(missing.text(None).ends_with("nothing: it can't be loaded\n\nThis router can't load it."));
        let older = answer(Some("pointsman:plugin/processor@0.0.9"), false, &[]);
        assert!(!older.loadable && older.world.is_none());
        assert!(older.text(None).contains("which is not this router's version"));
        assert!(!answer(None, false, &[]).loadable);
    }

    #[test]
    fn the_json_has_what_a_program_needs() {
        let json =
            serde_json::to_value(answer(Some("pointsman:plugin/processor@0.1.0"), true, &[("w", CLOCK)])).unwrap();
        assert_eq!(json["world"], "plugin");
        assert_eq!(json["imports"][0]["provided"], "stand-in");
        assert_eq!(json["imports"][0]["grant"], "clock");
        assert_eq!(json["memory_bytes"], 17 << 16);
    }
}
