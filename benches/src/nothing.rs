// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vhost-user backend on the emulator's crates that does nothing: takes each chain and gives it
//! back. What our service adds is measured against it.

use std::{io, path::Path, sync::Arc, sync::Mutex};

use anyhow::Context as _;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringMutex, VringT as _};
use virtio_queue::QueueOwnedT as _;
use vm_memory::{GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

/// Argument of this role.
pub const ROLE: &str = "peer-nothing";

/// `VIRTIO_F_VERSION_1`, `VIRTIO_F_INDIRECT_DESC`, `VIRTIO_F_EVENT_IDX`,
/// `VHOST_USER_F_PROTOCOL_FEATURES`: what the emulator offers.
const FEATURES: u64 = 1 << 32 | 1 << 28 | 1 << 29 | 1 << 30;
/// As the emulator.
const MAX_QUEUE_SIZE: usize = 1024;
/// As the emulator: chains per round.
const MAX_ROUND: usize = 256;

struct Nothing {
    mem: GuestMemoryAtomic<GuestMemoryMmap>,
    heads: Mutex<Vec<u16>>,
}

impl VhostUserBackend for Nothing {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        2
    }

    fn max_queue_size(&self) -> usize {
        MAX_QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
    }

    fn set_event_idx(&self, _enabled: bool) {}

    fn update_memory(&self, _mem: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        Ok(())
    }

    fn handle_event(
        &self,
        event: u16,
        _set: EventSet,
        vrings: &[VringMutex],
        _thread: usize,
    ) -> io::Result<()> {
        if event == 0 && self.give_back(&vrings[0]).is_none() {
            eprintln!("do-nothing backend: the ring failed");
        }
        Ok(())
    }
}

impl Nothing {
    fn give_back(&self, vring: &VringMutex) -> Option<()> {
        let mut heads = self.heads.lock().ok()?;
        loop {
            vring.disable_notification().ok()?;
            heads.clear();
            {
                let mut state = vring.get_mut();
                let mem = self.mem.memory();
                heads.extend(
                    state
                        .get_queue_mut()
                        .iter(mem)
                        .ok()?
                        .take(MAX_ROUND)
                        .map(|c| c.head_index()),
                );
            }
            for head in heads.iter() {
                vring.add_used(*head, 0).ok()?;
            }
            if !heads.is_empty() && vring.needs_notification().ok()? {
                vring.signal_used_queue().ok()?;
            }
            if !vring.enable_notification().ok()? {
                return Some(());
            }
        }
    }
}

/// Listens at `path` and serves one client.
///
/// # Errors
/// The socket cannot be bound, or the client broke the protocol.
pub fn serve(path: &Path) -> anyhow::Result<()> {
    let mem = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let backend = Arc::new(Nothing {
        mem: mem.clone(),
        heads: Mutex::new(Vec::with_capacity(MAX_ROUND)),
    });
    let mut daemon =
        VhostUserDaemon::new("nothing".into(), backend, mem).map_err(|e| anyhow::anyhow!("{e}"))?;
    daemon
        .serve(path)
        .map_err(|e| anyhow::anyhow!("{e}"))
        .with_context(|| format!("serve {}", path.display()))
}
