#!/bin/sh
# deb.sh: a Debian package in dist/, made on the release it is for.
#
#   make deb            or: packaging/deb.sh
#
# Needs dpkg-dev, python3-venv, binutils and, only now and not where it is installed, a package index
# for the dependencies at the versions of constraints.txt. The package holds a virtual environment
# at /opt/sttd over the release's own python3, so it depends on that minor version of Python.
#
#   PYTHON3=/usr/bin/python3        the interpreter of the release
#   EXTRAS=azure,metrics,pocketsphinx   what goes in beside the daemon
#   REVISION=1                      of the package, for another build of the same version
#   COMPRESS=xz                     or zstd (much faster), gzip, none; see dpkg-deb(1)
#   DIST=dist                       where it goes
#   DEBFULLNAME, DEBEMAIL           who answers for the package
#   SOURCE_DATE_EPOCH=...           the time of every file; else that of the last commit
set -eu
umask 022
export LC_ALL=C.UTF-8

root=$(cd "$(dirname "$0")/.." && pwd)
here=$root/packaging/debian
dist=${DIST:-$root/dist}
: "${PYTHON3:=/usr/bin/python3}" "${EXTRAS:=azure,metrics,pocketsphinx}" "${REVISION:=1}" "${COMPRESS:=xz}"
for tool in dpkg-deb dpkg-shlibdeps objdump gzip "$PYTHON3"; do
    command -v "$tool" >/dev/null || { echo "deb.sh: $tool is missing; see the top of $0" >&2; exit 1; }
done
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)
fi
export SOURCE_DATE_EPOCH
maintainer="${DEBFULLNAME:-The sttd authors} <${DEBEMAIL:-sttd@$(hostname -f 2>/dev/null || hostname)}>"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
stage=$work/stage
venv=$stage/opt/sttd

# -- what it is --------------------------------------------------------------------------------
arch=$(dpkg --print-architecture)
# shellcheck disable=SC1091
release=$(. /etc/os-release && echo "${ID:-linux}${VERSION_ID:-}" | sed 's/^debian/deb/')
minor=$("$PYTHON3" -c 'import sys; print(sys.version_info.minor)')
if [ "$minor" -lt 11 ] || [ "$minor" -gt 13 ]; then
    echo "deb.sh: $PYTHON3 is Python 3.$minor; sttd runs on 3.11 to 3.13" >&2
    exit 1
fi

# -- the program -------------------------------------------------------------------------------
pip() { "$work/tools/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
"$PYTHON3" -m venv "$work/tools"
pip install -c "$root/constraints.txt" build
# by way of the sdist: nothing stale from a build/ in the tree gets in
(cd "$root" && "$work/tools/bin/python" -m build -o "$work/wheel" . >"$work/build.log" 2>&1) ||
    { cat "$work/build.log" >&2; exit 1; }
wheel=$(echo "$work"/wheel/*.whl)

mkdir -p "$stage/opt"
"$PYTHON3" -m venv --without-pip --symlinks "$venv"
# Not compiled here: files of the release's Python are made when it is installed (py3compile).
"$work/tools/bin/python" -m pip --quiet --python "$venv/bin/python3" --disable-pip-version-check \
    install --no-compile --only-binary :all: -c "$root/constraints.txt" "${wheel}[$EXTRAS]"
version=$("$venv/bin/python3" -c 'import sttd; print(sttd.__version__)' |
    sed -E 's/\.?(a|b|rc|dev)([0-9]+)/~\1\2/')-$REVISION~$release

# Made here, used there: nothing may remember the folder it was made in.
find "$venv/bin" -mindepth 1 ! -name 'python*' ! -name sttd ! -name sttctl -delete
sed -i '1s|^#!.*|#!/opt/sttd/bin/python3|' "$venv/bin/sttd" "$venv/bin/sttctl"
sed -i '/^command = /d' "$venv/pyvenv.cfg"
find "$venv" -name direct_url.json -delete
find "$venv" -name __pycache__ -prune -exec rm -rf {} +
# Of no use here: tests, and tools of SQLite's.
rm -rf "$venv"/lib/python3.*/site-packages/*/tests \
    "$venv"/lib/python3.*/site-packages/apsw/sqlite_extra_binaries
rm -rf "$venv/share" "$venv/include" "${venv:?}/lib64"
find "$venv" -type f -name '*.so*' -exec chmod 644 {} +
if grep -rlF "$work" "$stage" >&2; then
    echo "deb.sh: the files above remember $work" >&2
    exit 1
fi

# -- what goes with it -------------------------------------------------------------------------
put() { # MODE FILE TARGET
    install -D -m "$1" "$2" "$stage$3"
}
mkdir -p "$stage/usr/bin" "$stage/etc/sttd/conf.d"
ln -s /opt/sttd/bin/sttd /opt/sttd/bin/sttctl "$stage/usr/bin/"
put 644 "$root/etc/sttd.toml" /etc/sttd/sttd.toml
put 644 "$root/systemd/sttd.service" /usr/lib/systemd/system/sttd.service
put 644 "$root/systemd/sttd.sysusers" /usr/lib/sysusers.d/sttd.conf
put 644 "$root/systemd/sttd.tmpfiles" /usr/lib/tmpfiles.d/sttd.conf
for file in "$root"/systemd/sttd.service.d/*.conf; do # for who wants them
    put 644 "$file" "/usr/share/sttd/sttd.service.d/${file##*/}"
done
for file in "$root"/etc/*; do # what is there beside the configuration: schema, dashboards, rules
    case $file in
    */sttd.toml) ;;
    *.example) put 644 "$file" "/usr/share/doc/sttd/examples/${file##*/}" ;;
    *) cp -r "$file" "$stage/usr/share/sttd/" ;;
    esac
