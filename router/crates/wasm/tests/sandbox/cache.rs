//! Compiled code is kept, and only trusted where nobody else could have put it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pointsman_core::verdict::Verdict;
use pointsman_wasm::{Sandbox, SandboxSettings};

use crate::guests::{Bench, Guest, PASS, call, settings};
use crate::logs::logged;

/// Rejects everything: not to be confused with [`PASS`].
const REJECT: Guest<'static> = Guest {
    process: "(i32.store8 (i32.const 4096) (i32.const 4)) (i32.store8 (i32.const 4128) (i32.const 4))
        (i32.store8 (i32.const 4160) (i32.const 4)) (call $pass (local.get $count))",
    ..PASS
};

/// A cache in which the code of a plugin that passes was exchanged for that of one that rejects: who reads it is known by
/// what it does.
struct Exchanged {
    bench: Bench,
    cache: PathBuf,
    file: PathBuf,
}

impl Exchanged {
    fn new() -> Self {
        let component = PASS.component();
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.keep();
        let bench = Bench::with(&component, &SandboxSettings { cache: Some(cache.join("code")), ..settings() });
        let cache = cache.join("code");
        bench.load().unwrap();
        let file = only_file(&cache);
        fs::write(&bench.spec.component, REJECT.component()).unwrap();
        bench.load().unwrap();
        let other =
            fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).find(|path| *path != file).unwrap();
        fs::rename(other, &file).unwrap();
        fs::write(&bench.spec.component, component).unwrap();
        Self { bench, cache, file }
    }

    /// Whether a new start trusts the cache; and what it logs.
    fn trusted(&mut self) -> (bool, Vec<String>) {
        let mut passed = false;
        let lines = logged(|| {
            let settings = SandboxSettings { cache: Some(self.cache.clone()), ..settings() };
            self.bench.sandbox = Sandbox::new(&settings).unwrap();
            passed = call(&mut self.bench.worker()).unwrap() == [Verdict::Pass, Verdict::Pass, Verdict::Pass];
        });
        (!passed, lines)
    }
}

impl Drop for Exchanged {
    fn drop(&mut self) {
        fs::remove_dir_all(self.cache.parent().unwrap()).unwrap();
    }
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

#[test]
fn compiled_code_is_kept_and_used() {
    let mut exchanged = Exchanged::new();
    assert_eq!(exchanged.trusted(), (true, Vec::new()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&exchanged.cache), mode(&exchanged.file)), (0o700, 0o600));
}

#[test]
fn a_directory_that_others_can_write_to_is_not_used() {
    for mode in [0o770, 0o707, 0o722] {
        let mut exchanged = Exchanged::new();
        fs::set_permissions(&exchanged.cache, Permissions::from_mode(mode)).unwrap();
        let (trusted, lines) = exchanged.trusted();
        assert!(!trusted && lines.len() == 1, "{mode:o} {lines:?}");
        assert!(lines[0].contains("others may write to it"), "{lines:?}");
    }
}

#[test]
fn a_file_that_others_can_write_to_is_not_used() {
    for mode in [0o620, 0o602] {
        let mut exchanged = Exchanged::new();
        fs::set_permissions(&exchanged.file, Permissions::from_mode(mode)).unwrap();
        let (trusted, lines) = exchanged.trusted();
        assert!(!trusted && lines[0].contains("others may write to it"), "{mode:o} {lines:?}");
        assert!(!exchanged.trusted().0, "it was compiled and written again");
        assert_eq!(exchanged.trusted().1, [""; 0]);
    }
}

#[test]
fn a_link_is_not_followed() {
    let mut exchanged = Exchanged::new();
    let elsewhere = exchanged.cache.parent().unwrap().join("elsewhere");
    fs::rename(&exchanged.file, &elsewhere).unwrap();
    symlink(&elsewhere, &exchanged.file).unwrap();
    assert!(!exchanged.trusted().0);
}

#[test]
fn a_damaged_file_is_not_used() {
    for at in [0, 1000, usize::MAX] {
        let mut exchanged = Exchanged::new();
        let mut code = fs::read(&exchanged.file).unwrap();
        match code.get_mut(at) {
            Some(byte) => *byte ^= 1,
            None => code.truncate(20),
        }
        fs::write(&exchanged.file, code).unwrap();
        let (trusted, lines) = exchanged.trusted();
        assert!(!trusted && lines.len() == 1, "{lines:?}");
    }
}

#[test]
fn what_becomes_of_a_file_does_not_reach_the_code_that_runs() {
    let mut exchanged = Exchanged::new();
    let settings = SandboxSettings { cache: Some(exchanged.cache.clone()), ..settings() };
    exchanged.bench.sandbox = Sandbox::new(&settings).unwrap();
    let mut worker = exchanged.bench.worker();
    fs::File::options().write(true).open(&exchanged.file).unwrap().set_len(0).unwrap();
    let verdicts = call(&mut worker).unwrap();
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Reject { .. })), "{verdicts:?}");
}

#[test]
fn what_is_beyond_the_room_of_the_cache_goes_oldest_first() {
    const THIRD: u64 = 400 << 20;
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(&PASS.component(), &SandboxSettings { cache: Some(folder.path().into()), ..settings() });
    let old = |name: &str, bytes: u64, days: u64| {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        file.set_len(bytes).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
    };
    old("b.cwasm", THIRD, 2);
    old("a.cwasm", THIRD, 1);
    old(".half.cwasm.0123", THIRD, 3);
    old("not-ours", THIRD, 9);
    bench.load().unwrap();
    let names = || {
        let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let (known, new): (Vec<_>, Vec<_>) = files.partition(|name| name.len() < 20);
        (known.into_iter().collect::<BTreeSet<_>>(), new.len())
    };
    assert_eq!(names(), (BTreeSet::from(["a.cwasm".into(), "b.cwasm".into(), "not-ours".into()]), 1));

    // What is used becomes young: now the others go, though they were written after it.
    let code = only_new(folder.path());
    fs::File::open(&code).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(bench.load().is_ok());
    old("c.cwasm", THIRD, 4);
    fs::write(&bench.spec.component, REJECT.component()).unwrap();
    bench.load().unwrap();
    assert_eq!(names(), (BTreeSet::from(["a.cwasm".into(), "b.cwasm".into(), "not-ours".into()]), 2));
    assert!(code.exists());
}

fn only_new(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.max_by_key(|path| path.file_name().unwrap().len()).unwrap()
}

#[test]
fn routers_with_the_same_process_id_do_not_write_to_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(&PASS.component(), &SandboxSettings { cache: Some(folder.path().into()), ..settings() });
    bench.load().unwrap();
    let file = only_file(folder.path());
    fs::remove_file(&file).unwrap();
    // As if another were writing, who has the same number.
    let name = format!(".{}.{}", file.file_name().unwrap().to_str().unwrap(), std::process::id());
    fs::write(folder.path().join(&name), "half").unwrap();
    bench.load().unwrap();
    assert_eq!(fs::read(folder.path().join(&name)).unwrap(), b"half");
    assert!(file.exists());
}
