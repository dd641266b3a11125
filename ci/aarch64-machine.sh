#!/bin/bash
# aarch64-machine.sh FOLDER TEST...: runs C tests that check-aarch64.sh has built in FOLDER on an emulated aarch64 machine, under a kernel of its
# own: what qemu's user mode lacks (clone without a signal, robust lists, memory wiped in children) is all there. Says of each whether it passed.
# It needs qemu-system-aarch64, cpio, and Debian's packages of the kernel and of busybox for arm64, which apt-get brings.
set -u
cd "$(dirname "$0")/.." || exit 2
out=$1
shift
machine=$out/machine
missing() { echo "| not tested: C tests on an aarch64 machine: there is no $1"; exit 0; }
command -v qemu-system-aarch64 >/dev/null || missing qemu-system-aarch64
command -v cpio >/dev/null || missing cpio
mkdir -p "$machine/root" && cd "$machine" || exit 2
if ! ls boot/vmlinuz-* busybox >/dev/null 2>&1; then
    kernel=$(apt-cache depends linux-image-cloud-arm64:arm64 2>/dev/null | sed -n 's/.*Depends: \(linux-image[^ ]*\).*/\1/p' | head -n 1)
    [ -n "$kernel" ] && apt-get download "$kernel" busybox-static:arm64 >download.log 2>&1 || missing "kernel for arm64 (dpkg --add-architecture arm64)"
    dpkg-deb -x linux-image-*.deb kernel && dpkg-deb -x busybox-static*.deb tools && mv kernel/boot boot && mv tools/bin/busybox busybox || exit 2
fi

# Everything is where it was built, so that the programs find their library.
rm -rf root
mkdir -p root/bin root/proc root/sys root/dev root/tmp root/lib "root$out/prefix"
cp busybox root/bin
cp -a /usr/aarch64-linux-gnu/lib/*.so* root/lib
cp -a "$out/prefix/lib" "$out/prefix/libexec" "root$out/prefix"
rm -f "root$out/prefix/lib/"*.a
cp "$out"/*.so "root$out"
for name; do cp "$out/$name-shared-c" "root$out"; done
cat >root/init <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TINE_WORKER_PROGRAM=$out/prefix/libexec/tine-worker TINE_TEST_LIBRARY=$out/functions.so TINE_TEST_PLUGINS=$out
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
mkdir -p /dev/shm /dev/pts; mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts
echo "Linux \$(uname -r) on \$(uname -m)"
for name in $*; do
    if timeout 300 $out/\$name-shared-c >/tmp/log 2>&1 </dev/null; then echo "ok    \$name"; else echo "FAIL  \$name: status \$?, \$(tail -n 3 /tmp/log)"; fi
done
poweroff -f
INIT
chmod +x root/init
(cd root && find . | cpio -o -H newc 2>/dev/null | gzip -1) >initrd.gz
timeout -k 5 1800 qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 3072 -nic none -nographic -no-reboot -kernel boot/vmlinuz-* -initrd initrd.gz \
    -append 'console=ttyAMA0 quiet panic=-1' >log 2>&1 </dev/null
tr -d '\r' <log | grep -E '^(Linux|ok   |FAIL )'
ok=$(tr -d '\r' <log | grep -c '^ok   ')
echo "$ok passed, $(($# - ok)) failed"
[ "$ok" = $# ]
