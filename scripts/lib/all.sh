# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# All libraries, each after those that it builds on. Meant to be sourced.
# shellcheck shell=bash disable=SC2034
_lib=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=common.sh
source "$_lib/common.sh"
# shellcheck source=apt.sh
source "$_lib/apt.sh"
# shellcheck source=roots.sh
source "$_lib/roots.sh"
# shellcheck source=sandbox.sh
source "$_lib/sandbox.sh"
# shellcheck source=modules.sh
source "$_lib/modules.sh"
# shellcheck source=kasan.sh
source "$_lib/kasan.sh"
# shellcheck source=kernel.sh
source "$_lib/kernel.sh"
# shellcheck source=initramfs.sh
source "$_lib/initramfs.sh"
# shellcheck source=session.sh
source "$_lib/session.sh"
# shellcheck source=emulator.sh
source "$_lib/emulator.sh"
# shellcheck source=guest.sh
source "$_lib/guest.sh"
# shellcheck source=accel.sh
source "$_lib/accel.sh"
# shellcheck source=ktap.sh
source "$_lib/ktap.sh"
# shellcheck source=prepare.sh
source "$_lib/prepare.sh"
