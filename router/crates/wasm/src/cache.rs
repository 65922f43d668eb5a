//! Compiled components, kept between starts.
//!
//! What is read here runs as machine code of the router, so the directory and each file must belong to the effective
//! user, and nobody else may be able to write to them. The check and the reading go through the same open descriptors:
//! nothing can be exchanged in between. A file ends with a checksum of what is before it, against torn writes and failing
//! disks. Routers may share a directory. What was not used for the longest time makes room for what is new.
//!
//! What runs is not the file but a copy in memory, of the very bytes that had the checksum: whatever later becomes of the file,
//! be it truncated, removed by a router on another machine that shares the directory, or on a disk that fails, can't
//! reach code that runs.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
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
use twox_hash::xxhash3_128::Hasher as Checksum;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::Digest;

/// Bytes that all files of the directory may have together: some dozens of plugins in other languages, thousands in Rust.
const TOTAL_BYTES: u64 = 1 << 30;

/// Of the checksum at the end of a file: XXH3 with 128 bits, big-endian. It is not against people, from whom the directory is kept,
/// and much faster than what would be.
const CHECKSUM_BYTES: u64 = 16;

/// What a file is made of, besides what wasmtime says: others are not looked for.
const FORMAT: &str = "XXH3-128";

/// What is read of a file at once: it fits in a processor's cache.
const PART_BYTES: usize = 256 << 10;

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
                FORMAT.hash(&mut hasher);
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
        match self.entry(&name) {
            Ok(Some(mut entry)) => match entry.load(engine) {
                Ok(component) => {
                    // What was used stays the longest. Where the time can't be set, what was written last does.
                    if let Err(error) = futimens(&entry.file, &USED_NOW) {
                        debug!(name, %error, "the time at which a compiled plugin was used can't be noted");
                    }
                    return Some(component);
                }
                Err(error) => self.complain(&name, &format!("{error:#}")),
            },
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

    fn entry(&self, name: &str) -> io::Result<Option<Entry>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&*self.directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&file)?;
        only_ours(&stat)?;
        match u64::try_from(stat.st_size).unwrap_or(0).checked_sub(CHECKSUM_BYTES) {
            Some(code_bytes) => Ok(Some(Entry { file, code_bytes })),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is too short")),
        }
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
            .and_then(|()| file.write_all(&Checksum::oneshot(code).to_be_bytes()))
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

/// The file of a compiled component, open, which nobody else can write to.
struct Entry {
    file: File,
    /// What is before the checksum.
    code_bytes: u64,
}

impl Entry {
    fn load(&mut self, engine: &Engine) -> wasmtime::Result<Component> {
        // wasmtime maps a file, and copies what it gets otherwise. It finds the one in memory by its descriptor, since it has
        // no name. Where there is no such file, or no /proc, or what is in it may not be run, there is the copy.
        if let Ok(mut memory) = memory_file() {
            self.copy_to(&mut memory)?;
            let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
            // SAFETY: as below; and nobody else has this file.
            match unsafe { Component::deserialize_file(engine, path) } {
                Ok(component) => return Ok(component),
                Err(error) => debug!("compiled code can't be mapped: {error:#}"),
            }
        }
        let mut code = Vec::new();
        self.copy_to(&mut code)?;
        // SAFETY: the code was written by `put`, by this user, from a component with this digest: neither the
        // directory nor the file can be written to by anybody else, and the bytes have the checksum that they
        // were written with. wasmtime itself checks that its version and settings are the same.
        unsafe { Component::deserialize(engine, &code) }
    }

    /// Copies the code, and only succeeds if that has its checksum.
    fn copy_to(&mut self, copy: &mut impl Write) -> io::Result<()> {
        self.file.rewind()?;
        let mut checksum = Checksum::new();
        // The checksum takes each part while it is at hand.
        let mut part = vec![0; PART_BYTES];
        let mut code = (&self.file).take(self.code_bytes);
        loop {
            match code.read(&mut part) {
                Ok(0) => break,
                Ok(bytes) => {
                    checksum.write(&part[..bytes]);
                    copy.write_all(&part[..bytes])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut expected = [0; CHECKSUM_BYTES as usize];
        self.file.read_exact(&mut expected)?;
        if checksum.finish_128().to_be_bytes() != expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file does not have its checksum"));
        }
        Ok(())
    }
}

/// A file that is nowhere but in memory, and ends with its last user.
#[cfg(target_os = "linux")]
fn memory_file() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("compiled-plugin", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

#[cfg(not(target_os = "linux"))]
fn memory_file() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
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