done
rm -f "$stage"/usr/share/sttd/*/*.test.*
# where the first line of sttd.toml points editors to
ln -s /usr/share/sttd/sttd.schema.json "$stage/etc/sttd/sttd.schema.json"
for page in "$root"/man/*.[158]; do
    put 644 "$page" "/usr/share/man/man${page##*.}/${page##*/}"
    gzip -9n "$stage/usr/share/man/man${page##*.}/${page##*/}"
done
completion() { # SHELL TARGET
    mkdir -p "$stage${2%/*}"
    "$venv/bin/python3" -B -m sttd.ctl completion "$1" >"$stage$2"
}
completion bash /usr/share/bash-completion/completions/sttctl
completion zsh /usr/share/zsh/vendor-completions/_sttctl
completion fish /usr/share/fish/vendor_completions.d/sttctl.fish

doc=/usr/share/doc/sttd
put 644 "$here/copyright" $doc/copyright
put 644 "$root/CHANGELOG.md" $doc/changelog
mkdir -p "$stage$doc/docs"
cp "$root"/docs/*.md "$stage$doc/docs/"
put 644 "$root/README.md" $doc/README.md
printf 'sttd (%s) unstable; urgency=medium\n\n  * Built from the sources; see changelog.gz.\n\n -- %s  %s\n' \
    "$version" "$maintainer" \
    "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$stage$doc/changelog.Debian"
gzip -9n "$stage$doc/changelog" "$stage$doc/changelog.Debian"
put 644 "$here/lintian-overrides" /usr/share/lintian/overrides/sttd

# -- what it needs -----------------------------------------------------------------------------
# Libraries in the environment find one another; these are the ones of the system. The Speech SDK's
# extensions for microphones and compressed audio are not used: decoders hand it PCM. It loads
# OpenSSL by name, which python3 depends on in any case.
mkdir -p "$work/debian"
echo 'Source: sttd' >"$work/debian/control"
libraries() {
    find "$venv/lib" -name '*.so*' ! -name '*.extension.audio.sys.so' ! -name '*.extension.codec.so' \
        "$@"
}
libdirs=$(libraries -printf '-l%h\n' | sort -u)
# shellcheck disable=SC2046,SC2086  # no path here has a space in it
(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info --warnings=0 $libdirs \
    $(libraries -printf '-e%p ')) >"$work/shlibs" 2>"$work/shlibs.log" ||
    { cat "$work/shlibs.log" >&2; exit 1; }
depends=$(sed -n 's/^shlibs:Depends=//p' "$work/shlibs")

mkdir -p "$stage/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SHLIBS@/$depends/" \
    -e "s/@PYTHON@/3.$minor/" -e "s/@NEXT@/3.$((minor + 1))/" \
    -e "s/@MAINTAINER@/$maintainer/" \
    -e "s/@SIZE@/$(du -k -s --apparent-size "$stage" | cut -f1)/" \
    "$here/control.in" >"$stage/DEBIAN/control"
echo /etc/sttd/sttd.toml >"$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 755 "$here/$script" "$stage/DEBIAN/$script"
done
find "$stage" -type d -exec chmod 755 {} +
(cd "$stage" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs -d '\n' md5sum) \
    >"$stage/DEBIAN/md5sums"
find "$stage" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$dist"
dpkg-deb --root-owner-group -Z"$COMPRESS" --build "$stage" "$dist/sttd_${version}_$arch.deb"
