#!/bin/sh
# Packs an SDK into images/sdk.tar: the C toolchain of this host, with all that its packages need. Your SDK comes from
# elsewhere; this one is at hand on every Debian machine, without a network. Needs gcc, libc6-dev, make, strace, tar.
set -eu
cd "$(dirname "$0")"
for program in gcc make strace; do
    command -v "$program" >/dev/null || { echo "no $program: apt-get install -y gcc libc6-dev make strace" >&2; exit 1; }
done
mkdir -p images
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# The packages that these need, to the last one.
packages=$(apt-cache depends --recurse --installed --important --no-breaks --no-conflicts --no-replaces --no-suggests \
    --no-recommends --no-enhances gcc libc6-dev make strace tar dash coreutils sed grep libc-bin |
    grep '^[a-z0-9]' | sed 's/:.*//' | sort -u)

# On today's Debian /bin, /sbin and /lib are links into /usr: there everything goes by its place there.
for directory in bin sbin lib lib64; do
    mkdir -p "$root/usr/$directory"
    ln -s "usr/$directory" "$root/$directory"
done
for package in $packages; do
    dpkg -L "$package" 2>/dev/null || true
done | sort -u | grep -v -e '^/usr/share/doc/' -e '^/usr/share/man/' -e '^/usr/share/locale/' -e '^/usr/share/info/' |
    while read -r path; do
        if [ -h "$path" ] || [ -f "$path" ]; then echo "$path"; fi
    done | sed -E 's#^/(bin|sbin|lib|lib64)/#/usr/\1/#' | sort -u |
    tar -C / -cf - --no-recursion --ignore-failed-read -T - 2>/dev/null | tar -C "$root" -xpf -
ln -sf dash "$root/usr/bin/sh"
mkdir -p "$root/tmp" "$root/var/tmp" "$root/proc" "$root/sys" "$root/dev" "$root/root"
tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf images/sdk.tar.part .
mv images/sdk.tar.part images/sdk.tar
