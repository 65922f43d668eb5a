//! A toolchain out of Debian's packages, in a folder of the user's own.
//!
//! `rustc-web` and `rust-web-src` are of one source package, and so always of one version: the standard library is built
//! with the very compiler it belongs to. (Another compiler can't build it.) The linkers are those of the Rust in use.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;

use super::{LINKER, TARGET, ToolchainError, Tools};

/// What is unpacked, with what of their dependencies is not on the system.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "libstd-rust-web-dev"];

/// The compiler in the cache folder; it is made where it is not there yet.
pub(super) fn find_or_make(tools: &Tools, announce: &mut dyn FnMut(&str)) -> Result<PathBuf, ToolchainError> {
    let folder = tools.cache.as_ref().ok_or(ToolchainError::NoCacheFolder)?.join("pointsman/wasm-toolchain");
    // Held until the end of this function.
    let _lock = lock(&folder.with_extension("lock"), announce)?;
    ours_alone(&folder)?;
    let prefix = Prefix { tools, folder };
    if !prefix.is_ready()? {
        prefix.make(announce)?;
    }
    // Each time, since the Rust in use, where the linkers are, may have moved.
    prefix.link_linkers()?;
    Ok(prefix.rustc())
}

fn lock(path: &Path, announce: &mut dyn FnMut(&str)) -> Result<File, ToolchainError> {
    let failed = at("lock the Rust toolchain", path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(&failed)?;
    }
    let file = File::create(path).map_err(&failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            announce("waiting for another process that makes the Rust toolchain");
            file.lock().map_err(&failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    Ok(file)
}

/// What is in the folder is run: where others could write to it, it is not used.
fn ours_alone(folder: &Path) -> Result<(), ToolchainError> {
    const OTHERS_WRITE: u32 = 0o022;
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at("look at", folder)(error)),
        Ok(found) if found.uid() == geteuid().as_raw() && found.is_dir() && found.mode() & OTHERS_WRITE == 0 => Ok(()),
        Ok(_) => Err(ToolchainError::NotOurs { folder: folder.to_owned() }),
    }
}

/// The folder that everything is unpacked into.
struct Prefix<'a> {
    tools: &'a Tools,
    folder: PathBuf,
}

