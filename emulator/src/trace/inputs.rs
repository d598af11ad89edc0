// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Inputs of a card as entries of a trace.

use fw_model::{Input, Time};

use super::Entry;

/// The entry of an input; none for what its answer shows, and for the gateway's words.
#[must_use]
pub fn entry(input: &Input<'_>, now: Time) -> Option<Entry> {
    let at = now.0;
    let note = |function: Option<u8>, text: String| Entry::Note { at, function, text };
    Some(match input {
        Input::SegmentWrite {
            function,
            offset,
            data,
        } => Entry::Segment {
            at,
            function: function.0,
            offset: *offset,
            data: data.to_vec(),
        },
        Input::UarWrite {
            function,
            uar,
            offset,
            data,
        } => Entry::Doorbell {
            at,
            function: function.0,
            page: *uar,
            offset: *offset,
            data: data.to_vec(),
        },
        Input::Reset { function, kind } => note(Some(function.0), format!("reset: {kind:?}")),
        Input::PageDemand { function, .. }
        | Input::Event { function, .. }
        | Input::SetCap { function, .. }
        | Input::SetRegister { function, .. }
        | Input::Link { function, .. } => note(Some(function.0), format!("{input:?}")),
        Input::Fault(f) => note(None, format!("fault: {}", f.text)),
        Input::Delay { .. }
        | Input::ClearFaults(_)
        | Input::Amend { .. }
        | Input::Continue(_)
        | Input::Health(_)
        | Input::Temperature { .. }
        | Input::Hang(_)
        | Input::Start { .. }
        | Input::PowerCycle => note(None, format!("{input:?}")),
        Input::Command { .. } | Input::Gateway { .. } | Input::Committed { .. } => return None,
    })
}
