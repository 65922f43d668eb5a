//! Compiled components, kept between starts.
//!
//! What is read here runs as machine code of the router, so the directory and each file must belong to the effective
//! user, and nobody else may be able to write to them. The check and the reading go through the same open descriptors:
//! nothing can be exchanged in between. A file ends with the SHA-256 of what is before it, against torn writes and failing
//! disks.

use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, renameat, unlinkat};
use rustix::process::geteuid;
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::Digest;

/// An open cache directory, for one engine.
#[derive(Clone)]
pub(crate) struct Cache {
    directory: Arc<File>,
    path: PathBuf,
    /// Of wasmtime's version, the processor's features and all settings that code depends on.
    engine: u64,
}

impl Cache {
    /// Opens the directory, and makes it if it is missing. If it can't be used safely, says so in the log; then there is
    /// no cache.
    pub(crate) fn open(path: &Path, engine: &Engine) -> Option<Self> {
        match open_directory(path) {
            Ok(directory) => {
                let mut hasher = DefaultHasher::new();
                engine.precompile_compatibility_hash().hash(&mut hasher);
                Some(Self { directory: Arc::new(directory), path: path.into(), engine: hasher.finish() })
            }
            Err(error) => {
                warn!(
                    directory = %path.display(), %error,
                    "the cache of compiled plugins can't be used, so each start compiles them; \
                     it must belong to the router's user, and nobody else may write to it (chmod go-w)"
                );
                None
            }
        }
    }

    fn file_name(&self, digest: Digest) -> String {
        format!("{digest}-{:016x}.cwasm", self.engine)
    }

    /// The compiled component, if it is here and can be trusted.
    pub(crate) fn get(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        let name = self.file_name(digest);
        match self.read(&name) {
            Ok(Some(code)) => {
                // SAFETY: the code was written by `put`, by this user, from a component with this digest: neither the
                // directory nor the file can be written to by anybody else, and the bytes have the checksum that they
                // were written with. wasmtime itself checks that its version and settings are the same.
                match unsafe { Component::deserialize(engine, &code) } {
                    Ok(component) => return Some(component),
                    Err(error) => self.complain(&name, &format!("{error:#}")),
                }
            }
            Ok(None) => {}
            Err(error) => self.complain(&name, &error.to_string()),
        }
        None
    }

    /// Keeps a compiled component. What goes wrong is logged: the next start compiles again.
    pub(crate) fn put(&self, digest: Digest, component: &Component) {
        let name = self.file_name(digest);
        let written = component.serialize().map_err(io::Error::other).and_then(|code| self.write(&name, &code));
        if let Err(error) = written {
            self.complain(&name, &error.to_string());
        }
    }

    fn complain(&self, name: &str, error: &str) {
        warn!(
            file = %self.path.join(name).display(), error,
            "a compiled plugin can't be read from or written to the cache, so the next start compiles it again"
        );
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = match openat(&*self.directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        only_ours(&fstat(&file)?)?;
        let mut code = Vec::new();
        file.read_to_end(&mut code)?;
        let Some((body, checksum)) = code.split_last_chunk::<32>() else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is too short"));
        };
        if Digest::of(body).0 != *checksum {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file does not have its checksum"));
        }
        code.truncate(body.len());
        Ok(Some(code))
    }

    /// Writes to a name of its own, then renames: a reader sees all of the file or none.
    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let temporary = format!(".{name}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&*self.directory, &*temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let written = file
            .write_all(code)
            .and_then(|()| file.write_all(&Digest::of(code).0))
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat(&*self.directory, &*temporary, &*self.directory, name)?));
        if written.is_err()
            && let Err(error) = unlinkat(&*self.directory, &*temporary, AtFlags::empty())
        {
            // A full disk is the likely cause, and a half-written file would not help it. The first error is the one
            // that tells.
            debug!(temporary, %error, "a half-written file stays in the cache");
        }
        written
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = File::from(openat(CWD, path, flags, Mode::empty())?);
    only_ours(&fstat(&directory)?)?;
    Ok(directory)
}

/// Refuses what another user owns, or could write to.
fn only_ours(stat: &Stat) -> io::Result<()> {
    let refused = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if stat.st_uid != geteuid().as_raw() {
        return refused("it belongs to another user");
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return refused("others may write to it");
    }
    Ok(())
}
