//! Compiles the one C function, gives the shared library its soname, and keeps it loaded for good: threads hold
//! pointers into it.

use std::path::PathBuf;

const SOURCE: &str = "src/ffi/variadic.c";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    let object = PathBuf::from(variable("OUT_DIR")).join("variadic.o");
    let directory = variable("CARGO_MANIFEST_DIR");
    let mut build = cc::Build::new();
    build
        .warnings(true)
        .extra_warnings(true)
        .flag_if_supported(format!("-ffile-prefix-map={directory}=tine"));
    // Behind the flags of CFLAGS: an object that has only the compiler's own code in it, for link-time optimisation, has no symbol
    // that rustc could see.
    let mut compile = build.get_compiler().to_command();
    compile.args(["-fno-lto", "-c", SOURCE, "-o"]).arg(&object);
    assert!(compile.status().is_ok_and(|status| status.success()), "this failed: {compile:?}");
    build.object(&object).compile("tine_variadic");
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        bundle_unwinder();
    }
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{}", soname());
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // What it calls and does not have is found out here, and not when a user's program is linked.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
}

/// Puts the unwinder of Rust's standard library into the static library, which is to need no other. That of a gcc for glibc, which
/// musl-gcc would link, needs glibc. A compiler that brings none along is musl's own, and its gcc's fits.
fn bundle_unwinder() {
    let arguments = ["--print", "target-libdir", "--target", &variable("TARGET")];
    let output = std::process::Command::new(variable("RUSTC")).args(arguments).output();
    let libraries = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let folder = PathBuf::from(libraries.trim()).join("self-contained");
    if folder.join("libunwind.a").exists() {
        println!("cargo::rustc-link-search=native={}", folder.display());
        println!("cargo::rustc-link-lib=static:+bundle=unwind");
    }
}

/// Names what may not be mixed: until 1.0 a minor version may break the ABI, from then on a major one.
fn soname() -> String {
    let [major, minor] = ["CARGO_PKG_VERSION_MAJOR", "CARGO_PKG_VERSION_MINOR"].map(variable);
    if major == "0" { format!("libtine.so.0.{minor}") } else { format!("libtine.so.{major}") }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
