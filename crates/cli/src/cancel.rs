//! Ctrl-C: the first asks the work to stop and keep what is finished, the second ends the process.

use std::io::{self, Write};
use std::thread;

use anyhow::Context;
use tintype::{CancelToken, ErrorKind};

use crate::failure::code_of;

/// Returns a token that the first Ctrl-C cancels.
///
/// Files appear under their names only when they are whole, so that the second Ctrl-C, which waits for
/// nothing, cannot leave half of one.
pub(crate) fn on_interrupt() -> anyhow::Result<CancelToken> {
    let token = CancelToken::new();
    let shared = token.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot watch for Ctrl-C")?;
    let watch = move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                leave_if_cancelled(&shared);
                let _ = writeln!(
                    io::stderr(),
                    "stopping after this step; Ctrl-C again ends at once"
                );
                shared.cancel();
            }
        });
    };
    thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(watch)
        .context("cannot watch for Ctrl-C")?;
    Ok(token)
}

/// Ends the process if `token` is cancelled: for work that cannot be stopped from within and leaves nothing
/// behind that has to be cleared away.
pub(crate) fn leave_if_cancelled(token: &CancelToken) {
    if token.is_cancelled() {
        std::process::exit(code_of(ErrorKind::Cancelled).into());
    }
}
