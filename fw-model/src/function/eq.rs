// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Event queues: rings of 64-byte EQEs in guest memory, their doorbells and their interrupts.

use fwctl_proto::{eqe, event};

use crate::{
    FunctionId,
    effect::{Effect, Effects, Order, Posted},
};

/// Bytes of one EQE.
pub const EQE_BYTES: u32 = eqe::BYTES as u32;
/// Consumer and producer indices count modulo 2^24.
pub const INDEX_MASK: u32 = 0x00ff_ffff;

/// One event to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// `enum mlx5_event`.
    pub event_type: u8,
    /// Its sub-type, 0 for most.
    pub sub_type: u8,
    /// Bytes 32..60 of the EQE.
    pub data: [u8; 28],
}

impl Event {
    /// An event of the firmware tracer.
    #[must_use]
    pub fn tracer(sub_type: u8) -> Self {
        Self {
            event_type: event::DEVICE_TRACER,
            sub_type,
            data: [0; 28],
        }
    }
}

/// What a fault changes of an entry and of the interrupt that tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Telling {
    /// Its owner bit says that it is not there yet.
    pub owner: bool,
    /// It has this type.
    pub event_type: Option<u8>,
    /// No interrupt comes.
    pub silent: bool,
    /// So many interrupts more come.
    pub more: u8,
    /// The interrupt comes so many milliseconds later.
    pub late: Option<u32>,
}

/// An event queue as CREATE_EQ made it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Eq {
    /// User context that made it; 0 for the driver's own.
    pub uid: u16,
    /// Log2 of the number of EQEs.
    pub log_size: u8,
    /// MSI-X vector.
    pub vector: u16,
    /// UAR page whose doorbells move its consumer index.
    pub uar_page: u32,
    /// Which event types it takes, bit n of word n / 64.
    pub mask: [u64; 4],
    /// Guest addresses of its pages.
    pub pages: Vec<u64>,
    /// Log2 of the bytes of one page.
    pub page_shift: u8,
    /// Byte offset of EQE 0 in the first page.
    pub offset: u32,
    /// The context as given, to be queried back.
    pub context: Box<[u8]>,
    /// EQEs written so far, modulo 2^24.
    pub producer: u32,
    /// EQEs that the driver said it has read, modulo 2^24.
    pub consumer: u32,
    /// The driver asked for an interrupt at the next EQE.
    pub armed: bool,
    /// EQEs that were dropped because the ring was full.
    pub dropped: u64,
}

impl Eq {
    /// True if the queue takes events of this type.
    #[must_use]
    pub fn takes(&self, event_type: u8) -> bool {
        let t = usize::from(event_type);
        self.mask[t / 64] >> (t % 64) & 1 == 1
    }

    fn full(&self) -> bool {
        self.producer.wrapping_sub(self.consumer) & INDEX_MASK >= 1 << self.log_size
    }

    /// Guest address of the EQE with producer index `index`, or `None` if the pages end before it
    /// (CREATE_EQ refuses such a queue).
    fn address(&self, index: u32) -> Option<u64> {
        let slot = index & ((1 << self.log_size) - 1);
        let byte = u64::from(self.offset) + u64::from(slot) * u64::from(EQE_BYTES);
        let page = usize::try_from(byte >> self.page_shift).ok()?;
        Some(self.pages.get(page)? + (byte & ((1 << self.page_shift) - 1)))
    }

    /// Writes one EQE, its owner byte last, and raises the interrupt if the queue is armed.
    /// A full ring drops the event and counts it.
    pub fn post(&mut self, function: FunctionId, event: &Event, fx: &mut Effects) {
        if let Some(vector) = self.put(function, event, Telling::default(), fx) {
            fx.push(Effect::Interrupt { function, vector });
        }
    }

