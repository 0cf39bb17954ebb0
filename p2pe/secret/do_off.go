//go:build !goexperiment.runtimesecret

package secret

// Do runs f. Built with GOEXPERIMENT=runtimesecret it also erases f's stack,
// registers and heap.
func Do(f func()) { f() }

// Erases reports whether Do erases: the program was built with
// GOEXPERIMENT=runtimesecret.
func Erases() bool { return false }
