//! Progress of long work, on a terminal and elsewhere.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::ptr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pointsman_tests::backend::Backend;
use pointsman_tests::child::Guarded;
use pointsman_tests::kafka::Sample;
use pointsman_tests::places::Scratch;
use pointsman_tests::router;

const DEADLINE: Duration = Duration::from_secs(60);

/// Letters of one run, at so many a second: long enough for a bar.
const LETTERS: &str = "24";
const RATE: &str = "12/s";

/// The lower of two lines is cleared, and the cursor goes to the upper one.
const CLEAR: &str = "\u{1b}[2K\u{1b}[1A";

/// A terminal of 120 columns: what shows what is on it, and what a program writes to.
fn terminal() -> anyhow::Result<(File, OwnedFd)> {
    let size = libc::winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut screen, mut line) = (-1, -1);
    // SAFETY: both descriptors and the size are valid for the call; neither name nor settings are asked for.
    let made = unsafe {
        libc::openpty(&raw mut screen, &raw mut line, ptr::null_mut(), ptr::null_mut(), (&raw const size).cast_mut())
    };
    ensure!(made == 0, "can't open a terminal: {}", std::io::Error::last_os_error());
    // SAFETY: they were opened above, and belong to nobody else.
    Ok(unsafe { (File::from_raw_fd(screen), OwnedFd::from_raw_fd(line)) })
}

/// Discards some letters; the answer is what was on a terminal that is standard error, where standard output goes to this.
fn discard(
    folder: &Path,
    more: &[&str],
    variable: Option<(&str, &str)>,
    stdout: impl FnOnce(&OwnedFd) -> anyhow::Result<Stdio>,
) -> anyhow::Result<String> {
    let (mut screen, line) = terminal()?;
    let mut command = router::command()?;
    command
        .args(["dead-letter", "discard", "router.toml", "--all", "--max", LETTERS, "--rate", RATE])
        .args(more)
        .current_dir(folder)
        .env("TERM", "xterm")
        .envs(variable)
        .stdin(Stdio::null())
        .stdout(stdout(&line)?)
        .stderr(line);
    let mut process = Guarded::spawn(command)?;
    let shown = thread::spawn(move || {
        let mut shown = Vec::new();
        // A terminal that nobody writes to any more ends with an error.
        let _ = screen.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    let status = process.wait(DEADLINE)?;
    let shown = shown.join().ok().context("the terminal can't be read")?;
    ensure!(status.success(), "{status}: {shown}");
    Ok(shown)
}

/// A folder with a configuration, whose dead letters are so many.
fn letters(count: i32) -> anyhow::Result<Scratch> {
    let folder = Scratch::new("progress-")?;
    let backend = Backend::Embedded(folder.path().join("log"));
    backend.create_topic("dead", 2)?;
    let letter = |number: i32| Sample { partition: Some(number % 2), value: Some(b"{}".to_vec()), ..Sample::default() };
    backend.fill("dead", (0..count).map(letter))?;
    let config = format!(
        "version = 1\n[router]\nname = \"r\"\n{}[[routes]]\nname = \"orders\"\nfrom = [\"in\"]\ndead_letter = {{ topic = \"dead\" }}\n\
         [[routes.outputs]]\ntopic = \"out\"\n",
        backend.broker()
    );
    fs::write(folder.path().join("router.toml"), config)?;
    Ok(folder)
}

#[test]
fn a_bar_is_on_the_terminal_while_letters_are_handled_and_gone_with_the_answer() -> anyhow::Result<()> {
    let folder = letters(72)?;
    let answer = folder.path().join("answer");
    let to_file = |_: &OwnedFd| Ok(File::create(&answer)?.into());
    let said = || fs::read_to_string(&answer);

    let shown = discard(folder.path(), &[], None, to_file)?;
    ensure!(said()?.contains("discarded"), "{}", said()?);
    ensure!(shown.contains("discarding from dead"), "{shown:?}");
    for figure in ["[==", " of at most 72 records, ", "/s, about "] {
        ensure!(shown.contains(figure), "{figure:?} is not in {shown:?}");
    }
    ensure!(shown.ends_with(CLEAR), "it is still there: {shown:?}");

    let shown = discard(folder.path(), &["--json"], None, to_file)?;
    ensure!(said()?.lines().count() == 25 && !shown.contains("discarding"), "{}{shown:?}", said()?);
    let shown = discard(folder.path(), &[], Some(("POINTSMAN_NO_PROGRESS", "1")), to_file)?;
    ensure!(said()?.contains("discarded") && !shown.contains("discarding"), "{shown:?}");
    Ok(())
}

#[test]
fn the_answer_is_not_written_into_the_bar() -> anyhow::Result<()> {
    let folder = letters(24)?;
    let shown = discard(folder.path(), &[], None, |line| Ok(line.try_clone()?.into()))?;
    let (bar, answer) = shown.rsplit_once(CLEAR).context("there was a bar")?;
    ensure!(bar.contains("discarding from dead") && !bar.contains("discarded"), "{shown:?}");
    ensure!(answer.trim_start().starts_with("were") && answer.contains("discarded"), "{shown:?}");
    Ok(())
}
