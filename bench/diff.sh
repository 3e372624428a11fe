#!/usr/bin/env bash
# Compares the Go benchmarks of two commits: builds the test binaries of both, runs them
# in turn (so that changes of the machine's speed affect both), and prints the output of benchstat.
#
#   bench/diff.sh BASE [HEAD]        HEAD is the working tree unless named
#
#   BENCH   which benchmarks (default: all)          COUNT   runs of each (default: 6)
#   PKGS    which packages (default: all with benchmarks)
set -euo pipefail
base=${1:?usage: bench/diff.sh BASE [HEAD]} head=${2:-}
cd "$(git rev-parse --show-toplevel)"
out=$(mktemp -d)
trap 'for side in old new; do [ -e "$out/$side/.git" ] && git worktree remove --force "$out/$side"; done; rm -rf "$out"' EXIT

git worktree add --quiet --detach "$out/old" "$base"
tree=$PWD
if [ -n "$head" ]; then
  git worktree add --quiet --detach "$out/new" "$head"
  tree=$out/new
fi
pkgs=${PKGS:-$(cd "$tree" && grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u)}

for pkg in $pkgs; do
  [ -d "$out/old/$pkg" ] || continue
  name=${pkg//[\/.]/_}
  (cd "$out/old" && go test -c -o "$out/$name.old" "$pkg")
  (cd "$tree" && go test -c -o "$out/$name.new" "$pkg")
done
for round in $(seq "${COUNT:-6}"); do
  echo "round $round of ${COUNT:-6}" >&2
  for pkg in $pkgs; do
    name=${pkg//[\/.]/_}
    [ -e "$out/$name.old" ] || continue
    (cd "$out/old/$pkg" && "$out/$name.old" -test.run '^$' -test.bench "${BENCH:-.}" -test.benchmem -test.benchtime "${TIME:-0.3s}" >>"$out/old.txt")
    (cd "$tree/$pkg" && "$out/$name.new" -test.run '^$' -test.bench "${BENCH:-.}" -test.benchmem -test.benchtime "${TIME:-0.3s}" >>"$out/new.txt")
  done
done
go run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da "old=$out/old.txt" "new=$out/new.txt"
