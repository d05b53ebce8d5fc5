# What is in packages, read with other tools than made them.
# shellcheck shell=bash disable=SC2154

test_reproducible() {
    about="the same bytes twice"
    (
        umask 077
        TZ=Asia/Tokyo LC_ALL=C.UTF-8 scripts/package --program "$program" --target "$target" \
            --out "$work/again" >/dev/null
    )
    diff <(cd "$dist" && sha256sum ./*) <(cd "$work/again" && sha256sum ./*) >&2 || flunk "they differ"
    pass
    rm -rf "$work/again"
    (cd "$dist" && sha256sum --quiet --strict -c SHA256SUMS) || flunk "SHA256SUMS"
    is "files without a checksum" "$(cd "$dist" && find . -type f -printf '%P\n' | sort | tr '\n' ' ')" \
        "SHA256SUMS $(cut -d ' ' -f 3 "$dist/SHA256SUMS" | sort | tr '\n' ' ')"
}

test_deb() {
    local deb
    deb=$(echo "$dist"/*.deb)
    about=${deb##*/}
    dpkg-deb --info "$deb" >"$work/said" || flunk info
    has "$work/said" "Package: tiroir"
    has "$work/said" "Version: $version-1"
    dpkg-deb --contents "$deb" >"$work/said"
    is "files of others than root" "$(grep -cv ' root/root ' "$work/said" || true)" 0
    is "files that others may write" "$(grep -cE '^.{8}w' "$work/said" || true)" 0
    has "$work/said" "./usr/lib/systemd/system/tiroir-backup@.service"
    is "the mode of the folder with secrets" "$(awk '$6 == "./etc/tiroir/" { print $1 }' "$work/said")" drwx------
    local root=$work/debroot
    busybox_root "$root"
    add_libraries "$root" "$program"
    mkdir -p "$root"/var/lib/dpkg/{info,updates}
    : >"$root/var/lib/dpkg/status"
    dpkg --root="$root" --force-not-root --force-bad-path -i "$deb" >"$work/said" 2>&1 || flunk install "$work/said"
    is version "$(chroot "$root" /usr/bin/tiroir version)" "$("$program" version)"
    dpkg --root="$root" --verify tiroir >"$work/said" || flunk verify
    is "what is not as it was" "$(cat "$work/said")" ""
    is "how the job ends that is not there" "$(status_of chroot "$root" /bin/sh /usr/bin/tiroir-job none)" 64
    echo kept >"$root/etc/tiroir/passphrase"
    dpkg --root="$root" --force-not-root --force-bad-path -P tiroir >"$work/said" 2>&1 || flunk purge "$work/said"
    there "$root/etc/tiroir/passphrase"
    [[ ! -e $root/usr/bin/tiroir ]] || flunk "the program stays"
}

# unpack_ipk FILE ROOT: with busybox, as opkg does it.
unpack_ipk() {
    local parts=$work/ipk
    rm -rf "$parts"
    mkdir -p "$parts" "$2"
    busybox gunzip -c "$1" | busybox tar -x -C "$parts" -f - || flunk "the archive"
    is "its members" "$(busybox gunzip -c "$1" | busybox tar -t -f - | tr '\n' ' ')" \
        "./debian-binary ./data.tar.gz ./control.tar.gz "
    is "its format" "$(cat "$parts/debian-binary")" 2.0
    mkdir "$parts/control"
    busybox tar -x -z -C "$parts/control" -f "$parts/control.tar.gz" || flunk control
    busybox tar -x -z -C "$2" -f "$parts/data.tar.gz" || flunk data
    tar -tvzf "$parts/data.tar.gz" >"$work/said"
    is "files of others than root" "$(grep -cv ' 0/0 ' "$work/said" || true)" 0
    has "$parts/control/control" "Package: tiroir"
    has "$parts/control/control" "Version: $version-r1"
}

