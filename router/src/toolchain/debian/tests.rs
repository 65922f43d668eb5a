#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::sync::mpsc;
use std::thread;

use super::*;

#[test]
fn a_second_process_says_that_it_waits_and_then_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache/toolchain.lock");
    let first = lock(&path, &mut |line| unreachable!("{line}")).unwrap();
    let (announced, heard) = mpsc::channel();
    thread::scope(|scope| {
        let second = scope.spawn(|| lock(&path, &mut |line| announced.send(line.to_owned()).unwrap()).map(drop));
        assert!(heard.recv().unwrap().contains("waiting"));
        drop(first);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn a_simulated_installation_names_packages_and_their_new_versions() {
    let simulation = "Reading package lists...
Inst libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12/oldstable-security [amd64])
Inst rustc-web [1.85.0] (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64]) [held:amd64 ]
Inst torn
Conf libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12/oldstable-security [amd64])
";
    assert_eq!(to_install(simulation), ["libllvm22=1:22.1.8-1~deb12u1", "rustc-web=1.96.0+dfsg1-1~deb12u2"]);
}

#[test]
fn a_path_with_a_quote_does_not_break_the_script() {
    let script = rustc_script(Path::new("/home/o'neill/t c"), Path::new("/lib"));
    assert!(script.contains(r"exec '/home/o'\''neill/t c/usr/bin/rustc'"), "{script}");
}
