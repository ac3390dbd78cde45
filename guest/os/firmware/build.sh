#!/bin/sh
# Builds the TDX firmware; runs inside the build root, where every path is the same on every machine.
set -eu
cd /build
mkdir edk2
tar -xf orig.tar.xz -C edk2 --strip-components=1
tar -xf debian.tar.xz -C edk2
cd edk2
grep -v '^#' debian/patches/series | while read -r patch _; do
  [ -z "$patch" ] || patch -p1 -s <"debian/patches/$patch"
done
export PYTHON_COMMAND=python3 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
make -s -C BaseTools -j "$(nproc)" >/build/log 2>&1 || { tail -n 40 /build/log >&2; exit 1; }
set +u
. ./edksetup.sh >/dev/null
build -q -p OvmfPkg/IntelTdx/IntelTdxX64.dsc -a X64 -t GCC5 -b RELEASE -n "$(nproc)" >>/build/log 2>&1 ||
  { tail -n 40 /build/log >&2; exit 1; }
cp Build/IntelTdx/RELEASE_GCC5/FV/OVMF.fd /build/ovmf.fd
