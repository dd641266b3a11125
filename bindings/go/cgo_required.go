//go:build !cgo

package tine

// The compiler's message is this name.
var _ = tine_is_a_C_library_so_set_CGO_ENABLED_1_and_install_a_C_compiler_and_pkg_config
