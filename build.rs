//! Compiles the one C function, gives the shared library its soname, and keeps it loaded for good: threads hold
//! pointers into it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/ffi/variadic.c");
    cc::Build::new().file("src/ffi/variadic.c").warnings(true).extra_warnings(true).compile("tine_variadic");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{}", soname());
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

/// Names what may not be mixed: until 1.0 a minor version may break the ABI, from then on a major one.
fn soname() -> String {
    let [major, minor] =
        ["CARGO_PKG_VERSION_MAJOR", "CARGO_PKG_VERSION_MINOR"].map(|name| std::env::var(name).unwrap());
    if major == "0" { format!("libtine.so.0.{minor}") } else { format!("libtine.so.{major}") }
}
