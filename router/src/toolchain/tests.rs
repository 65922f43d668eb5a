#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::{Mutex, PoisonError};

use super::*;

const PACKAGES: &str = "NOTE: This is only a simulation!
Inst libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12/oldstable-security [amd64])
Inst libstd-rust-web-1.96 (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
Inst rustc-web [1.85.0] (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
Conf rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
";

/// A machine whose tools are all simulated.
struct SimulatedMachine(tempfile::TempDir);

impl SimulatedMachine {
    /// With these tools on its path, and the linkers where rustc looks for them.
    fn with(tools: &[&str]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/toolchain/tests/simulated-tool");
        fs::create_dir(machine.path("bin")).unwrap();
        for name in tools {
            symlink(&tool, machine.path("bin").join(name)).unwrap();
        }
        let linkers = machine.path("lib/rustlib/x86_64-simulated/bin");
        fs::create_dir_all(&linkers).unwrap();
        for name in ["rust-lld", "wasm-component-ld"] {
            fs::write(linkers.join(name), "").unwrap();
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(self, file: &str, text: &str) -> Self {
        fs::write(self.path(file), text).unwrap();
        self
    }

    fn tools(&self) -> Tools {
        Tools {
            path: self.path("bin").into(),
            rustc: "rustc".into(),
            cargo: "cargo".into(),
            cache: Some(self.path("cache")),
        }
    }

    /// What came of it, and what was announced.
    fn find(&self, choice: ToolchainChoice) -> (Result<Toolchain, ToolchainError>, Vec<String>) {
        // A program just written can't be run while another thread's child, not yet started, holds it open.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut announced = Vec::new();
        let found = Toolchain::find_or_make_with(self.tools(), choice, &mut |line| announced.push(line.to_owned()));
        (found, announced)
    }

    fn was_asked(&self, call: &str) -> bool {
        fs::read_to_string(self.path("calls")).unwrap_or_default().lines().any(|line| line.starts_with(call))
    }
}

const DEBIAN: [&str; 6] = ["rustc", "cargo", "rustup", "apt-get", "apt-cache", "dpkg-deb"];

#[test]
fn an_installed_target_is_used_as_it_is() {
    let machine = SimulatedMachine::with(&DEBIAN);
    let std = machine.path("lib/rustlib/wasm32-unknown-unknown/lib");
    fs::create_dir_all(&std).unwrap();
    fs::write(std.join("libstd-1.rlib"), "").unwrap();
    for choice in [ToolchainChoice::Auto, ToolchainChoice::Installed] {
        let (found, announced) = machine.find(choice);
        assert_eq!(found.unwrap().rustc(), machine.path("bin/rustc"));
        assert_eq!(announced, [""; 0]);
    }
    assert!(!machine.was_asked("apt-get") && !machine.was_asked("rustup"));
}

#[test]
fn without_a_target_installed_alone_downloads_nothing() {
    let machine = SimulatedMachine::with(&DEBIAN);
    let (found, announced) = machine.find(ToolchainChoice::Installed);
    assert!(matches!(found, Err(ToolchainError::NoTarget { .. })), "{found:?}");
    assert_eq!(announced, [""; 0]);
    assert!(!machine.was_asked("apt-get") && !machine.was_asked("rustup"));
}

#[test]
fn debian_comes_before_rustup_and_is_made_once() {
    let machine = SimulatedMachine::with(&DEBIAN).put("packages", PACKAGES).put("lists", "");
    let (found, announced) = machine.find(ToolchainChoice::Auto);
    let rustc = machine.path("cache/pointsman/wasm-toolchain/bin/rustc");
    assert_eq!(found.unwrap().rustc(), rustc);
    assert_eq!(announced.len(), 3, "{announced:?}");
    assert!(announced[0].starts_with("downloading") && announced[0].contains("rustc-web=1.96.0+dfsg1-1~deb12u2"));
    assert!(!machine.was_asked("rustup") && !machine.was_asked("apt-get update"));
    // Of an installed package the version is not told, and it is unpacked all the same.
    assert!(machine.was_asked("apt-get download -qq libllvm22=1:22.1.8-1~deb12u1 libstd-rust-web-1.96=1.96.0"));
    assert!(announced[0].ends_with(" rust-web-src libstd-rust-web-dev"), "{announced:?}");

    let prefix = machine.path("cache/pointsman/wasm-toolchain");
    let library = prefix.join("usr/lib/rustlib/wasm32-unknown-unknown/lib");
    let names: Vec<_> = fs::read_dir(library).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["libstd-0.rlib"]);
    assert!(!prefix.join("debs").exists() && !prefix.join("build").exists() && !prefix.join("usr/src").exists());

    fs::remove_file(machine.path("calls")).unwrap();
    let (again, announced) = machine.find(ToolchainChoice::Debian);
    assert_eq!(again.unwrap().rustc(), rustc);
    assert_eq!(announced, [""; 0]);
    assert!(!machine.was_asked("apt-get") && !machine.was_asked("cargo"));
}

#[test]
fn a_folder_that_others_can_write_to_is_not_run_from() {
    let machine = SimulatedMachine::with(&DEBIAN).put("packages", PACKAGES).put("lists", "");
    machine.find(ToolchainChoice::Debian).0.unwrap();
    let prefix = machine.path("cache/pointsman/wasm-toolchain");
    fs::set_permissions(&prefix, fs::Permissions::from_mode(0o777)).unwrap();
    fs::remove_file(machine.path("calls")).unwrap();
    let (found, _) = machine.find(ToolchainChoice::Debian);
    assert!(matches!(found, Err(ToolchainError::NotOurs { .. })), "{found:?}");
    assert!(!machine.path("calls").exists(), "nothing was run");
}

#[test]
fn the_linkers_follow_the_rust_in_use() {
    let machine = SimulatedMachine::with(&DEBIAN).put("packages", PACKAGES).put("lists", "");
    machine.find(ToolchainChoice::Debian).0.unwrap();
    let link = machine.path("cache/pointsman/wasm-toolchain/usr/lib/rustlib/x86_64-simulated/bin/rust-lld");
    let linker = machine.path("lib/rustlib/x86_64-simulated/bin/rust-lld");
    assert_eq!(fs::read_link(&link).unwrap(), linker);
    fs::remove_file(&link).unwrap();
    symlink("/gone/rust-lld", &link).unwrap();
    machine.find(ToolchainChoice::Debian).0.unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), linker);

    fs::remove_file(&linker).unwrap();
    let (found, _) = machine.find(ToolchainChoice::Debian);
    assert!(matches!(found, Err(ToolchainError::NoLinker { linker: "rust-lld", .. })), "{found:?}");
}

#[test]
fn empty_lists_are_updated_first() {
    let machine = SimulatedMachine::with(&DEBIAN).put("packages", PACKAGES);
    let (found, announced) = machine.find(ToolchainChoice::Auto);
    found.unwrap();
    assert!(announced[0].contains("apt-get update"), "{announced:?}");
    assert!(!machine.was_asked("rustup"));
}

#[test]
fn a_network_that_is_down_is_told_and_nothing_else_is_tried() {
    for lists in [true, false] {
        let mut machine = SimulatedMachine::with(&DEBIAN).put("packages", PACKAGES).put("no-network", "");
        if lists {
            machine = machine.put("lists", "");
        }
        let (found, _) = machine.find(ToolchainChoice::Auto);
        let error = found.unwrap_err();
        assert!(matches!(error, ToolchainError::Step { .. }), "{error:?}");
        assert!(error.to_string().contains("as root"), "{error}");
        assert!(!machine.was_asked("rustup"));
        assert!(!machine.path("cache/pointsman/wasm-toolchain/bin/rustc").exists());
    }
}

#[test]
fn rustup_serves_where_apt_has_no_such_package_or_is_not_there() {
    for (tools, announcements) in [(&DEBIAN[..], 2), (&DEBIAN[..3], 1)] {
        let machine = SimulatedMachine::with(tools).put("lists", "");
        let (found, announced) = machine.find(ToolchainChoice::Auto);
        assert_eq!(found.unwrap().rustc(), machine.path("bin/rustc"));
        assert_eq!(announced.len(), announcements, "{announced:?}");
        assert!(announced.last().unwrap().contains("rustup target add"), "{announced:?}");
    }
}

#[test]
fn a_machine_with_nothing_is_told_what_to_install() {
    let (found, _) = SimulatedMachine::with(&[]).find(ToolchainChoice::Auto);
    let error = found.unwrap_err();
    assert!(matches!(error, ToolchainError::NoRust { .. }) && error.to_string().contains("install Rust"), "{error}");

    let (found, _) = SimulatedMachine::with(&["rustc", "cargo"]).find(ToolchainChoice::Auto);
    let error = found.unwrap_err();
    assert!(matches!(error, ToolchainError::NoTool { tool: "rustup" }), "{error:?}");

    let machine = SimulatedMachine::with(&DEBIAN).put("lists", "");
    let (found, _) = machine.find(ToolchainChoice::Debian);
    assert!(matches!(found, Err(ToolchainError::NoPackage)), "{found:?}");
}
