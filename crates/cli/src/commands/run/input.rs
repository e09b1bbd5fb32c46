//! Standard input for a process that is in another process group, perhaps in another session.

use std::io::{self, IsTerminal as _, PipeWriter, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

/// How often a terminal that somebody else reads is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// What the process may read. A file or a pipe is given as it is. Of a terminal, which only programs of its own
/// session may read while it is their turn, we read and hand on.
pub(super) fn stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return stdin.as_fd().try_clone_to_owned();
    }
    let (reader, writer) = io::pipe()?;
    // Its end is ours: a read of a terminal cannot be taken back.
    thread::Builder::new().name("input".to_owned()).spawn(move || relay(writer))?;
    Ok(reader.into())
}

/// Reads the terminal until it, or the process, ends.
fn relay(mut writer: PipeWriter) {
    // In the background a read would stop us; blocked, it is an error, and we wait for our turn.
    let background = SigSet::from(Signal::SIGTTIN);
    if background.thread_block().is_err() {
        return;
    }
    // Unbuffered: what is waited for has to be what is there.
    let stdin = io::stdin();
    let mut chunk = [0; 4096];
    loop {
        let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::NONE).is_err_and(|error| error != nix::errno::Errno::EINTR) {
            return;
        }
        match rustix::io::read(stdin.as_fd(), &mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                if writer.write_all(&chunk[..length]).is_err() {
                    return;
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::IO) => thread::sleep(PAUSE),
            Err(_) => return,
        }
    }
}