impl Prefix<'_> {
    /// A script: the compiler needs its libraries found.
    fn rustc(&self) -> PathBuf {
        self.folder.join("bin/rustc")
    }

    /// The standard library is the last thing to get there, in one step. So nothing half-made is ever ready.
    fn is_ready(&self) -> Result<bool, ToolchainError> {
        let rustc = self.rustc();
        if !rustc.is_file() {
            return Ok(false);
        }
        // A compiler that does not run (any more) is made anew.
        Ok(self.tools.has_std(&rustc).unwrap_or(false))
    }

    fn make(&self, announce: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
        self.linkers()?;
        remove(&self.folder)?;
        let debs = self.folder.join("debs");
        fs::create_dir_all(&debs).map_err(at("make the folder", &debs))?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755)).map_err(at("protect", &self.folder))?;
        download(self.tools, &debs, announce)?;
        announce(&format!("unpacking it in {} (nothing is installed)", self.folder.display()));
        self.unpack(&debs)?;
        self.write_rustc()?;
        self.link_linkers()?;
        announce(&format!("building the standard library for {TARGET}, once (about a minute)"));
        self.build_std()
    }

    fn unpack(&self, debs: &Path) -> Result<(), ToolchainError> {
        let failed = at("read the folder", debs);
        for entry in fs::read_dir(debs).map_err(&failed)? {
            let package = entry.map_err(&failed)?.path();
            let mut dpkg = Command::new("dpkg-deb");
            self.tools.run("unpack the compiler", dpkg.arg("-x").arg(package).arg(&self.folder))?;
        }
        remove(debs)
    }

    fn write_rustc(&self) -> Result<(), ToolchainError> {
        let rustc = self.rustc();
        let failed = at("write", &rustc);
        fs::create_dir_all(self.folder.join("bin")).map_err(&failed)?;
        fs::write(&rustc, rustc_script(&self.folder, &self.libraries()?)).map_err(&failed)?;
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).map_err(&failed)
    }

    /// The folder of the shared libraries, whose name is the architecture's: `usr/lib/x86_64-linux-gnu`.
    fn libraries(&self) -> Result<PathBuf, ToolchainError> {
        let lib = self.folder.join("usr/lib");
        let failed = at("find the libraries of the compiler in", &lib);
        let folders = fs::read_dir(&lib).map_err(&failed)?;
        folders
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains("-linux-gnu"))
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// The programs that link components, of the Rust in use: the one rustc calls, and the one that this calls.
    fn linkers(&self) -> Result<[PathBuf; 2], ToolchainError> {
        let folder = self.tools.rustlib_bin(&self.tools.rustc())?;
        let find = |names: &[&'static str]| {
            let beside = names.iter().map(|name| folder.join(name)).find(|file| file.is_file());
            beside
                .or_else(|| names.iter().find_map(|name| self.tools.find(name)))
                .ok_or_else(|| ToolchainError::NoLinker { linker: names[0], folder: folder.clone() })
        };
        Ok([find(&[LINKER])?, find(&["rust-lld", "wasm-ld"])?])
    }

    /// Puts the linkers where this compiler looks first, which is what makes their bare names enough.
    fn link_linkers(&self) -> Result<(), ToolchainError> {
        let folder = self.tools.rustlib_bin(&self.rustc())?;
        fs::create_dir_all(&folder).map_err(at("make the folder", &folder))?;
        for linker in self.linkers()? {
            let Some(name) = linker.file_name() else { continue };
            let link = folder.join(name);
            if fs::read_link(&link).is_ok_and(|target| target == linker) {
                continue;
            }
            if link.symlink_metadata().is_ok() {
                fs::remove_file(&link).map_err(at("replace", &link))?;
            }
            symlink(&linker, &link).map_err(at("write the link", &link))?;
        }
        Ok(())
    }

    fn build_std(&self) -> Result<(), ToolchainError> {
        let build = self.folder.join("build");
        let failed = at("write to", &build);
        fs::create_dir_all(build.join("src")).map_err(&failed)?;
        fs::write(build.join("Cargo.toml"), STD_MANIFEST).map_err(&failed)?;
        fs::write(build.join("src/lib.rs"), "#![no_std]\n").map_err(&failed)?;
        let target = build.join("target");
        let mut cargo = self.tools.cargo();
        cargo
            .current_dir(&build)
            .args(["build", "--quiet", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort", "--target-dir"])
            .arg(&target)
            .env("RUSTC", self.rustc())
            // Lets a stable compiler build its own library; plugins don't need it.
            .env("RUSTC_BOOTSTRAP", "1")
            // Without bitcode in the library no plugin could use `lto = true`.
            .env("RUSTFLAGS", "-Cembed-bitcode=yes");
        self.tools.run("build the standard library", &mut cargo)?;
        self.install_std(&target.join(TARGET).join("release/deps"))?;
        // What is not needed any more: two thirds of the space.
        remove(&build)?;
        remove(&self.folder.join("usr/src"))?;
        remove(&self.folder.join("usr/share"))
    }

    fn install_std(&self, built: &Path) -> Result<(), ToolchainError> {
        let rustc = self.rustc();
        let mut ask = Command::new(&rustc);
        ask.args(["--print", "target-libdir", "--target", TARGET]);
        let library = self.tools.run("find the place of the standard library", &mut ask)?;
        let library = PathBuf::from(library.trim());
        let unfinished = library.with_extension("unfinished");
        fs::create_dir_all(&unfinished).map_err(at("make the folder", &unfinished))?;
        let failed = at("copy the standard library from", built);
        for entry in fs::read_dir(built).map_err(&failed)? {
            let file = entry.map_err(&failed)?.path();
            let Some(name) = file.file_name() else { continue };
            let carrier = name.to_string_lossy().starts_with("libpointsman_std");
            if !carrier && file.extension().is_some_and(|extension| extension == "rlib") {
                fs::copy(&file, unfinished.join(name)).map_err(&failed)?;
            }
        }
        fs::rename(&unfinished, &library).map_err(at("put the standard library to", &library))?;
        if self.tools.has_std(&rustc)? {
            return Ok(());
        }
        Err(ToolchainError::Step {
            step: "build the standard library".into(),
            cause: format!("{} holds no libstd", library.display()),
        })
    }
}

/// An empty crate that carries the standard library.
const STD_MANIFEST: &str = r#"[package]
name = "pointsman-std"
version = "0.0.0"
edition = "2021"

[workspace]

[profile.release]
panic = "abort"
debug = false
"#;

/// Downloads the packages into the folder.
fn download(tools: &Tools, into: &Path, announce: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
    let mut packages = match packages(tools) {
        // The lists of a fresh system may be empty, which says nothing about the packages.
        Err(ToolchainError::NoPackage) if !has_lists(tools) => {
            update(tools, announce)?;
            packages(tools)?
        }
        packages => packages?,
    };
    announce(&format!("downloading Debian's Rust compiler for plugins, about 150 MB: {}", packages.join(" ")));
    if fetch(tools, &packages, into).is_ok() {
        return Ok(());
    }
    // A version that has been replaced since the lists were read can't be had any more.
    update(tools, announce)?;
    packages = self::packages(tools)?;
    fetch(tools, &packages, into)
}

fn fetch(tools: &Tools, packages: &[String], into: &Path) -> Result<(), ToolchainError> {
    let mut apt = Command::new("apt-get");
    apt.args(["download", "-qq"]).args(packages).current_dir(into);
    tools.run("download the compiler", &mut apt).map(drop)
}

/// Whether apt has read any list of packages.
fn has_lists(tools: &Tools) -> bool {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]);
    tools.run("ask apt for its lists", &mut apt).is_ok_and(|files| !files.trim().is_empty())
}

