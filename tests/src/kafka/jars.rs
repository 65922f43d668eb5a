//! The jars of Apache Kafka: copied from Maven Central into the target folder, once.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::Unavailable;
use crate::places;

/// Kafka 4 needs Java 17.
const JAVA_MIN: u32 = 17;

/// The programs and files a broker is started with.
#[derive(Clone, Debug)]
pub(super) struct Jars {
    /// The Java runtime.
    pub(super) java: PathBuf,
    /// The folder of the jars.
    pub(super) folder: PathBuf,
}

/// Finds Java, and fetches the jars unless they are there. Only one process fetches; others wait for it.
///
/// # Errors
/// [`Unavailable::NotHere`] without Java, or without Maven where the jars are still to be fetched.
pub(super) fn fetch() -> Result<Jars, Unavailable> {
    let java = java()?;
    let pom = places::workspace().join("tests/pom.xml");
    let wanted = fs::read_to_string(&pom).with_context(|| format!("can't read {}", pom.display()))?;
    let folder = places::cache()?.join("kafka");
    // Whoever waits here finds the jars in place.
    let _lock = places::lock("kafka")?;
    // The description they were fetched by lies beside them: another one means other jars.
    let stamp = folder.join("pom.xml");
    if fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(Jars { java, folder });
    }
    eprintln!("fetching Apache Kafka from Maven Central (about 45 MB, once) …");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("can't remove {}", folder.display()))?;
    }
    copy_dependencies(&pom, &folder)?;
    fs::write(&stamp, wanted).with_context(|| format!("can't write {}", stamp.display()))?;
    Ok(Jars { java, folder })
}

fn copy_dependencies(pom: &Path, folder: &Path) -> Result<(), Unavailable> {
    let maven = on_path("mvn").ok_or_else(|| {
        Unavailable::NotHere(
            "there is no `mvn` on the PATH to fetch it with; install Maven, on Debian `apt install maven`".into(),
        )
    })?;
    let output = Command::new(maven)
        .args(["-q", "-B", "-f"])
        .arg(pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .stdin(Stdio::null())
        .output()
        .context("can't run Maven")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return Err(anyhow::anyhow!("Maven could not fetch Apache Kafka ({}):\n{said}", output.status).into());
    }
    Ok(())
}

/// The Java runtime: `$JAVA_HOME`'s, or the one on the path; recent enough.
fn java() -> Result<PathBuf, Unavailable> {
    let home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java")).filter(|java| java.exists());
    let java = home.or_else(|| on_path("java")).ok_or_else(|| {
        Unavailable::NotHere(format!(
            "there is no `java` on the PATH; install Java {JAVA_MIN} or later and Maven, on Debian \
             `apt install default-jre-headless maven`, or name a cluster by POINTSMAN_TEST_BOOTSTRAP"
        ))
    })?;
    let version = version(&java)?;
    if version < JAVA_MIN {
        let java = java.display();
        return Err(Unavailable::NotHere(format!(
            "{java} is Java {version}, but Kafka 4 needs Java {JAVA_MIN} or later"
        )));
    }
    Ok(java)
}

/// The major version that `java -version` names, as in `openjdk version "17.0.15"`.
fn version(java: &Path) -> anyhow::Result<u32> {
    let output =
        Command::new(java).arg("-version").output().with_context(|| format!("can't run {}", java.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let digits: Option<&str> = said.split('"').nth(1).and_then(|version| version.split(['.', '-', '+']).next());
    let Some(Ok(version)) = digits.map(str::parse) else {
        bail!("`{} -version` names no version: {said}", java.display());
    };
    Ok(version)
}

/// The program called `name` on the path.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
