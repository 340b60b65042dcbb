#!/usr/bin/env bash
# Two machines and a cable, made of network namespaces (Linux, as root): `two_machines.sh WORDS` runs `torchrun ... WORDS` on both,
# a process each. RATE=1gbit: what the cable carries, each way.
set -euo pipefail
export OMP_NUM_THREADS=1
places=$(mktemp -d)
jobs=()
trap 'set +e; kill "${jobs[@]}" 2>/dev/null; wait; ip netns del first-$$; ip netns del second-$$; rm -r "$places"' EXIT
ip netns add first-$$
ip netns add second-$$
ip link add eth0 netns first-$$ type veth peer name eth0 netns second-$$
number=0
for name in first second; do
    number=$((number + 1))
    ip -n $name-$$ address add 10.0.0.$number/24 dev eth0
    ip -n $name-$$ link set eth0 up
    ip -n $name-$$ link set lo up
    if [ "${RATE-}" ]; then tc -n $name-$$ qdisc add dev eth0 root tbf rate "$RATE" burst 256kb latency 50ms; fi
    # as Debian writes it: a machine's own name is its own loopback, too
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n10.0.0.1 first\n10.0.0.2 second\n' $name > "$places/$name"
done
for name in first second; do
    ip netns exec $name-$$ unshare --uts --mount sh -c 'mount --bind "$0" /etc/hosts && hostname "$1" && shift && exec "$@"' \
        "$places/$name" $name env GLOO_SOCKET_IFNAME=eth0 \
        torchrun --nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-endpoint=first:29500 "$@" &
    jobs+=($!)
done
status=0
for job in "${jobs[@]}"; do wait "$job" || status=$?; done
exit $status
