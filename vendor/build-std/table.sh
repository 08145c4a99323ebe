# Sourced with $1 = architecture: one row per architecture we can compile std for. Sets, for the rest of the scripts,
#   deb   Debian's name           gnu   triple of the GNU compiler that does the work (package gcc, or gcc-<gnu>)
#   musl  musl's directory name   rust  Rust's target       cflags  extra flags for C       kernel  its name in the kernel
#   qemu  runs its programs here
case $1 in
#        deb         gnu                     musl                    rust                                cflags
x86_64)  deb=amd64   gnu=x86_64-linux-gnu    musl=x86_64-linux-musl  rust=x86_64-unknown-linux-musl      cflags= kernel=x86 qemu= ;;
aarch64) deb=arm64   gnu=aarch64-linux-gnu   musl=aarch64-linux-musl rust=aarch64-unknown-linux-musl     cflags=-mno-outline-atomics kernel=arm64 qemu=qemu-aarch64-static ;;
# VFP without NEON: the second half of its registers is missing on some boards.
armv7)   deb=armhf   gnu=arm-linux-gnueabihf musl=arm-linux-musleabihf rust=armv7-unknown-linux-musleabihf cflags=-march=armv7-a+fp kernel=arm qemu=qemu-arm-static ;;
*) echo "build-std: '$1' is none of x86_64, aarch64, armv7" >&2; exit 2 ;;
esac
work=$PWD/target/build-std/$1
# The architecture of this machine uses its installed musl; any other one gets a musl compiled here.
if [ "$deb" = "$(dpkg --print-architecture 2>/dev/null)" ]; then musl_root=; else musl_root=$work/root; fi
