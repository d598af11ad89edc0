// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver without a guest: the whole bring-up over real sockets.
