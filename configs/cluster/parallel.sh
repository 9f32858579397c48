#!/bin/bash
# A workflow over several machines with GNU parallel and ssh, or as several processes on this one. The folder has to be
# the same on all of them (a shared file system), and corvid on their PATH.
#
#   configs/cluster/parallel.sh PARTS HOSTS WORKFLOW.yaml [FLAGS OF corvid batch…]
#
# PARTS is a number; HOSTS a list such as node1,node2, or : for this machine. A part that was ended by a signal is begun
# again where it was, at most five times. At the end the parts' results are gathered.
set -u
if [ $# -lt 3 ]; then
  echo "usage: $0 PARTS HOSTS WORKFLOW.yaml [FLAGS...]" >&2
  exit 2
fi
parts=$1 hosts=$2
shift 2
# shellcheck disable=SC2016  # expanded by the bash that gets it
part='for try in 1 2 3 4 5; do corvid batch "$@" --shard "$part"; status=$?; [ $status -ge 75 ] || break; done; exit $status'
jobs=1
[ "$hosts" != : ] || jobs=$parts  # all at once on this machine, one on each of several
seq "$parts" | parallel --sshlogin "$hosts" --jobs "$jobs" --workdir "$PWD" --quote \
  bash -c "part=\$1; shift; $part" corvid "{}/$parts" "$@"
corvid batch "$@"
