# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# A private apt: its own lists, status and cache, so that it needs no root and never touches the
# machine's packages. Archive signatures are checked as everywhere. Source common.sh first.
# shellcheck shell=bash

APT_DIR=$CACHE/apt
KEYRING=${FWCTL_EMU_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

# The suites that packages come from. Versions are those that the suites hold now.
readonly SUITE=trixie
readonly SUITE_NEW=trixie-backports
readonly SUITE_NEXT=forky

# The archive's mirror: the one this machine uses itself, unless FWCTL_EMU_MIRROR names one.
apt_mirror() {
    if [ -n "${FWCTL_EMU_MIRROR:-}" ]; then
        printf '%s\n' "$FWCTL_EMU_MIRROR"
        return
    fi
    # The security archive has no such suites; its path ends differently.
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        grep -m1 '/debian/*$' ||
        die "no Debian mirror in this machine's apt sources; set FWCTL_EMU_MIRROR=URI"
}

# apt_private TOOL ARGUMENT...: an apt tool with the private configuration.
apt_private() {
    local tool=$1
    shift
    APT_CONFIG=$APT_DIR/apt.conf "$tool" "$@"
}

# apt_configure: writes the configuration. The machine's Acquire settings (proxies, date checks) are
# kept; its hooks are not, because they would act on the machine's own cache.
apt_configure() {
    local mirror suite
    [ -r "$KEYRING" ] || die "no archive keyring at $KEYRING; set FWCTL_EMU_KEYRING=FILE"
    mkdir -p "$APT_DIR"/{lists/partial,archives/partial,parts,none/partial}
    : >"$APT_DIR/status"
    # A newer suite than the default one gives nothing but what is asked for by its name.
    cat >"$APT_DIR/preferences.new" <<PREFERENCES
Package: *
Pin: release n=$SUITE_NEXT
Pin-Priority: 100
PREFERENCES
    apt-config dump | grep '^Acquire::' | grep -v '^Acquire::\(Languages\|GzipIndexes\)' >"$APT_DIR/apt.conf.new"
    cat >>"$APT_DIR/apt.conf.new" <<CONF
Dir::Etc::parts "$APT_DIR/parts";
Dir::Etc::main "/dev/null";
Dir::Etc::sourcelist "$APT_DIR/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "$APT_DIR/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$APT_DIR";
Dir::State::lists "$APT_DIR/lists";
Dir::State::status "$APT_DIR/status";
Dir::Cache "$APT_DIR";
Dir::Cache::archives "$APT_DIR/archives";
Dir::Log "$APT_DIR";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
APT::Default-Release "$SUITE_NEW";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
CONF
    mirror=$(apt_mirror)
    for suite in "$SUITE" "$SUITE_NEW" "$@"; do
        printf 'deb [signed-by=%s] %s %s main\n' "$KEYRING" "$mirror" "$suite"
    done >"$APT_DIR/sources.list.new"
    mv "$APT_DIR/preferences.new" "$APT_DIR/preferences"
    mv "$APT_DIR/apt.conf.new" "$APT_DIR/apt.conf"
    mv "$APT_DIR/sources.list.new" "$APT_DIR/sources.list"
}

# apt_update: brings the lists of the suites.
apt_update() {
    say "reading the package lists"
    apt_private apt-get -q=2 update >&2 ||
        unavailable "cannot read the package lists from $(apt_mirror) (FWCTL_EMU_MIRROR sets another mirror)"
    touch "$APT_DIR/updated"
}

# apt_ready: configured, and with lists that this process read or that an earlier one did not long
# ago: an archive drops old versions, so old lists name files that are gone.
apt_ready() {
    [ -z "${APT_IS_READY:-}" ] || return 0
    local next=()
    [ ! -e "$APT_DIR/wants-$SUITE_NEXT" ] || next=("$SUITE_NEXT")
    apt_configure "${next[@]}"
    if [ -z "$(find "$APT_DIR/updated" -newer "$APT_DIR/sources.list.seen" -mmin -60 2>/dev/null)" ] ||
        ! cmp -s "$APT_DIR/sources.list" "$APT_DIR/sources.list.seen"; then
        cp "$APT_DIR/sources.list" "$APT_DIR/sources.list.seen"
        apt_update
    fi
    APT_IS_READY=1
}

# apt_want_next: adds the suite after the stable one, for packages asked for as name/suite.
apt_want_next() {
    mkdir -p "$APT_DIR"
    touch "$APT_DIR/wants-$SUITE_NEXT"
}

# apt_closure PACKAGE...: the .deb files (names, one a line) that PACKAGE... need on an empty system.
apt_closure() {
    apt_private apt-get -q=2 -o Dir::Cache::archives="$APT_DIR/none" -y --print-uris install "$@" |
        awk '/^\x27/ { print $2 }' | LC_ALL=C sort
}

# apt_single PACKAGE...: the .deb files of PACKAGE... alone.
apt_single() {
    (cd "$APT_DIR/none" && apt_private apt-get -q=2 --print-uris download "$@") |
        awk '/^\x27/ { print $2 }' | LC_ALL=C sort
}

# apt_get closure|single PACKAGE...: brings the .deb files into the archive folder. What is there
# already is checked and kept; a partial file is continued.
apt_get() {
    local how=$1 quiet=-q=2
    shift
    [ ! -t 2 ] || quiet=
    case $how in
    closure) apt_private apt-get $quiet -y --download-only install "$@" >&2 ;;
    single) (cd "$APT_DIR/archives" && apt_private apt-get $quiet download "$@" >&2) ;;
    esac || unavailable "cannot fetch $* (scripts/fetch --update reads newer package lists)"
}
