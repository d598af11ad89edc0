#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# What OSS-Fuzz and ClusterFuzzLite run in their container: all targets with their seeds and dictionaries
# go to $OUT. Without $SRC it runs outside of a container, for the project it lies in.
set -eu
: "${OUT:?the folder for the targets}"
if [ -n "${SRC:-}" ]; then
    cd "$SRC/fwctl-emu"
else
    cd "$(dirname "$0")/.."
fi
# The container's flags would instrument all crates; fuzz/Cargo.toml says which ones are.
unset RUSTFLAGS
FWCTL_FUZZ_TOOLCHAIN=${RUSTUP_TOOLCHAIN:-nightly} scripts/fuzz --build "$OUT"
