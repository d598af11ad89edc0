// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The emulator process: transports, timers, control socket and command line.
