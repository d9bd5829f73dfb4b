#!/usr/bin/env bash
# Makes the guestbook's images from Debian's packages: one OCI archive each under the folder given as first argument.
# Needs apt-get, dpkg-deb, umoci and busybox-static; no image registry, no container engine.
set -euo pipefail

out=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What packages depend on to be installed, but their programs do not need to run.
skip='^(perl|libperl|perl-base|perl-modules|libdb5|libgdbm|libnumber-compare|libtext-glob|libfile-find|usrmerge|dpkg|tar|debconf|libpam|passwd|adduser|lsb-base|libsemanage|libsepol|libaudit|libcap-ng|init-system-helpers|sysvinit-utils|iproute2|libbpf|libelf|libmnl|libxtables|libtirpc|libnsl|krb5|libgssapi|libk5|libkrb5|python3-distutils|mailcap|mime-support|install-info)'

# rootfs DIR PACKAGE...: unpacks the packages and all they depend on into DIR, without running any of their scripts.
rootfs() {
    local root=$1 debs
    shift
    debs="$work/debs.$(basename "$root")"
    mkdir -p "$root" "$debs/partial"
    : > "$work/status"
    apt-get -q -o Dir::State::status="$work/status" -o Dir::Cache::archives="$debs" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root -y --no-install-recommends --download-only install "$@" > "$work/apt.log" 2>&1 ||
        { cat "$work/apt.log" >&2; return 1; }
    local deb
    for deb in "$debs"/*.deb; do
        [[ $(basename "$deb") =~ $skip ]] && continue
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink
    done
    rm -rf "$root"/usr/share/{doc,man,locale,lintian,bash-completion,info,bug} "$root"/var/cache "$root"/usr/lib/systemd
    # busybox gives the images a shell and tar, for `kubectl exec` and `kubectl cp`.
    mkdir -p "$root"/{bin,etc,tmp,proc,sys,dev,run,var/run,root}
    chmod 1777 "$root/tmp"
    install -m 0755 "$(command -v busybox)" "$root/bin/busybox"
    local applet
    for applet in sh ls cat echo tar sleep ps env id wget nslookup hostname kill vi head tail grep sed mkdir rm date \
        nc true false test ip ping cp mv chmod touch wc sort find df mount; do
        [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\napp:x:10001:10001:app:/tmp:/bin/sh\n' > "$root/etc/passwd"
    printf 'root:x:0:\napp:x:10001:\n' > "$root/etc/group"
}

# image NAME TAG ROOTFS CONFIG...: packs ROOTFS as an OCI archive; CONFIG goes to `umoci config`.
image() {
    local name=$1 tag=$2 root=$3 layout bundle
    shift 3
    layout="$work/oci.$name" bundle="$work/bundle.$name"
    umoci init --layout "$layout"
    umoci new --image "$layout:$tag"
    umoci unpack --image "$layout:$tag" "$bundle" > "$work/umoci.log" 2>&1
    cp -a "$root"/. "$bundle/rootfs/"
    umoci repack --image "$layout:$tag" "$bundle" >> "$work/umoci.log" 2>&1
    umoci config --image "$layout:$tag" --os linux --config.env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
    umoci gc --layout "$layout" > /dev/null 2>&1 || true
    # The archive carries the image's whole name, so that an import needs no other argument.
    sed -i "s#\"org.opencontainers.image.ref.name\":\"$tag\"#\"org.opencontainers.image.ref.name\":\"$tag\",\"io.containerd.image.name\":\"localhost/guestbook/$name:$tag\"#" \
        "$layout/index.json"
    tar -C "$layout" -cf "$out/$name.tar.partial" .
    mv "$out/$name.tar.partial" "$out/$name.tar"
    rm -rf "$layout" "$bundle" "$root"
    echo "made localhost/guestbook/$name:$tag ($(du -h "$out/$name.tar" | cut -f1))"
}

rootfs "$work/redis" redis-server
image redis v1 "$work/redis" --config.user 10001:10001 --config.workingdir /data \
    --config.entrypoint /usr/bin/redis-server --config.exposedports 6379/tcp

rootfs "$work/web" libpython3.11-stdlib python3.11-minimal
install -m 0755 -D "$here/web/guestbook.py" "$work/web/app/guestbook.py"
image web v1 "$work/web" --config.user 10001:10001 --config.workingdir /app \
    --config.entrypoint /usr/bin/python3.11 --config.cmd /app/guestbook.py --config.exposedports 8080/tcp

rootfs "$work/frontend" nginx-light
rm -rf "$work/frontend"/etc/nginx/{sites-enabled,modules-enabled,conf.d}
image frontend v1 "$work/frontend" --config.user 10001:10001 --config.workingdir / \
    --config.entrypoint /usr/sbin/nginx --config.cmd -e --config.cmd stderr --config.cmd -c \
    --config.cmd /etc/guestbook/nginx.conf --config.exposedports 8080/tcp
