# Functions of the scripts that build releases. Source it in the root of the checkout.

LIBRARY=liballuxio_membership.so
# The platforms, with the names that the jar uses: glibc, unless musl is named.
PLATFORMS=(linux-x86_64 linux-aarch64 linux-x86_64-musl linux-aarch64-musl)
# The oldest glibc that the library runs with. CentOS 7 and Amazon Linux 2 have little more.
GLIBC=2.17
# The maximum number of bytes that a library may add to the jar.
MAX_COMPRESSED=2500000

zig_folder=$PWD/.tools/zig
# The time that archives record.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -c safe.directory='*' log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

die() {
  echo "$0: $*" >&2
  exit 1
}

rust_target() {
  case $1 in
    linux-x86_64) echo x86_64-unknown-linux-gnu ;;
    linux-aarch64) echo aarch64-unknown-linux-gnu ;;
    linux-x86_64-musl) echo x86_64-unknown-linux-musl ;;
    linux-aarch64-musl) echo aarch64-unknown-linux-musl ;;
    *) die "no such platform: $1; there are ${PLATFORMS[*]}" ;;
  esac
}

# install_pinned FOLDER REQUIREMENTS: installs programs from PyPI, unless they are there.
install_pinned() {
  ! cmp -s "$2" "$1/pinned" || return 0
  python3 -m venv --clear "$1" ||
    die "python3 -m venv fails; on Debian: sudo apt-get install python3-venv"
  "$1/bin/pip" --quiet --disable-pip-version-check install --requirement "$2"
  cp "$2" "$1/pinned"
}

# install_crate NAME VERSION OPTIONS...: installs a program from Rust's registry below .tools/,
# unless it is there. `crates` is the folder of these programs.
crates=$PWD/.tools/cargo/bin
install_crate() {
  [[ $("$crates/$1" --version 2>/dev/null) != "$1 $2" ]] || return 0
  cargo install --quiet --locked --root .tools/cargo --target-dir target/installed "$1@$2" "${@:3}"
  rm -rf target/installed
}

# Installs Zig and cargo-zigbuild below .tools/.
prepare_zig() {
  install_pinned "$zig_folder" scripts/dist-requirements.txt
  export PATH=$zig_folder/bin:$PATH
  export ZIG_GLOBAL_CACHE_DIR=$zig_folder/cache ZIG_LOCAL_CACHE_DIR=$zig_folder/cache
  export CARGO_ZIGBUILD_CACHE_DIR=$zig_folder/wrappers
}

# library_of PLATFORM: the file that build_library creates.
library_of() {
  echo "target/native/$1/$LIBRARY"
}

# zigbuild PLATFORM SUBCOMMAND ARGUMENTS...: runs cargo with Zig for a platform. RUSTFLAGS may
# contain more flags.
zigbuild() {
  local target version=
  target=$(rust_target "$1")
  [[ $1 == *-musl ]] || version=.$GLIBC
  rustup target list --installed | grep -qx "$target" || rustup target add "$target"
  # The results contain no path of this machine, neither from Rust code nor from C code.
  local cargo=${CARGO_HOME:-$HOME/.cargo} sysroot remap
  sysroot=$(rustc --print sysroot)
  remap="--remap-path-prefix=$PWD=. --remap-path-prefix=$cargo=/cargo"
  remap+=" --remap-path-prefix=$sysroot=/rust"
  env RUSTFLAGS="$remap ${RUSTFLAGS:-}" \
    CFLAGS="-ffile-prefix-map=$PWD=. -ffile-prefix-map=$cargo=/cargo" \
    CARGO_TARGET_DIR="$PWD/target" \
    cargo-zigbuild "$2" --locked --profile dist --target "$target$version" "${@:3}"
}

# build_library PLATFORM: target/native/PLATFORM/liballuxio_membership.so
build_library() {
  # With musl, too, dlopen loads the library.
  local flags=
  [[ $1 != *-musl ]] || flags="-C target-feature=-crt-static"
  # Cargo skips link-time optimization where it builds an rlib too.
  RUSTFLAGS=$flags zigbuild "$1" rustc --lib --features c-api,jni --crate-type cdylib
  install -D --mode=755 "target/$(rust_target "$1")/dist/$LIBRARY" "$(library_of "$1")"
}

