//! The shim: a moment in which this program, started again, prepares itself to become the server.
//!
//! A server that outlives a killed Mathesis would keep the data locked. Linux can signal a child
//! when its parent dies (`PR_SET_PDEATHSIG`), but the child has to ask for it itself, between fork
//! and exec, which safe code cannot do from outside. So Mathesis starts itself with a mark as the
//! first argument; the shim drops its user, asks for the signal and becomes the server.
//!
//! The order matters. Changing the user clears the signal, so the user is dropped first; and the
//! parent may have died before the signal was asked for, so it is looked for afterwards.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::account::Account;

/// The first argument that asks for the shim.
pub const MARK: &str = "__postgres-shim";

/// The settings of our environment that the server may see; keys and secrets are not among them.
const ENVIRONMENT_KEPT: [&str; 5] =
    ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// Turns this process into the server if its arguments ask for it; otherwise does nothing.
///
/// Call it first thing in `main`, before any thread is started: credentials and the death signal
/// belong to the calling thread. When asked, it never returns.
pub fn run_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(MARK)) {
        return;
    }
    let Err(reason) = become_program(arguments);
    // Standard error is the server's log, which the parent quotes.
    eprintln!("mathesis: the server was not started: {reason}");
    std::process::exit(126);
}

/// A command that runs `program` as `account`, through the shim where there is one.
///
/// It has its own process group, so that Ctrl-C reaches Mathesis alone, which then stops the
/// server in its own time.
pub(super) fn command(
    shim_executable: Option<&Path>,
    account: &Account,
    program: &Path,
) -> Command {
    let mut command = if let Some(shim) = shim_executable {
        let mut command = Command::new(shim);
        command.arg(MARK).arg(std::process::id().to_string());
        if account.switched {
            command.args([account.uid.to_string(), account.gid.to_string()]);
        } else {
            command.args(["-", "-"]);
        }
        command.arg(program);
        command
    } else {
        let mut command = Command::new(program);
        if account.switched {
            // The standard library gives up root's other groups along with the user.
            command.gid(account.gid).uid(account.uid);
        }
        command
    };
    command.env_clear();
    for name in ENVIRONMENT_KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null());
    command
}

fn become_program(mut arguments: impl Iterator<Item = OsString>) -> Result<Infallible, String> {
    let mut next =
        |what: &str| arguments.next().ok_or_else(|| format!("the shim was not told {what}"));
    let parent = number(&next("its parent")?)?;
    let (uid, gid) = (next("the user")?, next("the group")?);
    let program = next("the program")?;
    if uid != "-" {
        drop_user(number(&uid)?, number(&gid)?)?;
    }
    ask_for_death_signal()?;
    let found = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if found != Some(parent) {
        return Err("Mathesis ended before its server began".to_owned());
    }
    let error = Command::new(&program).args(arguments).exec();
    Err(format!("could not run {}: {error}", program.display()))
}

fn number(text: &OsStr) -> Result<u32, String> {
    text.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("the shim was told {text:?} where a number belongs"))
}

#[cfg(target_os = "linux")]
fn drop_user(uid: u32, gid: u32) -> Result<(), String> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
    // As root each call sets the real, the effective and the saved id at once.
    set_thread_groups(&[])
        .and_then(|()| set_thread_gid(Gid::from_raw(gid)))
        .and_then(|()| set_thread_uid(Uid::from_raw(uid)))
        .map_err(|error| format!("could not become user {uid}: {error}"))
}

#[cfg(target_os = "linux")]
fn ask_for_death_signal() -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::INT))
        .map_err(|error| format!("could not ask for the signal of the parent's death: {error}"))
}

// Elsewhere there is no such signal, and the server is started directly (see `ServerOptions::new`);
// one that outlives its owner is stopped by the next owner.
#[cfg(not(target_os = "linux"))]
fn drop_user(_uid: u32, _gid: u32) -> Result<(), String> {
    Err("the shim is for Linux only".to_owned())
}

#[cfg(not(target_os = "linux"))]
fn ask_for_death_signal() -> Result<(), String> {
    Err("the shim is for Linux only".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let Err(reason) = become_program(arguments.iter().map(OsString::from));
        reason
    }

    #[test]
    fn a_shim_told_too_little_or_nonsense_says_so() {
        insta::assert_snapshot!(refusal(&[]), @"the shim was not told its parent");
        insta::assert_snapshot!(refusal(&["12", "-", "-"]), @"the shim was not told the program");
        insta::assert_snapshot!(refusal(&["twelve", "-", "-", "/bin/true"]), @r#"the shim was told "twelve" where a number belongs"#);
    }

    #[test]
    fn the_server_sees_no_secret() {
        let account = Account { name: "me".into(), uid: 1, gid: 1, switched: false };
        let command = command(None, &account, Path::new("/bin/true"));
        let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        assert!(names.iter().all(|name| {
            let name = name.to_string_lossy();
            name == "LC_ALL" || name == "TZ" || ENVIRONMENT_KEPT.contains(&&*name)
        }));
    }
}