    /// Writes one EQE as [`Eq::post`] does; the interrupt is left to the caller, who gets its
    /// vector if the queue is armed.
    pub fn put(
        &mut self,
        function: FunctionId,
        event: &Event,
        telling: Telling,
        fx: &mut Effects,
    ) -> Option<u16> {
        let room = !self.full();
        let addr = self.address(self.producer).filter(|_| room);
        fx.posted(Posted {
            function,
            vector: self.vector,
            lost: addr.is_none(),
            event: *event,
        });
        let Some(addr) = addr else {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        };
        let mut entry = [0u8; eqe::OWNER];
        entry[eqe::TYPE] = telling.event_type.unwrap_or(event.event_type);
        entry[eqe::SUB_TYPE] = event.sub_type;
        entry[eqe::DATA..eqe::DATA + eqe::DATA_BYTES].copy_from_slice(&event.data);
        let owner = (self.producer >> self.log_size & 1) as u8 ^ u8::from(telling.owner);
        fx.write(function, addr, &entry, Order::Relaxed);
        fx.write(function, addr + eqe::OWNER as u64, &[owner], Order::Publish);
        self.producer = self.producer.wrapping_add(1) & INDEX_MASK;
        core::mem::take(&mut self.armed).then_some(self.vector)
    }

    /// A write to the queue's doorbell: the new consumer index, and whether to arm.
    ///
    /// Arming a queue that holds unread EQEs raises the interrupt at once, so that none is lost
    /// between the driver's last look and its doorbell.
    pub fn doorbell(&mut self, function: FunctionId, consumer: u32, arm: bool, fx: &mut Effects) {
        self.consumer = consumer & INDEX_MASK;
        if !arm {
            return;
        }
        if self.producer == self.consumer {
            self.armed = true;
        } else {
            self.armed = false;
            fx.push(Effect::Interrupt {
                function,
                vector: self.vector,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eq(log_size: u8) -> Eq {
        Eq {
            uid: 0,
            log_size,
            vector: 3,
            uar_page: 64,
            mask: [0x400, 0, 0, 0],
            pages: vec![0x1000, 0x8000],
            page_shift: 12,
            offset: 0,
            context: vec![0; 64].into(),
            producer: 0,
            consumer: 0,
            armed: false,
            dropped: 0,
        }
    }

    fn event() -> Event {
        Event {
            event_type: 0xa,
            sub_type: 0,
            data: [7; 28],
        }
    }

    fn writes(fx: &Effects) -> Vec<(u64, Vec<u8>)> {
        fx.iter()
            .filter_map(|e| match e {
                Effect::Write { addr, data, .. } => Some((*addr, fx.bytes(*data).to_vec())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn owner_bit_flips_with_each_round_and_is_written_last() {
        let mut q = eq(1);
        let mut fx = Effects::new();
        for i in 0..4u32 {
            q.post(FunctionId(0), &event(), &mut fx);
            q.doorbell(FunctionId(0), i + 1, false, &mut fx);
        }
        let w = writes(&fx);
        assert_eq!(w.len(), 8);
        assert_eq!((w[0].0, w[0].1[1], w[0].1[32]), (0x1000, 0xa, 7));
        assert_eq!(w[1], (0x103f, vec![0]));
        assert_eq!(w[3], (0x107f, vec![0]));
        assert_eq!(w[5], (0x103f, vec![1]));
        assert_eq!(w[7], (0x107f, vec![1]));
    }

    #[test]
    fn a_full_ring_drops_and_keeps_what_is_unread() {
        let mut q = eq(1);
        let mut fx = Effects::new();
        for _ in 0..3 {
            q.post(FunctionId(0), &event(), &mut fx);
        }
        assert_eq!((q.producer, q.dropped, writes(&fx).len()), (2, 1, 4));
    }

    #[test]
    fn second_page_is_used_after_the_first() {
        let mut q = eq(7);
        q.producer = 64;
        q.consumer = 64;
        let mut fx = Effects::new();
        q.post(FunctionId(0), &event(), &mut fx);
        assert_eq!(writes(&fx)[0].0, 0x8000);
    }

    #[test]
    fn interrupt_only_when_armed_and_at_once_when_behind() {
        let mut q = eq(4);
        let mut fx = Effects::new();
        let irqs = |fx: &Effects| {
            fx.iter()
                .filter(|e| matches!(e, Effect::Interrupt { vector: 3, .. }))
                .count()
        };
        q.post(FunctionId(0), &event(), &mut fx);
        assert_eq!(irqs(&fx), 0);
        q.doorbell(FunctionId(0), 0, true, &mut fx);
        assert_eq!(irqs(&fx), 1, "unread EQE at arming");
        q.doorbell(FunctionId(0), 1, true, &mut fx);
        assert_eq!(irqs(&fx), 1);
        q.post(FunctionId(0), &event(), &mut fx);
        q.post(FunctionId(0), &event(), &mut fx);
        assert_eq!(irqs(&fx), 2, "one interrupt for one arming");
    }
}
