#!/bin/sh
# Installs the missing programs for the tests from Debian's packages.
# With --check it only prints the missing packages, in one line.
set -eu
missing=

# need PACKAGE FILE...: checks that one of the files (or patterns) or of the named commands exists.
need() {
	package=$1
	shift
	for name; do
		case $name in
		/*) [ -e "$name" ] && return 0 ;;
		*) command -v "$name" >/dev/null && return 0 ;;
		esac
	done
	missing="$missing $package"
}

if [ "${1-}" = --check ]; then
	need node node
elif ! command -v node >/dev/null; then
	echo "make: the tests need Node.js 20 or later: https://nodejs.org" >&2
	exit 1
fi
need chromium chromium chromium-browser google-chrome
need postgresql initdb /usr/lib/postgresql/*/bin/initdb
need pgbouncer pgbouncer /usr/sbin/pgbouncer
need rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
need strace strace
need e2fsprogs mkfs.ext4 /usr/sbin/mkfs.ext4
need prometheus promtool
need python3 python3

[ -n "$missing" ] || exit 0
if [ "${1-}" = --check ]; then
	echo "This machine lacks programs that some tests need:$missing. Run make tools to install them."
	exit 0
fi
echo "make: installing what the tests need:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
# shellcheck disable=SC2086 # a list of words
apt-get install -y -q --no-install-recommends $missing >/dev/null
