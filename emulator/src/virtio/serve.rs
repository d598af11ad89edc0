// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One client after the other on one socket.

use std::{
    io,
    os::unix::net::UnixListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use fw_model::{FunctionId, Input, NoMemory, ResetKind};
use log::warn;
use vhost::vhost_user::{Error as ProtocolError, Listener};
use vhost_user_backend::{Error as DaemonError, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::{door::Door, vring};
use crate::{
    clients::{Clients, is_shortage},
    memory::Files,
    owner::Owner,
};

/// Pause after a failure of this process (no file descriptors, no threads), so that it does not
/// spin while the failure lasts.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Serves `function` of the card to whoever connects to `listener`, one after the other; returns
/// only if nobody can connect any more. `name` stands for the socket in log lines.
///
/// Guest memory must be such `files`.
///
/// When a client is gone its function is reset ([`ResetKind::ClientGone`]); the next one finds a
/// device that was never used.
///
/// # Errors
/// The listener failed.
pub fn serve(
    owner: &Arc<Owner>,
    function: FunctionId,
    name: &str,
    listener: UnixListener,
    clients: &Clients,
    files: Files,
) -> io::Result<()> {
    let mut listener = Listener::from(listener);
    loop {
        let one = || one_client(owner, function, name, &mut listener, clients, files);
        let Ok(end) = catch_unwind(AssertUnwindSafe(one)) else {
            // A panic of ours ends the client, not the device.
            log::error!("{name}: the server failed; see above");
            gone(owner, function);
            std::thread::sleep(AFTER_FAILURE);
            continue;
        };
        if let Err(e) = end {
            match e {
                DaemonError::CreateBackendListener(ProtocolError::SocketError(e))
                    if !is_shortage(&e) =>
                {
                    return Err(e);
                }
                e => {
                    warn!("{name}: {e}");
                    std::thread::sleep(AFTER_FAILURE);
                }
            }
        }
    }
}

fn one_client(
    owner: &Arc<Owner>,
    function: FunctionId,
    name: &str,
    listener: &mut Listener,
    clients: &Clients,
    files: Files,
) -> Result<(), DaemonError> {
    let door = Door::new(owner.clone(), function, name, clients.clone(), files);
    let door = Arc::new(door);
    // The crate's memory, of which the door takes over what it has checked.
    let shared = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    // The queues are the door's; it is none of theirs.
    let weak = Arc::downgrade(&door);
    let refused = move |why: &io::Error| {
        if let Some(door) = weak.upgrade() {
            door.refuse(why);
        }
    };
    let daemon = || VhostUserDaemon::new(format!("vhost {}", function.0), door.clone(), shared);
    let mut daemon = vring::telling(Arc::new(refused), daemon)?;
    owner.attach(function, door.rings().clone());
    let served = daemon.start(listener).map(|()| {
        if let Some(connection) = daemon.shutdown_handle() {
            door.connected(connection);
        }
        daemon.wait()
    });
    // First no more commands, then the reset: nothing of the old life comes after it.
    door.stop();
    drop(daemon);
    door.close();
    gone(owner, function);
    if let Ok(Err(e)) = &served
        && !is_goodbye(e)
    {
        warn!("{name}: client dropped: {e}");
    }
    if door.spoken() {
        clients.went(function);
    }
    served.map(|_| ())
}

/// Nobody is there for the function any more.
fn gone(owner: &Owner, function: FunctionId) {
    owner.submit(
        Input::Reset {
            function,
            kind: ResetKind::ClientGone,
        },
        &NoMemory,
    );
    owner.detach(function);
}

/// True for the ways in which a client leaves without having broken the protocol.
fn is_goodbye(e: &DaemonError) -> bool {
    matches!(
        e,
        DaemonError::HandleRequest(
            ProtocolError::Disconnected
                | ProtocolError::PartialMessage
                | ProtocolError::SocketBroken(_)
        )
    )
}