fn update(tools: &Tools, announce: &mut dyn FnMut(&str)) -> Result<(), ToolchainError> {
    announce("downloading the package lists (apt-get update)");
    let mut apt = Command::new("apt-get");
    apt.args(["update", "-qq"]);
    tools.run("update the package lists, which takes root: run `apt-get update` as root, then try again", &mut apt)?;
    Ok(())
}

/// The packages to download, most of them with a version.
fn packages(tools: &Tools) -> Result<Vec<String>, ToolchainError> {
    let mut packages = to_install(&simulate(tools)?);
    // What is installed already is unpacked once more: the system's own folders are not ours to write to.
    let library = library(tools)?;
    for name in PACKAGES.into_iter().chain([library.as_str()]) {
        if !packages.iter().any(|package| package.split('=').next() == Some(name)) {
            packages.push(name.into());
        }
    }
    Ok(packages)
}

/// What apt says it would do to install the packages.
fn simulate(tools: &Tools) -> Result<String, ToolchainError> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--simulate", "--no-install-recommends"]).args(PACKAGES).env("LC_ALL", "C");
    tools.run("ask apt for rustc-web", &mut apt).map_err(|error| match error {
        ToolchainError::Step { cause, .. }
            if cause.contains("Unable to locate package") || cause.contains("has no installation candidate") =>
        {
            ToolchainError::NoPackage
        }
        other => other,
    })
}

/// Reads lines such as `Inst rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])`. The
/// version that would be replaced, in brackets, may come before the one in parentheses.
fn to_install(simulation: &str) -> Vec<String> {
    let package = |line: &str| {
        let mut words = line.strip_prefix("Inst ")?.split(' ');
        let name = words.next()?;
        let version = words.find_map(|word| word.strip_prefix('('))?;
        Some(format!("{name}={version}"))
    };
    simulation.lines().filter_map(package).collect()
}

/// The package of the compiler's own libraries, whose name has the version in it.
fn library(tools: &Tools) -> Result<String, ToolchainError> {
    let mut apt = Command::new("apt-cache");
    apt.args(["depends", "libstd-rust-web-dev"]).env("LC_ALL", "C");
    let depends = tools.run("ask apt for the library of rustc-web", &mut apt)?;
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("libstd-rust-web-"))
        .map(Into::into)
        .ok_or(ToolchainError::NoPackage)
}

/// The text of `bin/rustc`.
fn rustc_script(prefix: &Path, libraries: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec {} \"$@\"\n",
        quoted(libraries),
        quoted(&prefix.join("usr/bin/rustc"))
    )
}

/// Removes a folder with all that is in it; one that is not there is no error.
fn remove(folder: &Path) -> Result<(), ToolchainError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Makes an error of what the operating system said about a path.
fn at(step: &str, path: &Path) -> impl Fn(io::Error) -> ToolchainError {
    let step = format!("{step} {}", path.display());
    move |error| ToolchainError::Step { step: step.clone(), cause: error.to_string() }
}

#[cfg(test)]
mod tests;
