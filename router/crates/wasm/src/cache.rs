//! Compiled components, kept between starts.
//!
//! What is read here runs as machine code of the router, so the directory and each file must belong to the effective
//! user, and nobody else may be able to write to them. The check and the reading go through the same open descriptors:
//! nothing can be exchanged in between. A file ends with the SHA-256 of what is before it, against torn writes and failing
//! disks. Routers may share a directory. What was not used for the longest time makes room for what is new.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, fstat, futimens, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};
use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::Digest;

/// Bytes that all files of the directory may have together: some dozens of plugins in other languages, thousands in Rust.
const TOTAL_BYTES: u64 = 1 << 30;

/// How the names of compiled plugins end.
const SUFFIX: &str = ".cwasm";

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
        format!("{digest}-{:016x}{SUFFIX}", self.engine)
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
        let code = component.serialize().map_err(io::Error::other);
        if let Err(error) = code.and_then(|code| self.write(&name, &code)).and_then(|()| self.make_room(&name)) {
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
            Err(Errno::NOENT) => return Ok(None),
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
        // What was used stays the longest. Where the time can't be set, what was written last does.
        if let Err(error) = futimens(&file, &USED_NOW) {
            debug!(name, %error, "the time at which a compiled plugin was used can't be noted");
        }
        Ok(Some(code))
    }

    /// Writes to a name of its own, then renames: a reader sees all of the file or none. The name is random, since routers
    /// in containers that share the directory all have the same process id.
    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let temporary = format!(".{name}.{:016x}", u64::from_ne_bytes(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
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

    /// Removes files, those that were not used for the longest time first, until they are within [`TOTAL_BYTES`]; but not
    /// the one that was just written.
    fn make_room(&self, written: &str) -> io::Result<()> {
        let mut files = self.files()?;
        files.sort_unstable_by_key(|file| (file.stat.st_mtime, file.stat.st_mtime_nsec));
        let mut total: u64 = files.iter().map(CachedFile::bytes).sum();
        for file in files.iter().filter(|file| file.name.to_bytes() != written.as_bytes()) {
            if total <= TOTAL_BYTES {
                break;
            }
            match unlinkat(&*self.directory, &*file.name, AtFlags::empty()) {
                // Another router has just removed it.
                Ok(()) | Err(Errno::NOENT) => total = total.saturating_sub(file.bytes()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The compiled plugins of all engines, and what is left of half-written ones. Nothing else is ours to remove.
    fn files(&self) -> io::Result<Vec<CachedFile>> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&*self.directory)? {
            let name = entry?.file_name().to_owned();
            let text = name.to_string_lossy();
            let ours = text.ends_with(SUFFIX) || text.starts_with('.') && text.contains(SUFFIX);
            if !ours {
                continue;
            }
            match statat(&*self.directory, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => files.push(CachedFile { name, stat }),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(files)
    }
}

/// A file of the cache.
struct CachedFile {
    name: CString,
    stat: Stat,
}

impl CachedFile {
    fn bytes(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }
}

/// For `futimens`: last used now.
const USED_NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

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
