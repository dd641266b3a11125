//! Compiles the one C function, gives the shared library its soname, and keeps it loaded for good: threads hold
//! pointers into it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/ffi/variadic.c");
    cc::Build::new().file("src/ffi/variadic.c").warnings(true).extra_warnings(true).compile("tine_variadic");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtine.so.0");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
