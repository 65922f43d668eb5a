//! Who holds a lease, and whether it still runs.
//!
//! On Linux a process is told by its id and its start time, within one scope: this boot, this pid namespace, this user.
//! So an owner that was killed is known to be gone at once, and so is one of another boot: the log is of one machine. In
//! another scope of this boot (a container with its own processes) nothing can be told, and the lease has to run out.

use std::fmt;
use std::fs;
use std::process;

/// A process, written into the lease as `pid host scope started`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    /// For people.
    host: String,
    /// Where `pid` and `started` mean something; empty where they can't be looked up.
    scope: String,
    /// Start time of the process, in ticks since boot; empty where unknown.
    started: String,
}

impl Owner {
    /// This process.
    pub(crate) fn current() -> Self {
        let pid = process::id();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "this-machine" } else { host.trim() };
        let started = match state(pid) {
            Some(State::Running { started }) => started,
            _ => String::new(),
        };
        Self { pid, host: host.into(), scope: scope().unwrap_or_default(), started }
    }

    /// Reads what was written; `None` where it has another shape, and so can't be judged.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let owner = Self {
            pid: words.next()?.parse().ok()?,
            host: words.next()?.into(),
            scope: words.next()?.into(),
            started: words.next()?.into(),
        };
        words.next().is_none().then_some(owner)
    }

    /// Whether `self` is certainly gone, as `observer` can tell.
    pub(crate) fn is_gone(&self, observer: &Self) -> bool {
        if let (Some(theirs), Some(ours)) = (self.boot(), observer.boot())
            && theirs != ours
        {
            return true;
        }
        if self.scope.is_empty() || self.started.is_empty() || self.scope != observer.scope {
            return false;
        }
        match state(self.pid) {
            Some(State::Running { started }) => started != self.started,
            Some(State::Ended) => true,
            None => false,
        }
    }

    /// The boot of the system that it runs in, where that is known.
    fn boot(&self) -> Option<&str> {
        self.scope.split_once('/').map(|(boot, _)| boot)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.pid, self.host, self.scope, self.started)
    }
}

enum State {
    Running { started: String },
    Ended,
}

/// What the system says of a process; `None` where it says nothing.
fn state(pid: u32) -> Option<State> {
    if !fs::exists("/proc/self/stat").unwrap_or(false) {
        return None;
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => {
            // The name of the program is in parentheses and may hold anything; the fields after it are words.
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            // A zombie has ended, and only its parent does not know yet.
            if matches!(fields.next()?, "Z" | "X") {
                return Some(State::Ended);
            }
            // Field 22 of the line; the state was field 3.
            Some(State::Running { started: fields.nth(18)?.into() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(State::Ended),
        Err(_) => None,
    }
}

/// Process ids are compared within one boot, one pid namespace and one user: another user's processes may be hidden.
#[cfg(target_os = "linux")]
fn scope() -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    let user = fs::metadata("/proc/self").ok()?.uid();
    Some(format!("{}/{}/{user}", boot.trim(), namespace.to_str()?))
}

#[cfg(not(target_os = "linux"))]
fn scope() -> Option<String> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_owner_is_read_back_as_it_was_written() {
        let me = Owner::current();
        assert_eq!(Owner::parse(&me.to_string()), Some(me));
        for torn in ["", "12", "x host scope 1", "12 host scope", "12 host scope 1 more"] {
            assert_eq!(Owner::parse(torn), None, "{torn}");
        }
    }

    #[test]
    fn only_a_process_that_ended_in_our_own_scope_is_gone() {
        let me = Owner::current();
        assert!(!me.is_gone(&me));
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let Some(State::Running { started }) = state(child.id()) else { panic!("the child runs") };
        let owner = Owner { pid: child.id(), started, ..me.clone() };
        assert!(!owner.is_gone(&me));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(owner.is_gone(&me));
        // Its pid means nothing elsewhere,
        let container = format!("{}/pid:[1]/0", me.boot().unwrap());
        for scope in [container, "unreadable".into(), String::new()] {
            assert!(!Owner { scope, ..owner.clone() }.is_gone(&me));
        }
        // but nothing outlives its boot, whatever the pids of this one are.
        assert!(Owner { scope: me.scope.replacen(me.boot().unwrap(), "another-boot", 1), ..me.clone() }.is_gone(&me));
        // A pid that was given to another process.
        assert!(Owner { started: "1".into(), ..me.clone() }.is_gone(&me));
        assert!(!Owner { started: String::new(), ..owner }.is_gone(&me));
    }
}