test_ipk() {
    local ipk
    ipk=$(echo "$dist"/*openwrt*.ipk)
    about=${ipk##*/}
    unpack_ipk "$ipk" "$1"
    has "$work/ipk/control/control" "Architecture: $(basename "${ipk##*openwrt_}" .ipk)"
    is conffiles "$(cat "$work/ipk/control/conffiles")" /etc/config/tiroir
    is "its init script" "$(stat -c %a "$1/etc/init.d/tiroir")" 755
    is "its configuration" "$(stat -c %a "$1/etc/config/tiroir")" 600
    ipk=$(echo "$dist"/*entware*.ipk)
    about=${ipk##*/}
    unpack_ipk "$ipk" "$work/entroot"
    has "$work/ipk/control/control" "Architecture: $(basename "${ipk##*entware_}" .ipk)"
    is "what is not below /opt" "$(cd "$work/entroot" && find . -type f -not -path './opt/*')" ""
    there "$work/entroot/opt/bin/tiroir-job"
}

test_apk() {
    about="apk: what apk-tools itself makes of the same files"
    # The digest is of the package, inflated, that `apk mkpkg` of apk-tools 3.0.5
    # made of this folder, with the same options.
    local tree=$work/apk
    mkdir -p "$tree/etc/config" "$tree/usr/bin"
    chmod -R 755 "$tree"
    seq 20000 >"$tree/usr/bin/tiroir"
    echo hi >"$tree/etc/config/tiroir"
    : >"$tree/etc/empty"
    chmod 755 "$tree/usr/bin/tiroir"
    chmod 600 "$tree/etc/config/tiroir"
    chmod 644 "$tree/etc/empty"
    printf '#!/bin/sh\nexit 0\n' >"$work/script"
    SOURCE_DATE_EPOCH=1700000000 scripts/package-apk --root "$tree" --output "$work/try.apk" \
        --info name:tiroir --info version:0.1.0-r1 --info arch:x86_64 --info description:Backup \
        --info "license:MIT OR Apache-2.0" --info origin:tiroir --info maintainer:nobody \
        --script post-install:"$work/script" --script pre-deinstall:"$work/script" || flunk "package-apk"
    is "its head" "$(head -c 4 "$work/try.apk")" ADBd
    is "its digest" "$(inflate "$work/try.apk" | sha256sum | cut -d ' ' -f 1)" 3a4834c240a2c5d2da5caf2d5c25f87251c51933611cfde7d4e121b843d0e3fb
    ln -s empty "$tree/etc/link"
    is "the status for a link" "$(status_of scripts/package-apk --root "$tree" --output "$work/try.apk" \
        --info name:tiroir --info version:0.1.0-r1 --info arch:x86_64)" 1
    local apk
    apk=$(echo "$dist"/*.apk)
    about=${apk##*/}
    inflate "$apk" >"$work/adb"
    is "its head" "$(head -c 8 "$work/adb")" ADB.pckg
    python3 -c 'import sys
sys.exit(open(sys.argv[1], "rb").read() not in open(sys.argv[2], "rb").read())' "$program" "$work/adb" ||
        flunk "the program is not in it"
    pass
    if command -v apk >/dev/null; then
        apk verify --allow-untrusted "$apk" || flunk "apk verify"
    fi
}

inflate() {
    python3 -c 'import sys, zlib
sys.stdout.buffer.write(zlib.decompress(open(sys.argv[1], "rb").read()[4:], -15))' "$1"
}

test_image() {
    local image folder=$work/image
    image=$(echo "$dist"/*image*.tar)
    about=${image##*/}
    mkdir "$folder"
    tar -xf "$image" -C "$folder" || flunk "the archive"
    python3 - "$folder" >"$work/said" 2>&1 <<'PYTHON' || flunk "manifest" "$work/said"
import hashlib, json, os, sys
folder = sys.argv[1]
def digest(name):
    return hashlib.sha256(open(os.path.join(folder, name), "rb").read()).hexdigest()
[image] = json.load(open(os.path.join(folder, "manifest.json")))
config = json.load(open(os.path.join(folder, image["Config"])))
assert image["Config"] == digest(image["Config"]) + ".json", image
assert config["rootfs"]["diff_ids"] == ["sha256:" + digest(layer) for layer in image["Layers"]]
assert config["os"] == "linux" and config["config"]["Entrypoint"] == ["/usr/bin/tiroir"]
PYTHON
    pass
    mkdir "$folder/root"
    tar -xf "$folder"/*/layer.tar -C "$folder/root"
    # Nothing is there to help it, unless it is a dynamic one, for tests only.
    add_libraries "$folder/root" "$program"
    is version "$(chroot "$folder/root" /usr/bin/tiroir version)" "$("$program" version)"
    if command -v skopeo >/dev/null; then
        skopeo inspect "docker-archive:$image" >"$work/said" 2>&1 || flunk skopeo "$work/said"
        pass
    fi
}

test_archive() {
    local archive name
    archive=$(echo "$dist"/*.tar.gz)
    name=${archive##*/}
    about=$name
    name=${name%.tar.gz}
    tar -xzf "$archive" -C "$work"
    cmp "$work/$name/tiroir" "$program" || flunk "the program"
    local file
    for file in tiroir-job example.conf man/tiroir.1 LICENSE-MIT firmware-notes/README.md \
        packaging/synology/task.sh packaging/systemd/tiroir-backup@.timer; do
        there "$work/$name/$file"
    done
}

test_signature() {
    about="signature"
    local signify
    signify=$(command -v signify-openbsd || command -v signify) || flunk "signify is missing"
    "$signify" -G -n -p "$work/a.pub" -s "$work/a.sec"
    "$signify" -G -n -p "$work/b.pub" -s "$work/b.sec"
    scripts/release-sign "$work/a.sec" "$work/a.pub" "$dist" >"$work/said" 2>&1 || flunk sign "$work/said"
    is "another key" "$(status_of scripts/release-sign "$work/a.sec" "$work/b.pub" "$dist")" 1
    scripts/release-sign "$work/a.sec" "$work/a.pub" "$dist" >/dev/null 2>&1 || flunk sign
    echo more >"$dist/tiroir-more"
    is "a file that is not listed" "$(status_of scripts/release-sign "$work/a.sec" "$work/a.pub" "$dist")" 1
    rm "$dist/tiroir-more"
    sed -i '1s/^./x/' "$dist/SHA256SUMS"
    is "a wrong sum" "$(status_of scripts/release-sign "$work/a.sec" "$work/a.pub" "$dist")" 1
    is "a signature of other sums" "$(status_of "$signify" -V -q -p "$work/a.pub" -m "$dist/SHA256SUMS" \
        -x "$dist/SHA256SUMS.sig")" 1
}

# status_of COMMAND...: its status, whatever it says.
status_of() {
    local status=0
    "$@" >/dev/null 2>&1 || status=$?
    echo "$status"
}
