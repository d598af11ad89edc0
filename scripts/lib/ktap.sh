# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Reads KTAP reports (Documentation/dev-tools/ktap.rst in the kernel's source).
# shellcheck shell=bash

# ktap_totals FILE: prints `passed failed skipped missing` over all top-level reports in a file.
# Missing are results that a plan promised; a report without plan or a file without report makes
# one missing result.
ktap_totals() {
    awk '
        function close_report() {
            if (open) missing += planned < 0 ? 1 : (planned > seen ? planned - seen : 0)
        }
        /^KTAP version / { close_report(); open = 1; reports++; planned = -1; seen = 0; next }
        open && /^1\.\.[0-9]+/ { planned = substr($1, 4) + 0; next }
        open && /^Bail out!/ { failed++; next }
        open && /^ok [0-9]+/ { seen++; if (/# *SKIP/) skipped++; else passed++; next }
        open && /^not ok [0-9]+/ { seen++; failed++; next }
        END {
            close_report()
            if (!reports) missing++
            print passed + 0, failed + 0, skipped + 0, missing + 0
        }' "$1"
}

# ktap_verdict FILE: in one line on standard error; fails if a result is bad or is not there.
ktap_verdict() {
    local passed failed skipped missing
    read -r passed failed skipped missing < <(ktap_totals "$1")
    if [ "$missing" -gt 0 ] && ! grep -q '^KTAP version' "$1"; then
        say "no KTAP report"
        return 1
    fi
    [ "$missing" -eq 0 ] || say "$missing results of the KTAP plan are missing"
    say "$passed passed, $failed failed, $skipped skipped"
    [ $((failed + missing)) -eq 0 ]
}
