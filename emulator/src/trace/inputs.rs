// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Inputs of a card as entries of a trace.

use fw_model::{Input, Time};

use super::Entry;

/// The entry of an input; none for what is told when it has happened: commands, the gateway's words,
/// resets.
#[must_use]
pub fn entry<'a>(input: &Input<'a>, now: Time) -> Option<Entry<'a>> {
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
            data: (*data).into(),
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
            data: (*data).into(),
        },
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
        | Input::FirmwareReset
        | Input::PowerCycle => note(None, format!("{input:?}")),
        Input::Command { .. }
        | Input::Gateway { .. }
        | Input::Reset { .. }
        | Input::Committed { .. } => return None,
    })
}