# build_static PLATFORM: target/native/PLATFORM/static/liballuxio_membership.a and
# native-static-libs
build_static() {
  local folder host bin
  folder=$PWD/target/native/$1
  host=$(rustc --version --verbose | sed -n 's/^host: //p')
  bin=$(rustc --print sysroot)/lib/rustlib/$host/bin
  local flags=
  [[ $1 != *-musl ]] || flags="-C target-feature=-crt-static"
  RUSTFLAGS=$flags zigbuild "$1" rustc --lib --features c-api --crate-type staticlib -- \
    --print "native-static-libs=$folder/native-static-libs"
  # LLVM's programs support all processors.
  [[ -x $bin/llvm-nm ]] || rustup component add llvm-tools
  LD=$bin/gcc-ld/ld.lld OBJCOPY=$bin/llvm-objcopy AR=$bin/llvm-ar NM=$bin/llvm-nm \
    scripts/hide-symbols "target/$(rust_target "$1")/dist/liballuxio_membership.a" \
    "$folder/static/liballuxio_membership.a"
}

# build_tool CPU: target/native/linux-CPU-tool/alluxio-membership, which needs no shared library.
build_tool() {
  local commit
  commit=$(git -c safe.directory='*' describe --always --dirty --abbrev=12 --exclude='*')
  AXM_COMMIT=$commit zigbuild "linux-$1-musl" zigbuild --bin alluxio-membership --features tool
  install -D --mode=755 "target/$(rust_target "linux-$1-musl")/dist/alluxio-membership" \
    "target/native/linux-$1-tool/alluxio-membership"
}

# Fails if the library needs more than every machine of the platform has, exports more than its
# interface, or is too large. Prints its sizes and needs.
check_library() {
  local file needed allowed newest= sizes
  file=$(library_of "$1")
  needed=$(readelf --dynamic --wide "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort |
    tr '\n' ' ')
  case $1 in
    # musl's loader is libc.so itself.
    *-musl) allowed='libc\.so' ;;
    *) allowed='lib(c|m|dl|pthread|rt)\.so\.[0-9]|ld-linux-(x86-64|aarch64)\.so\.[12]' ;;
  esac
  local library
  for library in $needed; do
    grep -qxE "$allowed" <<<"$library" || die "$file needs $library"
  done
  if [[ $1 != *-musl ]]; then
    newest=$(readelf --version-info --wide "$file" | grep -o 'GLIBC_[0-9.]*' |
      sort --unique --version-sort | tail -n 1)
    [[ $(printf '%s\n' "$newest" "GLIBC_$GLIBC" | sort --version-sort |
      tail -n 1) == "GLIBC_$GLIBC" ]] ||
      die "$file needs $newest"
  fi
  readelf --dynamic "$file" | grep -q 'NODELETE' || die "$file may be unloaded"
  readelf --dynamic "$file" | grep -qF "soname: [$LIBRARY.0]" ||
    die "$file has another soname than $LIBRARY.0"
  local shown
  shown=$(readelf --dyn-syms --wide "$file" |
    awk '$1 ~ /^[0-9]+:$/ && $5 != "LOCAL" && $7 != "UND" { sub(/@.*/, "", $8); print $8 }' |
    grep -vE '^(axm_|Java_|JNI_On(Load|Unload)$)' || true)
  [[ -z $shown ]] || die "$file shows: $(head -n 5 <<<"$shown" | tr '\n' ' ')"
  if grep -qaF "$PWD" "$file" || grep -qaF "$HOME/" "$file"; then
    die "$file has paths of this machine in it"
  fi
  local bytes compressed
  bytes=$(stat --format=%s "$file")
  compressed=$(gzip --best --stdout "$file" | wc -c)
  ((compressed <= MAX_COMPRESSED)) ||
    die "$file has $compressed bytes compressed, more than $MAX_COMPRESSED"
  echo "$1: $bytes bytes, $compressed compressed; needs $needed${newest:+up to $newest}"
}
