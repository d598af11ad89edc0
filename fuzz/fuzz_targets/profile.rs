// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#![no_main]

fwctl_fuzz::target!(fw_fuzz::targets::files::profiles);
